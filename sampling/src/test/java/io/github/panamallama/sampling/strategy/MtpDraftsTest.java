package io.github.panamallama.sampling.strategy;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarVocabulary;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.concurrent.Executors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Drafts by the heads of real models with random weights. */
@Timeout(300)
class MtpDraftsTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(512).withMaxSequences(8).withThreads(1);

    @TempDir
    Path folder;

    private Model load(RandomModel random) {
        var path = folder.resolve(random.architecture() + "-" + random.vocabularySize() + ".gguf");
        random.write(path);
        return Model.load(path, ModelOptions.defaults().withMtp(true));
    }

    private static int[] prompt(Model model, int length, long seed) {
        return new SplittableRandom(seed).ints(length, 300, model.vocabulary().size()).toArray();
    }

    private static Decoding decode(Engine engine, Strategy strategy, int[] prompt, StrategyOptions options) {
        try (var sequence = engine.newSequence(); var decoding = strategy.start(sequence, prompt, options)) {
            while (decoding.advance()) {
            }
            return decoding;
        }
    }

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
            for (int i = 0; i < a.size(); i++) {
                noise = Math.max(noise, Math.abs(a.get(i) - b.get(i)));
            }
        }
        return Math.max(4 * noise, 1e-3);
    }

    private static void assertSameUpToTies(Decoding expected, Decoding actual, double noise) {
        int at = Arrays.mismatch(expected.tokens(), actual.tokens());
        if (at >= 0) {
            double margin = expected.confidence().margin(at);
            assertTrue(margin < 2 * noise, "token " + at + " differs at a margin of " + margin + ", the noise is " + noise);
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"HY_V3", "QWEN35"})
    void greedyTextsAreTheSameAndSomeDraftsAreAccepted(Architecture architecture) {
        try (var model = load(RandomModel.tiny(architecture)); var engine = Engine.open(model, OPTIONS)) {
            long accepted = 0;
            for (int seed = 0; seed < 4; seed++) {
                var prompt = prompt(model, 30, seed);
                double noise = noise(engine, prompt);
                var options = StrategyOptions.defaults().withMaxTokens(50);
                var greedy = decode(engine, new Plain(), prompt, options);
                for (int length : new int[] {1, 2, 5}) {
                    var drafted = decode(engine, new MtpDrafts(length), prompt, options);
                    assertSameUpToTies(greedy, drafted, noise);
                    accepted += drafted.work().count("accepted");
                    assertTrue(drafted.work().count("drafted") > 0);
                    assertEquals(0, drafted.work().count("draftFull"));
                }
            }
            System.out.println(architecture + ": " + accepted + " drafts accepted");
            assertTrue(accepted > 10, "the head of the random model agrees now and then, here " + accepted + " times");
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"HY_V3", "QWEN35"})
    void drawnTokensAreDistributedAsTheModelSays(Architecture architecture) {
        int draws = 3000;
        var sampling = SamplerOptions.defaults().withTopK(3).withTopP(1).withMinP(0).withTemperature(0.8f);
        try (var model = load(RandomModel.tiny(architecture)); var engine = Engine.open(model, OPTIONS);
                var prefix = engine.newSequence()) {
            var prompt = prompt(model, 20, 5);
            var history = Arrays.copyOf(prompt, prompt.length - 1);
            int[] last = {prompt[prompt.length - 1]};
            prefix.append(history, null);
            // all texts of three tokens, by the model alone
            var texts = new TreeMap<String, Double>();
            enumerate(engine, prompt, new int[0], 1, texts);
            var index = texts.keySet().stream().toList();
            var counts = new int[texts.size()];
            long accepted = 0;
            System.out.println("seeds 0 to " + draws);
            for (int seed = 0; seed < draws; seed++) {
                var options = StrategyOptions.defaults().withMaxTokens(3).withConfidence(false).withSampling(sampling.withSeed(seed));
                try (var fork = prefix.fork(); var decoding = new MtpDrafts(2).start(fork, last, options)) {
                    while (decoding.advance()) {
                    }
                    counts[index.indexOf(Arrays.toString(decoding.tokens()))]++;
                    accepted += decoding.work().count("accepted");
                }
            }
            System.out.println(architecture + ": " + accepted + " drafts accepted");
            assertTrue(accepted > 100, accepted + " drafts accepted");
            var p = texts.values().stream().mapToDouble(Double::doubleValue).toArray();
            SpeculativeTest.assertDistribution(p, counts, draws);
        }
    }

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
        try (var model = load(RandomModel.tiny(Architecture.HY_V3)); var engine = Engine.open(model, OPTIONS)) {
            var vocabulary = GrammarVocabulary.of(model.vocabulary());
            var grammar = Grammar.regex("(int|long) [a-z]{2,9}\\(\\);");
            for (int seed = 0; seed < 12; seed++) {
                var options = StrategyOptions.defaults().withMaxTokens(120).withConstraint(grammar.constraint(vocabulary))
                        .withConfidence(seed % 3 == 0).withFastForward(seed % 3 == 1)
                        .withSampling(seed % 2 == 0 ? SamplerOptions.greedy() : SamplerOptions.defaults().withSeed(seed));
                var decoding = decode(engine, MtpDrafts.of(), prompt(model, 10, seed), options);
                assertTrue(grammar.accepts(decoding.wholeText()), decoding.wholeText());
            }
        }
    }

    @Test
    void manyCallersDraftTogether() throws Exception {
        try (var model = load(RandomModel.tiny(Architecture.HY_V3)); var engine = Engine.open(model, OPTIONS);
                var callers = Executors.newVirtualThreadPerTaskExecutor()) {
            var options = StrategyOptions.defaults().withMaxTokens(30);
            var results = IntStream.range(0, 6).mapToObj(i -> callers.submit(
                    () -> decode(engine, new MtpDrafts(3), prompt(model, 10 + i, i), options))).toList();
            for (int i = 0; i < 6; i++) {
                var prompt = prompt(model, 10 + i, i);
                assertSameUpToTies(decode(engine, new Plain(), prompt, options), results.get(i).get(), noise(engine, prompt));
            }
            assertEquals(0, engine.stats().sequenceIds());
        }
    }

    @Test
    void anEngineWithoutAHeadIsRefusedByTheModelsName() {
        var plain = folder.resolve("plain.gguf");
        RandomModel.tiny(Architecture.LLAMA).write(plain);
        var head = folder.resolve("head.gguf");
        RandomModel.tiny(Architecture.HY_V3).write(head);
        for (var path : new Path[] {plain, head}) {
            try (var model = Model.load(path); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
                var refused = assertThrows(IllegalArgumentException.class,
                        () -> MtpDrafts.of().start(sequence, new int[] {300}, StrategyOptions.defaults()));
                assertTrue(refused.getMessage().contains(model.description()), refused.getMessage());
                assertTrue(refused.getMessage().contains(path == head ? "withMtp(true)" : "small model"), refused.getMessage());
            }
        }
    }
}
