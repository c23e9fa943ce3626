package io.github.panamallama.sampling.strategy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.Tap;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import io.github.panamallama.sampling.FiniteConstraint;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarVocabulary;
import io.github.panamallama.sampling.track.TableTrack;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Function;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Against every candidate evaluated by itself from an empty cache, and on tables that repeat themselves if they are let. */
@Timeout(300)
class ContrastiveSearchTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(512).withMaxSequences(8).withThreads(1);
    private static final int[] PROMPT = {1, 2};

    @TempDir
    static Path folder;

    private static Model load(Architecture architecture) {
        var path = folder.resolve(architecture + ".gguf");
        RandomModel.tiny(architecture).write(path);
        return Model.load(path);
    }

    private static int[] join(int[] tokens, int... more) {
        return IntStream.concat(Arrays.stream(tokens), Arrays.stream(more)).toArray();
    }

    // --- tables ---------------------------------------------------------------------------------------------------------

    /** A model whose hidden state is the direction of its last token. */
    private static TableTrack table(Function<int[], float[]> logits, int size) {
        return new TableTrack(size, 1000, logits).withStates(history -> {
            var state = new float[size];
            state[history[history.length - 1]] = 3;
            return state;
        });
    }

    private static Decoding start(TableTrack main, ContrastiveSearch settings, StrategyOptions options) {
        return new Decoding(new ContrastiveRun(settings, 4, main, PROMPT, options, Letters.IT));
    }

    /** Goes round abcabc, with every other token behind. */
    private static float[] circle(int[] history) {
        var row = new float[9];
        Arrays.fill(row, 0);
        row[0] = Float.NEGATIVE_INFINITY;
        row[history[history.length - 1] % 3 + 1] = 1.5f;
        return row;
    }

    @Test
    void aTextThatGoesRoundBreaksOut() {
        var greedy = Letters.plain(ContrastiveSearchTest::circle, 9, PROMPT, Letters.options(8));
        assertArrayEquals(new int[] {3, 1, 2, 3, 1, 2, 3, 1}, greedy);
        var main = table(ContrastiveSearchTest::circle, 9);
        try (var decoding = start(main, ContrastiveSearch.of().withCandidates(8), Letters.options(6))) {
            var text = Letters.run(decoding);
            var all = join(PROMPT, text);
            assertEquals(8, new HashSet<>(Arrays.stream(all).boxed().toList()).size(), "no token twice: " + Arrays.toString(all));
            assertTrue(decoding.work().count("changed") >= 5, decoding.work().toString());
            assertEquals(2 + 6 * 8, decoding.work().rows());
            assertEquals(1 + 6, decoding.work().batches(), "one batch per token");
        }
        assertFalse(main.isRead(), "the end of the decoding ends the reading");
    }

    @Test
    void withoutPenaltyItIsGreedy() {
        for (long seed = 0; seed < 20; seed++) {
            var model = TableTrack.random(9, -1, 2, seed);
            var greedy = Letters.plain(model, 9, PROMPT, Letters.options(60));
            assertArrayEquals(greedy, Letters.run(start(table(model, 9), ContrastiveSearch.of().withAlpha(0), Letters.options(60))));
            assertArrayEquals(greedy, Letters.run(start(table(model, 9), ContrastiveSearch.of().withCandidates(1), Letters.options(60))));
        }
    }

    @Test
    void biasAndPenaltiesTakePart() {
        var model = TableTrack.random(9, 2, 2, 4);
        var biased = Letters.options(30).withSampling(
                SamplerOptions.greedy().withLogitBias(0, Float.NEGATIVE_INFINITY).withLogitBias(5, 3));
        assertArrayEquals(Letters.plain(model, 9, PROMPT, biased),
                Letters.run(start(table(model, 9), ContrastiveSearch.of().withAlpha(0), biased)));
    }

    @Test
    void aConstraintHoldsAndWhatItForcesIsNotCompared() {
        var texts = List.of(new int[] {1, 2, 3, 4}, new int[] {1, 3, 3, 1}, new int[] {2, 2, 2, 2, 2, 2}, new int[] {4});
        for (long seed = 0; seed < 20; seed++) {
            var model = TableTrack.random(9, -1, 2, seed);
            long rows = 0;
            for (boolean confidence : new boolean[] {true, false}) {
                var options = Letters.options(50).withConstraint(new FiniteConstraint(9, texts, 0)).withConfidence(confidence);
                try (var decoding = start(table(model, 9), ContrastiveSearch.of(), options)) {
                    var tokens = Letters.run(decoding);
                    assertTrue(texts.stream().anyMatch(text -> Arrays.equals(Arrays.copyOf(text, text.length + 1), tokens)));
                    assertTrue(confidence || decoding.work().rows() <= rows, "fewer rows without measures");
                    rows = decoding.work().rows();
                }
            }
        }
    }

    @Test
    void theContextIsFilledToItsEnd() {
        var model = Letters.endless(TableTrack.random(9, 2, 2, 3));
        var main = new TableTrack(9, 12, model).withStates(history -> new float[] {history.length, 1});
        try (var decoding = start(main, ContrastiveSearch.of(), Letters.options(60))) {
            assertEquals(11, Letters.run(decoding).length, "ten in the context, and the one behind");
            assertEquals(FinishReason.CONTEXT_FULL, decoding.finishReason());
            assertEquals(4, decoding.work().count("fewerCandidates"));
        }
    }

    @Test
    void settingsOutOfRangeAreRefused() {
        for (double alpha : new double[] {-0.1, 1.1, Double.NaN}) {
            var refused = assertThrows(IllegalArgumentException.class, () -> ContrastiveSearch.of().withAlpha(alpha));
            assertTrue(refused.getMessage().contains("alpha"), refused.getMessage());
        }
        assertThrows(IllegalArgumentException.class, () -> ContrastiveSearch.of().withCandidates(0));
        assertThrows(IllegalArgumentException.class, () -> ContrastiveSearch.of().withFromLast(-1));
        var main = table(ContrastiveSearchTest::circle, 9);
        for (var settings : List.of(ContrastiveSearch.of().withFromLast(4), ContrastiveSearch.of().withCandidates(10))) {
            assertThrows(IllegalArgumentException.class, () -> start(main, settings, Letters.options(3)));
        }
    }

    @Test
    void statesKnowTheirLikest() {
        var random = new SplittableRandom(9);
        var states = new States();
        var all = new float[200][7];
        for (int i = 0; i < 200; i++) {
            for (int j = 0; j < 7; j++) {
                all[i][j] = i == 150 ? 0 : (float) random.nextGaussian();
            }
            states.set(i, all[i]);
        }
        for (int count : new int[] {1, 63, 64, 65, 128, 200}) {
            var state = new float[7];
            for (int j = 0; j < 7; j++) {
                state[j] = (float) (100 * random.nextGaussian());
            }
            double most = IntStream.range(0, count).mapToDouble(i -> cosine(state, all[i])).max().getAsDouble();
            assertEquals(most, states.largestCosine(state, count), 1e-5);
        }
        assertEquals(0, states.largestCosine(new float[7], 10));
    }

    private static double cosine(float[] a, float[] b) {
        double dot = 0;
        double aa = 0;
        double bb = 0;
        for (int i = 0; i < a.length; i++) {
            dot += (double) a[i] * b[i];
            aa += (double) a[i] * a[i];
            bb += (double) b[i] * b[i];
        }
        return aa == 0 || bb == 0 ? 0 : dot / Math.sqrt(aa * bb);
    }

    // --- real models ----------------------------------------------------------------------------------------------------

    /** The states behind a block of all tokens, from an empty cache; {@code row} receives the logits behind the last. */
    private static List<float[]> states(Engine engine, LayerPlan plan, int block, int[] tokens, Row row) {
        var states = new ArrayList<float[]>();
        try (var sequence = engine.newSequence(plan)) {
            sequence.tap(Tap.hidden(block), reading -> {
                var state = new float[engine.model().embeddingSize()];
                reading.hidden(block, state);
                states.add(state);
            });
            for (int token : tokens) {    // singly, so that the last block is there for each
                sequence.append(token, row);
            }
        }
        return states;
    }

    @ParameterizedTest
    @CsvSource({"LLAMA,1,0.6,false,0-3", "LLAMA,0,0.6,false,0-3", "QWEN3,2,0.3,true,0-3", "QWEN3,0,0.5,true,0-3", "LLAMA,1,0.5,true,0-1;3"})
    void choicesAreThoseOfFreshSequences(Architecture architecture, int fromLast, double alpha, boolean prefix, String blocks) {
        try (var model = load(architecture); var engine = Engine.open(model, OPTIONS)) {
            var plan = LayerPlan.parse(blocks.replace(';', ','), model.layerCount());
            int block = model.layerCount() - 1 - fromLast;
            int[] prompt = new SplittableRandom(fromLast).ints(70, 300, model.vocabulary().size()).toArray();
            int[] text;
            var settings = ContrastiveSearch.of().withAlpha(alpha).withCandidates(5).withFromLast(fromLast);
            var sampling = SamplerOptions.greedy().withLogitBias(model.vocabulary().eos(), Float.NEGATIVE_INFINITY);
            try (var sequence = engine.newSequence(plan)) {
                int known = prefix ? 30 : 0;
                if (prefix) {
                    sequence.append(Arrays.copyOf(prompt, known), null);
                }
                try (var decoding = settings.start(sequence, Arrays.copyOfRange(prompt, known, prompt.length),
                        StrategyOptions.defaults().withMaxTokens(40).withSampling(sampling))) {
                    text = Letters.run(decoding);
                    assertTrue(decoding.work().count("changed") > 3, decoding.work().toString());
                }
                assertArrayEquals(join(prompt, text), sequence.tokens());
            }
            var best = new Candidates(5);
            int near = 0;
            for (int i = 0; i < text.length; i++) {
                int[] history = join(prompt, Arrays.copyOf(text, i));
                var row = engine.newRow();
                var before = states(engine, plan, block, history, row);
                row.set(model.vocabulary().eos(), Float.NEGATIVE_INFINITY);
                int n = RowMath.topK(row, 5, best);
                double sum = RowMath.logSumExp(row);
                var scores = new double[n];
                int winner = 0;
                for (int c = 0; c < n; c++) {
                    var state = states(engine, plan, block, join(history, best.token(c)), engine.newRow()).getLast();
                    double likest = before.stream().mapToDouble(other -> cosine(state, other)).max().getAsDouble();
                    scores[c] = (1 - alpha) * Math.exp(best.value(c) - sum) - alpha * likest;
                    winner = scores[c] > scores[winner] ? c : winner;
                }
                if (best.token(winner) != text[i]) {
                    int chosen = text[i];
                    double tie = IntStream.range(0, n).filter(c -> best.token(c) == chosen).mapToDouble(c -> scores[c]).findFirst()
                            .orElseThrow() - scores[winner];
                    assertTrue(-tie < 1e-4, "token " + i + " differs by a score of " + tie);
                    near++;
                }
            }
            assertTrue(near <= 2, near + " near-ties");
            assertEquals(0, engine.stats().sequenceIds());
        }
    }

    @Test
    void theShippedModelRepeatsLess() {
        try (var model = Model.load(Path.of("..", "models", "java-tiny-f16.gguf")); var engine = Engine.open(model, OPTIONS)) {
            int[] prompt = model.vocabulary().tokenize(
                    "public final class Range {\n    private final int start;\n    private final int end;\n\n", true, false);
            var options = StrategyOptions.defaults().withMaxTokens(160);
            var share = new double[2];
            for (int i = 0; i < 2; i++) {
                Strategy strategy = i == 0 ? new Plain() : ContrastiveSearch.of();
                try (var sequence = engine.newSequence(); var decoding = strategy.start(sequence, prompt, options)) {
                    share[i] = repeated(Letters.run(decoding));
                }
            }
            System.out.println("4-grams seen before: greedy " + share[0] + ", contrastive " + share[1]);
            assertTrue(share[1] < 0.6 * share[0], "4-grams seen before: greedy " + share[0] + ", contrastive " + share[1]);
        }
    }

    /** The share of runs of four tokens that stood before. */
    private static double repeated(int[] text) {
        var seen = new HashSet<List<Integer>>();
        int again = 0;
        for (int i = 0; i + 4 <= text.length; i++) {
            again += seen.add(Arrays.stream(text, i, i + 4).boxed().toList()) ? 0 : 1;
        }
        return again / (text.length - 3.0);
    }

    @Test
    void aGrammarHolds() {
        try (var model = Model.load(Path.of("..", "models", "java-tiny-f16.gguf")); var engine = Engine.open(model, OPTIONS)) {
            var grammar = Grammar.regex("(int|long) [a-z]{2,9}\\(\\);");
            for (int i = 0; i < 6; i++) {
                var options = StrategyOptions.defaults().withMaxTokens(60).withConfidence(i % 3 == 0).withFastForward(i % 3 == 1)
                        .withConstraint(grammar.constraint(GrammarVocabulary.of(model.vocabulary())));
                try (var sequence = engine.newSequence(); var decoding = ContrastiveSearch.of().withFromLast(i / 3).start(sequence,
                        model.vocabulary().tokenize("class A {\n    ", true, false), options)) {
                    Letters.run(decoding);
                    assertTrue(grammar.accepts(decoding.wholeText()), decoding.wholeText());
                }
            }
        }
    }

    @Test
    void recurrentModelsAreRefused() {
        try (var model = load(Architecture.MAMBA); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            assertTrue(assertThrows(IllegalArgumentException.class, () -> ContrastiveSearch.of().start(sequence, new int[] {300},
                    StrategyOptions.defaults())).getMessage().contains("recurrent"));
        }
    }
}
