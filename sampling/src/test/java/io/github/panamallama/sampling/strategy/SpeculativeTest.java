package io.github.panamallama.sampling.strategy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.sampling.FiniteConstraint;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.track.TableTrack;
import java.util.Arrays;
import java.util.List;
import java.util.function.Function;
import org.junit.jupiter.api.Test;

class SpeculativeTest {
    private static final int[] PROMPT = {1, 2};

    private static Decoding start(Function<int[], float[]> large, Function<int[], float[]> small, int size, int length,
            StrategyOptions options) {
        return start(Letters.table(large, size), Letters.table(small, size), length, options);
    }

    private static Decoding start(TableTrack large, TableTrack small, int length, StrategyOptions options) {
        return new Decoding(new SpeculativeRun(length, large, Drafter.model(large, small), PROMPT, options, Letters.IT));
    }

    /** With the small one as the large one's own head. */
    private static Decoding startHead(Function<int[], float[]> large, Function<int[], float[]> small, int size, int length,
            StrategyOptions options) {
        var main = Letters.table(large, size).withHead(small);
        return new Decoding(new SpeculativeRun(length, main, Drafter.head(main, length), PROMPT, options, Letters.IT));
    }

    @Test
    void greedyTextsAreTheSameWhateverTheDraftModelSays() {
        for (long seed = 0; seed < 30; seed++) {
            var large = TableTrack.random(9, -1, 2, seed);
            var options = Letters.options(100);
            var greedy = Letters.plain(large, 9, PROMPT, options);
            for (var small : List.of(large, TableTrack.random(9, -1, 2, seed + 1000), TableTrack.random(9, 1, 0.1, seed))) {
                assertArrayEquals(greedy, Letters.run(start(large, small, 9, 1 + (int) seed % 6, options)));
                assertArrayEquals(greedy, Letters.run(startHead(large, small, 9, 1 + (int) seed % 6, options)));
            }
        }
    }

    @Test
    void aPerfectDraftIsAcceptedWhole() {
        var model = Letters.endless(TableTrack.random(9, 3, 2, 5));
        for (var sampling : List.of(SamplerOptions.greedy(), Letters.FREE.withSeed(2),
                Letters.FREE.withTopK(4).withTemperature(0.7f).withSeed(2))) {
            try (var decoding = start(model, model, 9, 4, Letters.options(101).withSampling(sampling))) {
                Letters.run(decoding);
                assertEquals(decoding.work().count("drafted"), decoding.work().count("accepted"));
                assertEquals(20, decoding.work().count("passes"), "five tokens per pass, behind the one of the prompt");
                assertEquals(21, decoding.work().batches());
            }
            try (var decoding = startHead(model, model, 9, 4, Letters.options(101).withSampling(sampling))) {
                Letters.run(decoding);
                assertEquals(decoding.work().count("drafted"), decoding.work().count("accepted"));
                assertEquals(20, decoding.work().count("passes"));
                assertEquals(80, decoding.work().helperRows(), "one row for each drafted token");
            }
        }
    }

    @Test
    void drawnTextsAreDistributedAsWithoutDrafts() {
        int size = 4;
        var large = TableTrack.random(size, 2, 1.2, 77);
        int draws = 60_000;
        System.out.println("SpeculativeTest seeds 0 to " + draws);
        for (var sampling : List.of(Letters.FREE, Letters.FREE.withTopK(3).withTemperature(1.4f))) {
            for (var small : List.of(TableTrack.random(size, 2, 1.2, 78), TableTrack.random(size, 1, 3, 79))) {
                for (boolean head : new boolean[] {false, true}) {
                    var counts = new int[256];
                    for (int seed = 0; seed < draws; seed++) {
                        var options = Letters.options(4).withSampling(sampling.withSeed(seed));
                        counts[index(Letters.run(head ? startHead(large, small, size, 3, options)
                                : start(large, small, size, 3, options)))]++;
                    }
                    assertDistribution(exact(large, sampling, size), counts, draws);
                }
            }
        }
    }

    /** Texts of four tokens; what follows an end doesn't count. */
    static int index(int[] tokens) {
        int index = 0;
        for (int i = 0; i < 4; i++) {
            index = 4 * index + (i < tokens.length ? tokens[i] : 0);
        }
        return index;
    }

    static double[] exact(Function<int[], float[]> model, SamplerOptions sampling, int size) {
        var p = new double[256];
        for (int i = 0; i < 256; i++) {
            int[] tokens = {i >> 6, i >> 4 & 3, i >> 2 & 3, i & 3};
            var history = PROMPT;
            double product = 1;
            for (int j = 0; j < 4 && product > 0; j++) {
                if (j > 0 && tokens[j - 1] == 0) {
                    product *= tokens[j] == 0 ? 1 : 0;
                } else {
                    product *= probabilities(model.apply(history), sampling)[tokens[j]];
                    history = Arrays.copyOf(history, history.length + 1);
                    history[history.length - 1] = tokens[j];
                }
                if (tokens[j] == 0) {
                    for (int k = j + 1; k < 4; k++) {
                        product *= tokens[k] == 0 ? 1 : 0;
                    }
                    break;
                }
            }
            p[i] = product;
        }
        return p;
    }

