package io.github.panamallama.sampling.strategy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.sampling.FiniteConstraint;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.asap.Asap;
import io.github.panamallama.sampling.asap.AsapOptions;
import io.github.panamallama.sampling.asap.Target;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarVocabulary;
import io.github.panamallama.sampling.grammar.JsonOptions;
import io.github.panamallama.sampling.track.Fingerprint;
import io.github.panamallama.sampling.track.Track;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Every strategy over real models, sequences and vocabularies. */
class StrategyModelTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(512).withThreads(1);
    private static final int LENGTH = 60;
    private static Model model;
    private static Engine engine;
    private static int[] prompt;
    private static Decoding greedy;

    @BeforeAll
    static void load() {
        model = Model.load(Path.of("..", "models", "java-tiny-f16.gguf"));
        engine = Engine.open(model, OPTIONS);
        prompt = model.vocabulary().tokenize("public final class Range {\n    private final int start;\n    private final int end;\n\n    public ", true, false);
        greedy = decode(new Plain(), StrategyOptions.defaults().withMaxTokens(LENGTH));
    }

    @AfterAll
    static void unload() {
        engine.close();
        model.close();
    }

    private static Decoding decode(Strategy strategy, StrategyOptions options) {
        return decode(engine, strategy, options);
    }

    /** Decodes behind a sequence and checks what it leaves there. */
    private static Decoding decode(Engine engine, Strategy strategy, StrategyOptions options) {
        try (var sequence = engine.newSequence()) {
            sequence.append(new int[] {prompt[0]}, null);
            int[] rest = Arrays.copyOfRange(prompt, 1, prompt.length);
            var decoding = strategy.start(sequence, rest, options);
            try (decoding) {
                while (decoding.advance()) {
                }
            }
            int[] all = IntStream.concat(Arrays.stream(prompt), Arrays.stream(decoding.tokens())).toArray();
            assertArrayEquals(Arrays.copyOf(all, sequence.length()), sequence.tokens(), "the sequence holds prompt and text");
            assertRow(engine, sequence, all);
            assertTrue(engine.stats().sequenceIds() <= 1, "branches are gone: " + engine.stats());
            return decoding;
        }
    }

    /** What the sequence has cached is right: one more token gives the row of a fresh evaluation. */
    private static void assertRow(Engine engine, Sequence sequence, int[] all) {
        int length = Math.min(sequence.length(), all.length - 1);
        sequence.truncate(length);
        var kept = engine.newRow();
        sequence.append(all[length], kept);
        try (var fresh = engine.newSequence()) {
            var row = engine.newRow();
            fresh.append(Arrays.copyOf(all, length + 1), row);
            double worst = 0;
            for (int i = 0; i < row.size(); i++) {
                worst = Math.max(worst, Math.abs(row.get(i) - kept.get(i)));
            }
            assertTrue(worst < 0.05, "logits differ by " + worst);
        }
    }

    /** Equal tokens, or a first difference where the two best logits are closer than rows of other batch shapes are. */
    private static void assertSameUpToTies(Decoding expected, Decoding actual) {
        int at = Arrays.mismatch(expected.tokens(), actual.tokens());
        if (at >= 0 && at < Math.min(expected.tokens().length, actual.tokens().length)) {
            double margin = expected.confidence().margin(at);
            assertTrue(margin < 0.05, "token " + at + " differs at a margin of " + margin);
        }
    }

    private static StrategyOptions options() {
        return StrategyOptions.defaults().withMaxTokens(LENGTH);
    }

    @Test
    void adaDecIsGreedyWithoutPausesAndTheSameWithAndWithoutReuse() {
        assertArrayEquals(greedy.tokens(), decode(AdaDec.of(Double.POSITIVE_INFINITY), options()).tokens());
        var reusing = decode(AdaDec.of(0.9), options());
        var plain = decode(AdaDec.of(0.9).withReuse(false), options());
        assertSameUpToTies(plain, reusing);
        assertTrue(reusing.work().count("pauses") > 3, reusing.work().toString());
        assertTrue(reusing.work().rows() < plain.work().rows());
    }

    @Test
    void draftsLeaveGreedyTextsAsTheyAre(@TempDir Path folder) {
        var table = TrigramTable.of(model.vocabulary(), List.of(greedy.tokens()));
        var drafted = decode(NGramDrafts.of(table), options());
        assertSameUpToTies(greedy, drafted);
        assertTrue(drafted.work().batches() < LENGTH * 2 / 3, drafted.work().toString());
        assertSameUpToTies(greedy, decode(NGramDrafts.of(TrigramTable.empty(model.vocabulary())), options()));

        var random = RandomModel.tiny(RandomModel.Architecture.LLAMA).withVocabularySize(model.vocabulary().size());
        random.write(folder.resolve("random.gguf"));
        try (var draftEngine = Engine.open(model, OPTIONS)) {
            var own = decode(Speculative.of(draftEngine), options());
            assertSameUpToTies(greedy, own);
            assertTrue(own.work().count("accepted") >= own.work().count("drafted") - 4, own.work().toString());
        }
        try (var other = Model.load(folder.resolve("random.gguf")); var draftEngine = Engine.open(other, OPTIONS)) {
            var refused = assertThrows(IllegalArgumentException.class, () -> decode(Speculative.of(draftEngine), options()));
            assertTrue(refused.getMessage().startsWith("the draft model has another vocabulary: token 1"), refused.getMessage());
            assertThrows(IllegalArgumentException.class, () -> decode(EntropySwitching.of(draftEngine, 1), options()));
            assertThrows(RuntimeException.class, () -> decode(draftEngine, NGramDrafts.of(table), options()));
        }
    }

    @Test
    void twoEnginesOfOneModelSwitchWithoutAChange() {
        try (var small = Engine.open(model, OPTIONS)) {
            var switching = decode(new EntropySwitching(small, 2, 3, 2), options());
            assertSameUpToTies(greedy, switching);
            assertTrue(switching.work().count("switches") > 1, switching.work().toString());
        }
    }

    @Test
    void aContrastWithTheSamePromptIsNone() {
        int[] rest = Arrays.copyOfRange(prompt, 1, prompt.length);
        var same = decode(Uscd.of(rest), options());
        assertSameUpToTies(greedy, same);
        assertTrue(same.work().count("contrasts") > 10);
        var lame = decode(Uscd.of(Arrays.copyOf(rest, rest.length / 2)), options());
        assertEquals(FinishReason.LENGTH, lame.finishReason());
        assertTrue(lame.work().count("changed") > 0, lame.work().toString());
    }

    @Test
    void searchesFindTextsThatTheModelHoldsMoreLikely() {
        var beam = decode(BeamSearch.of(4), options());
        assertTrue(beam.confidence().meanLogProbability() >= greedy.confidence().meanLogProbability() - 0.01);
        var sampling = SamplerOptions.defaults().withSeed(5);
        var one = decode(new Plain(), options().withSampling(sampling));
        var best = decode(BestOfN.of(6), options().withSampling(sampling));
        assertTrue(best.confidence().meanLogProbability() >= one.confidence().meanLogProbability() - 0.01);
    }

    @Test
    void everyStrategyKeepsToAConstraint() {
        var vocabulary = model.vocabulary();
        var texts = List.of("int size() {", "int start() {\n        return start;\n    }", "boolean isEmpty()", "String toString()");
        var tokens = texts.stream().map(text -> vocabulary.tokenize(text, false, false)).toList();
        var constraint = new FiniteConstraint(vocabulary.size(), tokens, vocabulary.endOfGeneration());
        try (var second = Engine.open(model, OPTIONS)) {
            var strategies = List.of(new Plain(), AdaDec.of(0.2), Uscd.of(Arrays.copyOf(prompt, 5)), BeamSearch.of(3), BestOfN.of(3),
                    ContrastiveSearch.of(), Speculative.of(second), PlanDrafts.of(LayerPlan.all(model.layerCount()).skip(3)),
                    NGramDrafts.of(TrigramTable.of(vocabulary, tokens)), new EntropySwitching(second, 1, 1, 0));
            for (var strategy : strategies) {
                for (boolean confidence : new boolean[] {true, false}) {
                    var decoding = decode(strategy, options().withConstraint(constraint).withConfidence(confidence));
                    assertEquals(FinishReason.STOP, decoding.finishReason());
                    assertTrue(texts.contains(decoding.wholeText()), strategy + ": " + decoding.wholeText());
                }
            }
        }
    }

    @Test
    void everyFrontEndWorksWithStrategiesAndAsap() {
        var vocabulary = GrammarVocabulary.of(model.vocabulary());
        var grammars = List.of(Grammar.gbnf("root ::= \"int \" name \"()\" body?\nname ::= [a-z]{1,8}\nbody ::= \" {\" [^}]{0,10} \"}\"\n"),
                Grammar.regex("(int|long) [a-z]{2,6}\\(\\);"), Grammar.choices(List.of("int a();", "long ab();", "long abc();")),
                Grammar.jsonSchema("""
                        {"type": "object", "properties": {"on": {"type": "boolean"}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
                         "required": ["on", "n"], "additionalProperties": false}""", JsonOptions.DEFAULT.spelling(JsonOptions.Spelling.SHORTEST)));
        try (var second = Engine.open(model, OPTIONS)) {
            for (var grammar : grammars) {
                var strategies = List.of(new Plain(), AdaDec.of(0.5), Uscd.of(Arrays.copyOf(prompt, 5)), BeamSearch.of(3), BestOfN.of(3),
                        ContrastiveSearch.of(), Speculative.of(second), PlanDrafts.of(LayerPlan.all(model.layerCount()).skip(3)),
                        NGramDrafts.of(TrigramTable.of(model.vocabulary(), List.of(greedy.tokens()))),
                        new EntropySwitching(second, 1, 1, 0));
                for (var strategy : strategies) {
                    var options = options().withMaxTokens(200).withConstraint(grammar.constraint(vocabulary))
                            .withSampling(SamplerOptions.defaults().withSeed(3));
                    for (int speed = 0; speed < 3; speed++) {
                        var decoding = decode(strategy, options.withConfidence(speed == 0).withFastForward(speed == 2));
                        assertEquals(FinishReason.STOP, decoding.finishReason(), strategy + ": " + decoding.wholeText());
                        assertTrue(grammar.accepts(decoding.wholeText()), strategy + ": " + decoding.wholeText());
                    }
                }
                try (var asap = Asap.open(engine, prompt, grammar.constraint(vocabulary), grammar.toString(),
                        AsapOptions.defaults().withMaxTokens(60).withParallel(4).withDenseLimit(64))) {
                    double last = 0;
                    for (int i = 0; i < 5; i++) {
                        for (var draw : asap.draw(8)) {
                            assertTrue(grammar.accepts(draw.text()), draw.text());
                            assertTrue(draw.logProbability() < 0 && draw.logProposal() < 0);
                        }
                        assertTrue(asap.logMassBound() <= last);
                        last = asap.logMassBound();
                    }
                }
            }
        }
    }

    @Test
    void forcedTextIsForwardedOnlyOnRequest() {
        var grammar = Grammar.regex("the quick brown fox (jumps|sleeps)");
        var options = options().withConstraint(grammar.constraint(model.vocabulary()));
        var measured = decode(new Plain(), options);
        var asked = decode(new Plain(), options.withConfidence(false));
        var forwarded = decode(new Plain(), options.withConfidence(false).withFastForward(true));
        assertEquals(0, measured.work().count("forwarded") + asked.work().count("forwarded"));
        assertTrue(forwarded.work().count("forwarded") > 3, forwarded.work().toString());
        assertTrue(forwarded.work().batches() < asked.work().batches());
        assertTrue(grammar.accepts(forwarded.wholeText()), forwarded.wholeText());
        assertEquals(0, decode(new Plain(), options.withFastForward(true)).work().count("forwarded"), "not where confidence is reported");
    }

    @Test
    void asapDrawsFromARealModelAndReachesItsTarget() {
        var vocabulary = model.vocabulary();
        var tokens = Stream.of("int size()", "int start()", "int end()", "boolean isEmpty()", "String toString()", "void run()")
                .map(text -> vocabulary.tokenize(text, false, false)).toList();
        var constraint = new FiniteConstraint(vocabulary.size(), tokens, vocabulary.endOfGeneration());
        try (var asap = Asap.open(engine, prompt, constraint, "signatures", AsapOptions.defaults().withMaxTokens(20).withParallel(4))) {
            var target = asap.enumerate(500);
            double masking = target.divergence();
            int draws = 0;
            while (target.divergence() > 1e-9 && draws < 100_000) {
                asap.draw(200);
                draws += 200;
            }
            assertTrue(target.divergence() < 1e-9, "masking " + masking + ", after " + draws + " draws " + target.divergence());
            System.out.println("ASAp on the shipped model: masking alone is off by " + masking + " nats, " + draws + " draws leave "
                    + target.divergence());
        }
        try (var asap = Asap.open(engine, prompt, constraint, "signatures", AsapOptions.defaults().withMaxTokens(20))) {
            long evaluated = engine.stats().evaluated();
            long first = 0;
            for (int i = 0; i < 100; i++) {
                long before = asap.stats().rows();
                asap.draw();
                first += i < 10 ? asap.stats().rows() - before : 0;
            }
            assertEquals(asap.stats().rows(), engine.stats().evaluated() - evaluated, "its count is the engine's");
            assertTrue(asap.stats().rows() - first < first, "rows per draw fall: " + first + " for ten, " + asap.stats());
        }
        assertTrue(engine.stats().sequenceIds() <= 1, engine.stats().toString());
    }

    @Test
    void maskingDistortsAJsonTaskOfTheShippedModelAndAsapDoesNot() {
        int[] start = model.vocabulary().tokenize("The settings as JSON: ", true, false);
        var constraint = Grammar.regex("\\{\"on\":(true|false)\\}").constraint(model.vocabulary());
        try (var asap = Asap.open(engine, start, constraint, "settings",
                AsapOptions.defaults().withMaxTokens(20).withoutByteTokens(model.vocabulary()))) {
            var target = asap.enumerate(20_000);
            double masking = variation(target);
            int draws = 0;
            while (target.divergence() > 1e-3 && draws < 50_000) {
                asap.draw(50);
                draws += 50;
            }
            System.out.println("JSON on the shipped model: " + target.texts().size()
                    + " token sequences, masking alone is off by a total variation of "
                    + masking + ", ASAp after " + draws + " draws by " + variation(target));
            assertTrue(masking > 0.1, "masking distorts: " + masking);
            assertTrue(variation(target) < 0.03, "ASAp does not: " + variation(target));
        }
    }

    private static double variation(Target target) {
        return target.texts().stream().mapToDouble(text ->
                Math.abs(Math.exp(text.logProposal()) - Math.exp(target.logProposal(text.tokens())))).sum() / 2;
    }

    @Test
    void recurrentModelsLookAheadAndSearchButDraftNoTrees(@TempDir Path folder) {
        var file = folder.resolve("mamba.gguf");
        RandomModel.tiny(RandomModel.Architecture.MAMBA).write(file);
        try (var mamba = Model.load(file); var recurrent = Engine.open(mamba,
                EngineOptions.defaults().withContextSize(256).withThreads(1))) {
            int[] text = {300, 301, 302, 303};
            int[][] results = new int[2][];
            for (int i = 0; i < 2; i++) {
                try (var sequence = recurrent.newSequence();
                        var decoding = AdaDec.of(1).withReuse(i == 0).start(sequence, text, StrategyOptions.defaults().withMaxTokens(12))) {
                    results[i] = Letters.run(decoding);
                }
            }
            assertArrayEquals(results[0], results[1]);
            try (var sequence = recurrent.newSequence()) {
                var drafts = NGramDrafts.of(TrigramTable.empty(mamba.vocabulary()));
                assertThrows(IllegalArgumentException.class, () -> drafts.start(sequence, text, StrategyOptions.defaults()));
                assertThrows(IllegalArgumentException.class, () -> new Plain().start(sequence, new int[0], StrategyOptions.defaults()));
            }
        }
    }

    @Test
    void aThresholdIsLearnedFromText(@TempDir Path folder) throws Exception {
        var texts = Stream.of("Decoding", "Run", "AdaDecRun", "Confidence", "TrigramTable")
                .map(name -> read(Path.of("src/main/java/io/github/panamallama/sampling/strategy", name + ".java")))
                .map(text -> model.vocabulary().tokenize(text, false, false)).toList();
        var threshold = EntropyThreshold.learn(engine, texts, 1);
        assertTrue(threshold.threshold() > 0.2 && threshold.threshold() < 5, threshold.toString());
        assertTrue(threshold.accuracy() > 0.6, threshold.toString());
        System.out.println(threshold);
        threshold.store(folder.resolve("thresholds.json"), model);
        assertEquals(threshold, EntropyThreshold.load(folder.resolve("thresholds.json"), model));
    }

    private static String read(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Test
    void fingerprintsTellModelsApart(@TempDir Path folder) {
        byte[][] prints = new byte[3][];
        for (int i = 0; i < 3; i++) {
            var file = folder.resolve(i + ".gguf");
            RandomModel.tiny(RandomModel.Architecture.LLAMA).withSeed(1 + i / 2).write(file);
            try (var some = Model.load(file)) {
                prints[i] = Fingerprint.of(some);
            }
        }
        assertArrayEquals(prints[0], prints[1], "equal files");
        assertTrue(!Arrays.equals(prints[0], prints[2]), "other weights of the same shape");
    }

    @Test
    void cancellingFromAnotherThreadEndsADecoding() throws Exception {
        try (var sequence = engine.newSequence(); var decoding = BeamSearch.of(2).start(sequence, prompt,
                StrategyOptions.defaults().withMaxTokens(5))) {
            Thread.ofPlatform().start(decoding::cancel).join();
            assertTrue(!decoding.advance());
            assertEquals(FinishReason.CANCELLED, decoding.finishReason());
        }
    }

    /** Small models of random F32 weights over one vocabulary of 600 tokens. */
    private static Model random(Path folder, long seed) {
        var file = folder.resolve(seed + ".gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withSeed(seed).write(file);
        return Model.load(file);
    }

    private static Row fresh(Engine engine, int[] tokens) {
        try (var sequence = engine.newSequence()) {
            var row = engine.newRow();
            sequence.append(tokens, row);
            return row;
        }
    }

    private static int[] join(int[] tokens, int... more) {
        return IntStream.concat(Arrays.stream(tokens), Arrays.stream(more)).toArray();
    }

    /** AdaDec of its page's text, every row from an empty cache. */
    @Test
    void branchesInOneBatchChooseWhatFreshContextsDo(@TempDir Path folder) {
        try (var model = random(folder, 5); var engine = Engine.open(model, OPTIONS)) {
            int[] start = {300, 301, 302, 303};
            int steps = 120;
            double tau = RowMath.entropy(fresh(engine, start)) - 0.02;    // random models are undecided: about half the rows are above
            int[] text;
            try (var sequence = engine.newSequence(); var decoding = AdaDec.of(tau).withDepth(3).start(sequence, start,
                    StrategyOptions.defaults().withMaxTokens(steps).withSampling(SamplerOptions.greedy().withLogitBias(
                            model.vocabulary().eos(), Float.NEGATIVE_INFINITY)))) {
                text = Letters.run(decoding);
                assertTrue(decoding.work().count("pauses") > 5 && decoding.work().count("reusedRows") > 5
                        && decoding.work().count("changed") > 0, decoding.work().toString());
            }
            var best = new Candidates(4);
            int near = 0;
            for (int i = 0; i < text.length; i++) {
                int[] history = join(start, Arrays.copyOf(text, i));
                var row = fresh(engine, history);
                row.set(model.vocabulary().eos(), Float.NEGATIVE_INFINITY);
                int n = RowMath.topK(row, 4, best);
                double tie = Math.min(Math.abs(RowMath.entropy(fresh(engine, history)) - tau), gap(best, n));
                int token = best.token(0);
                if (RowMath.entropy(fresh(engine, history)) >= tau) {
                    double[] scores = new double[3];
                    for (int b = 0; b < 3; b++) {
                        int[] ahead = join(history, best.token(b));
                        scores[b] = RowMath.logProbability(fresh(engine, history), best.token(b));
                        for (int d = 0; d < 3; d++) {
                            var next = fresh(engine, ahead);
                            double sum = RowMath.logSumExp(next);
                            next.set(model.vocabulary().eos(), Float.NEGATIVE_INFINITY);
                            int t = RowMath.argmax(next);
                            scores[b] += next.get(t) - sum;
                            ahead = join(ahead, t);
                        }
                    }
                    int winner = 0;
                    for (int b = 1; b < 3; b++) {
                        winner = scores[b] > scores[winner] ? b : winner;
                    }
                    token = best.token(winner);
                    for (int b = 0; b < 3; b++) {
                        tie = b == winner ? tie : Math.min(tie, scores[winner] - scores[b]);
                    }
                }
                if (token != text[i]) {
                    assertTrue(tie < 1e-3, "token " + i + " differs at a margin of " + tie);
                    near++;
                }
            }
            assertTrue(near <= 2, near + " near-ties");
        }
    }

    private static double gap(Candidates best, int n) {
        double gap = Double.POSITIVE_INFINITY;
        for (int i = 1; i < n; i++) {
            gap = Math.min(gap, best.value(i - 1) - best.value(i));
        }
        return gap;
    }

    @Test
    void rowsOfTwoModelsAreThoseOfFreshContextsAcrossSwitches(@TempDir Path folder) {
        try (var one = random(folder, 5); var two = random(folder, 6); var large = Engine.open(one, OPTIONS);
                var small = Engine.open(two, OPTIONS); var sequence = large.newSequence()) {
            int[] start = {300, 301, 302, 303};
            double bits = RowMath.entropy(fresh(large, start)) / Math.log(2) - 0.02;
            var run = new SwitchRun(bits, 1, 1, Track.of(sequence), Track.open(small, AdapterSet.none()), start,
                    options().withMaxTokens(60),
                    Language.of(one.vocabulary(), false));
            try (var decoding = new Decoding(run)) {
                int[] text = Letters.run(decoding);
                assertTrue(decoding.work().count("switches") > 3, decoding.work().toString());
                for (int i = 0; i < text.length; i++) {
                    var row = fresh(run.byLarge.get(i) ? large : small, join(start, Arrays.copyOf(text, i)));
                    assertEquals(RowMath.logProbability(row, text[i]), decoding.confidence().logProbability(i), 1e-4);
                    assertEquals(RowMath.entropy(row), decoding.confidence().entropy(i), 1e-4);
                }
            }
        }
    }

    @Test
    void afterEveryDraftTheCacheHoldsWhatWasChosenAndNothingElse() {
        var table = TrigramTable.of(model.vocabulary(), List.of(greedy.tokens(), prompt));
        try (var sequence = engine.newSequence();
                var decoding = NGramDrafts.of(table).start(sequence, prompt, options().withMaxTokens(40))) {
            while (decoding.advance()) {
                int[] all = join(prompt, decoding.tokens());
                int shown = Math.min(sequence.length(), all.length);    // a burst is ahead of what was given out
                assertArrayEquals(Arrays.copyOf(all, shown), Arrays.copyOf(sequence.tokens(), shown));
                assertEquals(1, engine.stats().sequenceIds(), "all branches are gone");
            }
            assertTrue(decoding.work().count("accepted") > 10, decoding.work().toString());
        }
    }
}
