package io.github.panamallama.sampling.strategy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import io.github.panamallama.sampling.FiniteConstraint;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarVocabulary;
import io.github.panamallama.sampling.track.TableTrack;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.concurrent.Executors;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Drafts of tables, of random models and of the shipped one under a part of their own blocks. */
@Timeout(300)
class PlanDraftsTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(512).withMaxSequences(8).withThreads(1);
    private static final LayerPlan ANY = LayerPlan.all(2).skip(1);
    private static final int[] PROMPT = {1, 2};

    @TempDir
    static Path folder;
    private static Model shipped;
    private static Engine engine;
    private static int[] code;

    @BeforeAll
    static void load() {
        shipped = Model.load(Path.of("..", "models", "java-tiny-f16.gguf"));
        engine = Engine.open(shipped, OPTIONS);
        code = shipped.vocabulary().tokenize(
                "public final class Range {\n    private final int start;\n    private final int end;\n\n    public ", true, false);
    }

    @AfterAll
    static void unload() {
        engine.close();
        shipped.close();
    }

    private static LayerPlan plan(int... skipped) {
        return LayerPlan.all(shipped.layerCount()).skip(skipped);
    }

    private static Model load(Architecture architecture) {
        var path = folder.resolve(architecture + ".gguf");
        RandomModel.tiny(architecture).write(path);
        return Model.load(path);
    }

    private static Decoding decode(Engine engine, Strategy strategy, int[] prompt, StrategyOptions options) {
        try (var sequence = engine.newSequence(); var decoding = strategy.start(sequence, prompt, options)) {
            while (decoding.advance()) {
            }
            return decoding;
        }
    }

    private static StrategyOptions tokens(int most) {
        return StrategyOptions.defaults().withMaxTokens(most);
    }

    // --- tables ---------------------------------------------------------------------------------------------------------

    private static Decoding start(TableTrack main, PlanDrafts drafts, StrategyOptions options) {
        return start(main, drafts.lengths(options.sampling()), options);
    }

    private static Decoding start(TableTrack main, DraftLength lengths, StrategyOptions options) {
        return new Decoding(new SpeculativeRun(lengths, main, Drafter.plan(main, ANY), PROMPT, options, Letters.IT));
    }

    private static TableTrack table(Function<int[], float[]> model, Function<int[], float[]> planned, int size) {
        return Letters.table(model, size).withPlan(planned);
    }

    @Test
    void greedyTextsAreTheSameWhateverThePlanSays() {
        for (long seed = 0; seed < 30; seed++) {
            var model = TableTrack.random(9, -1, 2, seed);
            var greedy = Letters.plain(model, 9, PROMPT, Letters.options(100));
            for (var planned : List.of(model, TableTrack.random(9, -1, 2, seed + 1000), TableTrack.random(9, 1, 0.1, seed))) {
                for (var drafts : List.of(PlanDrafts.of(ANY), PlanDrafts.of(ANY).withLength(1 + (int) seed % 6),
                        new PlanDrafts(ANY, 2, 5))) {
                    var main = table(model, planned, 9);
                    assertArrayEquals(greedy, Letters.run(start(main, drafts, Letters.options(100))));
                    assertEquals(0, main.openForks(), "branches that nobody closed");
                }
            }
        }
    }

    @Test
    void aPerfectPlanIsAcceptedWhole() {
        var model = Letters.endless(TableTrack.random(9, 3, 2, 5));
        for (var sampling : List.of(SamplerOptions.greedy(), Letters.FREE.withSeed(2))) {
            var options = Letters.options(101).withSampling(sampling);
            try (var decoding = start(table(model, model, 9), PlanDrafts.of(ANY).withLength(4), options)) {
                Letters.run(decoding);
                assertEquals(decoding.work().count("drafted"), decoding.work().count("accepted"));
                assertEquals(20, decoding.work().count("passes"), "five tokens per pass, behind the one of the prompt");
                assertEquals(80, decoding.work().helperRows(), "one row under the plan for each drafted token");
                assertEquals(2 + 100, decoding.work().rows(), "and one of the whole model for each token");
            }
        }
    }

    @Test
    void drawnTextsAreDistributedAsWithoutDrafts() {
        int size = 4;
        var model = TableTrack.random(size, 2, 1.2, 77);
        int draws = 60_000;
        System.out.println("PlanDraftsTest seeds 0 to " + draws);
        for (var planned : List.of(TableTrack.random(size, 2, 1.2, 78), TableTrack.random(size, 1, 3, 79))) {
            for (var lengths : List.<Supplier<DraftLength>>of(() -> DraftLength.fixed(3), () -> new MeasuredLength(0, 16),
                    () -> new MeasuredLength(1, 3))) {
                var counts = new int[256];
                for (int seed = 0; seed < draws; seed++) {
                    var options = Letters.options(4).withSampling(Letters.FREE.withSeed(seed));
                    counts[SpeculativeTest.index(Letters.run(start(table(model, planned, size), lengths.get(), options)))]++;
                }
                SpeculativeTest.assertDistribution(SpeculativeTest.exact(model, Letters.FREE, size), counts, draws);
            }
        }
    }

    @Test
    void aSeedDrawsTheSameTextEachTime() {
        var model = Letters.endless(TableTrack.random(9, 2, 1, 7));
        var planned = TableTrack.random(9, 2, 1, 8);
        for (long seed = 0; seed < 10; seed++) {
            var options = Letters.options(60).withSampling(Letters.FREE.withSeed(seed));
            var first = Letters.run(start(table(model, planned, 9), PlanDrafts.of(ANY), options));
            for (int i = 0; i < 5; i++) {
                assertArrayEquals(first, Letters.run(start(table(model, planned, 9), PlanDrafts.of(ANY), options)));
            }
        }
    }

    @Test
    void aConstraintHoldsForDraftsAndTexts() {
        var texts = List.of(new int[] {1, 2, 3, 4}, new int[] {1, 3, 3, 1}, new int[] {2, 2, 2, 2, 2, 2}, new int[] {4});
        for (long seed = 0; seed < 40; seed++) {
            var options = Letters.options(50).withConstraint(new FiniteConstraint(9, texts, 0)).withConfidence(seed % 2 == 0)
                    .withSampling(seed % 3 == 0 ? SamplerOptions.greedy() : Letters.FREE.withSeed(seed));
            var main = table(TableTrack.random(9, -1, 2, seed), TableTrack.random(9, -1, 2, seed + 50), 9);
            var tokens = Letters.run(start(main, new PlanDrafts(ANY, 1, 4), options));
            assertTrue(texts.stream().anyMatch(text -> Arrays.equals(Arrays.copyOf(text, text.length + 1), tokens)),
                    Arrays.toString(tokens));
        }
    }

    @Test
    void aFullContextEndsNothingTooEarly() {
        var model = Letters.endless(TableTrack.random(9, 2, 2, 3));
        var greedy = Letters.plain(model, 9, PROMPT, Letters.options(60));
        try (var decoding = start(new TableTrack(9, 20, model).withPlan(model), PlanDrafts.of(ANY).withLength(4), Letters.options(60))) {
            assertArrayEquals(Arrays.copyOf(greedy, 19), Letters.run(decoding));
            assertEquals(FinishReason.CONTEXT_FULL, decoding.finishReason());
            assertTrue(decoding.work().count("draftFull") > 0, decoding.work().toString());
        }
    }

    // --- real models ----------------------------------------------------------------------------------------------------

    /** By how much rows of one history differ between single tokens and one batch, four times. */
    private static double noise(Engine engine, int[] tokens) {
        double noise = 0;
        try (var whole = engine.newSequence(); var single = engine.newSequence()) {
            var a = engine.newRow();
            var b = engine.newRow();
            whole.append(tokens, a);
            for (int token : tokens) {
                single.append(token, b);
            }
            noise = difference(a, b);
        }
        return Math.max(4 * noise, 1e-3);
    }

    private static double difference(Row a, Row b) {
        double most = 0;
        for (int i = 0; i < a.size(); i++) {
            most = Math.max(most, Math.abs(a.get(i) - b.get(i)));
        }
        return most;
    }

    private static void assertSameUpToTies(Decoding expected, Decoding actual, double noise) {
        int at = Arrays.mismatch(expected.tokens(), actual.tokens());
        if (at >= 0) {
            double margin = expected.confidence().margin(at);
            assertTrue(margin < 2 * noise, "token " + at + " differs at a margin of " + margin + ", the noise is " + noise);
        }
    }

    private static int[] prompt(Model model, int length, long seed) {
        return new SplittableRandom(seed).ints(length, 300, model.vocabulary().size()).toArray();
    }

    @Test
    void greedyTextsOfTheShippedModelAreTheSame() {
        double noise = noise(engine, code);
        var greedy = decode(engine, new Plain(), code, tokens(80));
        long accepted = 0;
        for (var plan : List.of(plan(3), plan(2, 4, 6), plan(1, 2, 3, 4, 5, 6), plan().skipAttention(2, 4), plan().skipKeepingCache(5))) {
            for (var drafts : List.of(PlanDrafts.of(plan), PlanDrafts.of(plan).withLength(4), new PlanDrafts(plan, 1, 8))) {
                var drafted = decode(engine, drafts, code, tokens(80));
                assertSameUpToTies(greedy, drafted, noise);
                accepted += drafted.work().count("accepted");
                assertEquals(drafted.work().helperRows() > 0, drafted.work().count("drafted") > 0);
            }
        }
        assertTrue(accepted > 100, accepted + " drafts accepted");
        assertEquals(0, engine.stats().sequenceIds());
    }

    @Test
    void theFullPlanIsAcceptedWhole() {
        var drafted = decode(engine, PlanDrafts.of(plan()).withLength(4), code, tokens(60));
        assertTrue(drafted.work().count("accepted") >= drafted.work().count("drafted") - 5, "but for ties and the end: " + drafted.work());
    }

    /** After accepts and rejects the cache holds what a fresh evaluation would have put there, under one variant. */
    @ParameterizedTest
    @ValueSource(ints = {1, 4, 7})
    void theSequenceKeepsItsOwnKeysAndValues(int length) {
        double noise = noise(engine, code);
        for (var sampling : List.of(SamplerOptions.greedy(), SamplerOptions.defaults().withSeed(length))) {
            try (var sequence = engine.newSequence()) {
                var decoding = PlanDrafts.of(plan(2, 4)).withLength(length).start(sequence, code, tokens(50).withSampling(sampling));
                try (decoding) {
                    while (decoding.advance()) {
                        assertEquals(1, sequence.spans().size());
                    }
                }
                assertTrue(decoding.work().count("accepted") > 0 && decoding.work().count("accepted") < decoding.work().count("drafted"),
                        decoding.work().toString());
                assertFull(engine, sequence, noise);
            }
        }
    }

    private static void assertFull(Engine engine, Sequence sequence, double noise) {
        assertEquals(1, sequence.spans().size());
        assertTrue(sequence.spans().getFirst().plan().isFull());
        int[] text = sequence.tokens();
        long evaluated = engine.stats().evaluated();
        sequence.truncate(text.length - 1);
        var kept = engine.newRow();
        sequence.append(text[text.length - 1], kept);
        assertEquals(1, engine.stats().evaluated() - evaluated, "what was cached is used");
        try (var fresh = engine.newSequence(); var planned = engine.newSequence(plan(2, 4))) {
            var row = engine.newRow();
            fresh.append(text, row);
            assertTrue(difference(row, kept) <= noise, "logits differ by " + difference(row, kept) + ", the noise is " + noise);
            planned.append(text, row);
            assertTrue(difference(row, kept) > 20 * noise, "another plan would have been noticed");
        }
    }

    @Test
    void aSequenceWithAPlanOfItsOwnIsDraftedForToo() {
        var own = plan(6);
        double noise = noise(engine, code);
        Decoding[] texts = new Decoding[2];
        for (int i = 0; i < 2; i++) {
            Strategy strategy = i == 0 ? new Plain() : PlanDrafts.of(plan(3, 6)).withLength(3);
            try (var sequence = engine.newSequence(own); var decoding = strategy.start(sequence, code, tokens(40))) {
                while (decoding.advance()) {
                }
                texts[i] = decoding;
                assertEquals(own, sequence.spans().getFirst().plan());
                assertEquals(1, sequence.spans().size());
            }
        }
        assertSameUpToTies(texts[0], texts[1], noise);
    }

    @Test
    void drawnTokensAreDistributedAsTheModelSays() {
        int draws = 3000;
        var sampling = SamplerOptions.defaults().withTopK(3).withTopP(1).withMinP(0).withTemperature(0.8f);
        try (var model = load(Architecture.QWEN3); var engine = Engine.open(model, OPTIONS); var prefix = engine.newSequence()) {
            var prompt = prompt(model, 20, 5);
            prefix.append(Arrays.copyOf(prompt, prompt.length - 1), null);
            int[] last = {prompt[prompt.length - 1]};
            var texts = new TreeMap<String, Double>();
            enumerate(engine, prompt, new int[0], 1, texts);
            var index = texts.keySet().stream().toList();
            var counts = new int[texts.size()];
            long accepted = 0;
            System.out.println("PlanDraftsTest seeds 0 to " + draws);
            var drafts = PlanDrafts.of(LayerPlan.all(model.layerCount()).skip(1)).withLength(2);
            for (int seed = 0; seed < draws; seed++) {
                var options = tokens(3).withConfidence(false).withSampling(sampling.withSeed(seed));
                try (var fork = prefix.fork(); var decoding = drafts.start(fork, last, options)) {
                    while (decoding.advance()) {
                    }
                    counts[index.indexOf(Arrays.toString(decoding.tokens()))]++;
                    accepted += decoding.work().count("accepted");
                }
            }
            assertTrue(accepted > 100, accepted + " drafts accepted");
            SpeculativeTest.assertDistribution(texts.values().stream().mapToDouble(Double::doubleValue).toArray(), counts, draws);
        }
    }

    /** All texts of three tokens, by the whole model alone. */
    private static void enumerate(Engine engine, int[] prompt, int[] text, double p, Map<String, Double> into) {
        if (text.length == 3 || text.length > 0 && engine.model().vocabulary().isEndOfGeneration(text[text.length - 1])) {
            into.put(Arrays.toString(text), p);
            return;
        }
        try (var sequence = engine.newSequence()) {
            Row row = engine.newRow();
            sequence.append(IntStream.concat(Arrays.stream(prompt), Arrays.stream(text)).toArray(), row);
            var best = IntStream.range(0, row.size()).boxed().sorted((a, b) -> Float.compare(row.get(b), row.get(a))).limit(3).toList();
            double sum = best.stream().mapToDouble(token -> Math.exp(row.get(token) / 0.8)).sum();
            for (int token : best) {
                var longer = Arrays.copyOf(text, text.length + 1);
                longer[text.length] = token;
                enumerate(engine, prompt, longer, p * Math.exp(row.get(token) / 0.8) / sum, into);
            }
        }
    }

    @Test
    void aGrammarHoldsForDrafts() {
        var vocabulary = GrammarVocabulary.of(shipped.vocabulary());
        var grammar = Grammar.regex("(int|long) [a-z]{2,9}\\(\\);");
        for (int seed = 0; seed < 12; seed++) {
            var options = tokens(120).withConstraint(grammar.constraint(vocabulary)).withConfidence(seed % 3 == 0)
                    .withFastForward(seed % 3 == 1)
                    .withSampling(seed % 2 == 0 ? SamplerOptions.greedy() : SamplerOptions.defaults().withSeed(seed));
            var decoding = decode(engine, PlanDrafts.of(plan(2, 4)).withLength(1 + seed % 5), code, options);
            assertTrue(grammar.accepts(decoding.wholeText()), decoding.wholeText());
        }
    }

    @Test
    void manyCallersDraftTogetherUnderOtherPlans() throws Exception {
        try (var callers = Executors.newVirtualThreadPerTaskExecutor(); var shared = Engine.open(shipped, OPTIONS.withContextSize(1024))) {
            var results = IntStream.range(0, 4).mapToObj(i -> callers.submit(() -> decode(shared, PlanDrafts.of(plan(1 + i)).withLength(3),
                    Arrays.copyOf(code, code.length - i), tokens(30)))).toList();
            for (int i = 0; i < 4; i++) {
                var prompt = Arrays.copyOf(code, code.length - i);
                assertSameUpToTies(decode(shared, new Plain(), prompt, tokens(30)), results.get(i).get(), noise(shared, prompt));
            }
            assertEquals(0, shared.stats().sequenceIds());
        }
    }

    @Test
    void whatCannotDraftIsRefusedBeforeAnythingIsEvaluated() {
        try (var sequence = engine.newSequence()) {
            var other = PlanDrafts.of(LayerPlan.all(5).skip(1));
            var refused = assertThrows(LayerPlanException.class, () -> other.start(sequence, code, tokens(3)));
            assertTrue(refused.getMessage().contains("for 5 blocks"), refused.getMessage());
            var foreign = PlanDrafts.of(LayerPlan.all(5));
            assertThrows(LayerPlanException.class, () -> foreign.start(sequence, code, tokens(3)), "full, but of another model");
            var repeating = PlanDrafts.of(plan().repeat(1, 2));
            assertThrows(LayerPlanException.class, () -> repeating.start(sequence, code, tokens(3)), "an engine without spare layers");
            var nothing = PlanDrafts.of(plan(IntStream.range(0, shipped.layerCount()).toArray()));
            assertThrows(LayerPlanException.class, () -> nothing.start(sequence, code, tokens(3)));
            assertEquals(0, sequence.length());
        }
        try (var single = Engine.open(shipped, OPTIONS.withMaxSequences(1)); var sequence = single.newSequence()) {
            var refused = assertThrows(IllegalArgumentException.class, () -> PlanDrafts.of(plan(1)).start(sequence, code, tokens(3)));
            assertTrue(refused.getMessage().contains("maxSequences"), refused.getMessage());
        }
        try (var mamba = load(Architecture.MAMBA); var recurrent = Engine.open(mamba, OPTIONS); var sequence = recurrent.newSequence()) {
            for (var plan : List.of(LayerPlan.all(mamba.layerCount()), LayerPlan.all(mamba.layerCount()).skip(1))) {
                var refused = assertThrows(IllegalArgumentException.class,
                        () -> PlanDrafts.of(plan).start(sequence, new int[] {300}, tokens(3)));
                assertTrue(refused.getMessage().contains("recurrent"), refused.getMessage());
            }
        }
    }

    @Test
    void settingsOutOfRangeAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> PlanDrafts.of(null));
        assertThrows(IllegalArgumentException.class, () -> new PlanDrafts(ANY, -1, 4));
        assertThrows(IllegalArgumentException.class, () -> new PlanDrafts(ANY, 5, 4));
        assertThrows(IllegalArgumentException.class, () -> PlanDrafts.of(ANY).withLength(0));
    }
}