    private static double[] probabilities(float[] row, SamplerOptions sampling) {
        var sorted = row.clone();
        Arrays.sort(sorted);
        float least = sampling.topK() == 0 ? Float.NEGATIVE_INFINITY : sorted[row.length - sampling.topK()];
        var p = new double[row.length];
        double sum = 0;
        for (int i = 0; i < row.length; i++) {
            p[i] = row[i] < least ? 0 : Math.exp(row[i] / sampling.temperature());
            sum += p[i];
        }
        for (int i = 0; i < row.length; i++) {
            p[i] /= sum;
        }
        return p;
    }

    static double chiSquare(double[] p, int[] counts, int draws, int[] cells) {
        double chiSquare = 0;
        double rareExpected = 0;
        double rareSeen = 0;
        for (int i = 0; i < p.length; i++) {
            double expected = p[i] * draws;
            if (p[i] == 0) {
                assertEquals(0, counts[i], "text " + i + " is impossible");
            } else if (expected < 8) {
                rareExpected += expected;
                rareSeen += counts[i];
            } else {
                chiSquare += (counts[i] - expected) * (counts[i] - expected) / expected;
                cells[0]++;
            }
        }
        if (rareExpected >= 8) {
            chiSquare += (rareSeen - rareExpected) * (rareSeen - rareExpected) / rareExpected;
            cells[0]++;
        }
        return chiSquare;
    }

    static void assertDistribution(double[] p, int[] counts, int draws) {
        assertEquals(1, Arrays.stream(p).sum(), 1e-9);
        var cells = new int[1];
        double chiSquare = chiSquare(p, counts, draws, cells);
        assertTrue(chiSquare < Letters.bound(cells[0] - 1), "chi-square " + chiSquare + " with " + cells[0] + " cells");
    }

    @Test
    void aConstraintHoldsForDraftsAndTexts() {
        var texts = List.of(new int[] {1, 2, 3, 4}, new int[] {1, 3, 3, 1}, new int[] {2, 2, 2, 2, 2, 2}, new int[] {4});
        for (long seed = 0; seed < 40; seed++) {
            var options = Letters.options(50).withConstraint(new FiniteConstraint(9, texts, 0)).withConfidence(seed % 2 == 0)
                    .withSampling(seed % 3 == 0 ? SamplerOptions.greedy() : Letters.FREE.withSeed(seed));
            var large = TableTrack.random(9, -1, 2, seed);
            var small = TableTrack.random(9, -1, 2, seed + 50);
            for (var decoding : List.of(start(large, small, 9, 4, options), startHead(large, small, 9, 4, options))) {
                var tokens = Letters.run(decoding);
                assertTrue(texts.stream().anyMatch(text -> Arrays.equals(Arrays.copyOf(text, text.length + 1), tokens)),
                        Arrays.toString(tokens));
                if (seed % 3 == 0) {
                    assertArrayEquals(Letters.plain(large, 9, PROMPT, options), tokens);
                }
            }
        }
    }

    @Test
    void aFullContextOfEitherModelEndsNothingTooEarly() {
        var model = Letters.endless(TableTrack.random(9, 2, 2, 3));
        var greedy = Letters.plain(model, 9, PROMPT, Letters.options(60));
        try (var decoding = start(new TableTrack(9, 1000, model), new TableTrack(9, 20, model), 4, Letters.options(60))) {
            assertArrayEquals(greedy, Letters.run(decoding));
            assertEquals(1, decoding.work().count("draftFull"));
        }
        try (var decoding = start(new TableTrack(9, 20, model), new TableTrack(9, 1000, model), 4, Letters.options(60))) {
            assertArrayEquals(Arrays.copyOf(greedy, 19), Letters.run(decoding));
            assertEquals(FinishReason.CONTEXT_FULL, decoding.finishReason());
        }
        var narrow = new TableTrack(9, 20, model).withHead(model);
        try (var decoding = new Decoding(new SpeculativeRun(4, narrow, Drafter.head(narrow, 4), PROMPT, Letters.options(60), Letters.IT))) {
            assertArrayEquals(Arrays.copyOf(greedy, 19), Letters.run(decoding));
            assertEquals(FinishReason.CONTEXT_FULL, decoding.finishReason());
        }
    }

    @Test
    void settingsOutOfRangeAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> new Speculative(null, 4));
        assertThrows(IllegalArgumentException.class, () -> new MtpDrafts(0));
        assertThrows(IllegalArgumentException.class, () -> new MtpDrafts(Sequence.MAX_DRAFT + 1));
    }
}
