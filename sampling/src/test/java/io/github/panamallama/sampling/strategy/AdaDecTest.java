package io.github.panamallama.sampling.strategy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.SamplingException;
import io.github.panamallama.sampling.FiniteConstraint;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.track.TableTrack;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Function;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AdaDecTest {
    private static final int SIZE = 16;
    private static final int[] PROMPT = {3, 5};

    private static int[] run(AdaDec settings, Function<int[], float[]> model, StrategyOptions options) {
        var track = Letters.table(model, SIZE);
        var tokens = Letters.run(new AdaDecRun(settings, track, PROMPT, options, Letters.IT));
        assertEquals(0, track.openForks(), "forks left open");
        assertTrue(track.length() <= PROMPT.length + tokens.length);
        assertArrayEquals(Arrays.copyOf(join(PROMPT, tokens), track.length()), track.tokens());
        return tokens;
    }

    private static int[] join(int[] a, int... b) {
        return IntStream.concat(Arrays.stream(a), Arrays.stream(b)).toArray();
    }

    @Test
    void withoutPausesOrLookAheadItIsGreedy() {
        for (long seed = 1; seed <= 5; seed++) {
            var model = TableTrack.random(SIZE, 3, 2, seed);
            var greedy = Letters.plain(model, SIZE, PROMPT, Letters.options(60));
            assertArrayEquals(greedy, run(AdaDec.of(Double.POSITIVE_INFINITY), model, Letters.options(60)));
            assertArrayEquals(greedy, run(AdaDec.of(0).withDepth(0), model, Letters.options(60)));
            assertArrayEquals(greedy, run(AdaDec.of(0).withCandidates(1), model, Letters.options(60)));
        }
    }

    @Test
    void aTrapThatGreedyFallsIntoIsSeen() {
        // token 1 with 0.4 leads to near-uniform steps, token 2 with 0.35 to sure ones
        Function<int[], float[]> model = history -> {
            var row = new float[SIZE];
            if (history.length == PROMPT.length) {
                Arrays.fill(row, (float) Math.log(0.25 / (SIZE - 2)));
                row[1] = (float) Math.log(0.4);
                row[2] = (float) Math.log(0.35);
            } else if (history[PROMPT.length] == 2) {
                row[7] = 50;
            }
            return row;
        };
        assertEquals(1, Letters.plain(model, SIZE, PROMPT, Letters.options(1))[0]);
        assertEquals(2, run(AdaDec.of(0.5), model, Letters.options(1))[0]);
        assertEquals(1, run(AdaDec.of(2.5), model, Letters.options(1))[0], "an entropy of 1.81 is below this threshold");
    }

    /** The same, from the page's text, without any cache, batch or reuse. */
    private static int[] naive(double tau, int width, int depth, Function<int[], float[]> model, int count) {
        var text = PROMPT;
        for (int i = 0; i < count; i++) {
            var row = model.apply(text);
            int token = argmax(row);
            if (entropy(row) >= tau) {
                double best = Double.NEGATIVE_INFINITY;
                var order = IntStream.range(0,
                        SIZE).boxed().sorted(Comparator.comparingDouble((Integer v) -> -row[v]).thenComparing(v -> v)).toList();
                for (int candidate : order.subList(0, width)) {
                    double sum = row[candidate] - logSum(row);
                    var ahead = join(text, candidate);
                    int n = 0;
                    while (n < depth && ahead[ahead.length - 1] != 0) {
                        var next = model.apply(ahead);
                        int t = argmax(next);
                        sum += next[t] - logSum(next);
                        ahead = join(ahead, t);
                        n++;
                    }
                    if (sum / (n + 1) > best) {
                        best = sum / (n + 1);
                        token = candidate;
                    }
                }
            }
            text = join(text, token);
            if (token == 0) {
                break;
            }
        }
        return Arrays.copyOfRange(text, PROMPT.length, text.length);
    }

    private static int argmax(float[] row) {
        int best = 0;
        for (int i = 1; i < row.length; i++) {
            best = row[i] > row[best] ? i : best;
        }
        return best;
    }

    private static double logSum(float[] row) {
        double sum = 0;
        for (float x : row) {
            sum += Math.exp(x);
        }
        return Math.log(sum);
    }

    private static double entropy(float[] row) {
        double sum = logSum(row);
        double h = 0;
        for (float x : row) {
            h -= x == Float.NEGATIVE_INFINITY ? 0 : Math.exp(x - sum) * (x - sum);
        }
        return h;
    }

    @Test
    void branchesInOneBatchChooseWhatBranchesOneByOneWould() {
        long seed = 4711;
        System.out.println("AdaDecTest seed " + seed);
        var random = new SplittableRandom(seed);
        int steps = 0;
        while (steps < 10_000) {
            var table = TableTrack.random(SIZE, -1, 0.5 + 2.5 * random.nextDouble(), random.nextLong());
            Function<int[], float[]> model = steps % 2 == 0 ? table : Letters.endless(table);
            double tau = 2.5 * random.nextDouble();
            int width = 1 + random.nextInt(4);
            int depth = random.nextInt(7);
            var expected = naive(tau, width, depth, model, 50);
            assertArrayEquals(expected, run(AdaDec.of(tau).withCandidates(width).withDepth(depth), model, Letters.options(50)));
            steps += expected.length;
        }
    }

    @Test
    void reuseOfTheWinnersLookAheadChangesNothingButTheCost() {
        for (var sampling : List.of(Letters.options(200), Letters.options(200).withSampling(Letters.FREE.withSeed(9)))) {
            var model = Letters.endless(TableTrack.random(SIZE, 4, 2, 17));
            long[] rows = new long[2];
            int[][] tokens = new int[2][];
            for (int i = 0; i < 2; i++) {
                try (var decoding = new Decoding(new AdaDecRun(AdaDec.of(1.2).withReuse(i == 0), Letters.table(model, SIZE), PROMPT,
                        sampling, Letters.IT))) {
                    tokens[i] = Letters.run(decoding);
                    rows[i] = decoding.work().rows();
                    assertTrue(decoding.work().count("pauses") > 10);
                    assertEquals(i == 0, decoding.work().count("reusedRows") > 0);
                }
            }
            assertArrayEquals(tokens[1], tokens[0]);
            assertTrue(rows[0] < rows[1], rows[0] + " rows with reuse, " + rows[1] + " without");
        }
    }

    @Test
    void aConstraintHoldsInLookAheadToo() {
        var texts = List.of(new int[] {1, 2, 3, 4}, new int[] {1, 3, 3, 1}, new int[] {2, 2, 2, 2, 2, 2, 2}, new int[] {4});
        for (long seed = 0; seed < 20; seed++) {
            var options = Letters.options(50).withConstraint(new FiniteConstraint(SIZE, texts, 0)).withConfidence(seed % 2 == 0);
            var tokens = run(AdaDec.of(0), TableTrack.random(SIZE, -1, 2, seed), options);
            assertEquals(0, tokens[tokens.length - 1]);
            assertTrue(texts.stream().anyMatch(text -> Arrays.equals(join(text, 0), tokens)), Arrays.toString(tokens));
        }
    }

    @Test
    void aPauseWithoutRoomTakesTheUsualTokenAndIsCounted() {
        var model = Letters.endless(TableTrack.random(SIZE, 3, 1, 5));
        var track = new TableTrack(SIZE, 8, model);
        try (var decoding = new Decoding(new AdaDecRun(AdaDec.of(0), track, PROMPT, Letters.options(100), Letters.IT))) {
            while (decoding.advance()) {
            }
            assertEquals(7, decoding.tokens().length);
            assertTrue(decoding.work().count("noRoom") > 0);
        }
        assertEquals(0, track.openForks());
    }

    @Test
    void settingsOutOfRangeAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> AdaDec.of(Double.NaN));
        assertThrows(IllegalArgumentException.class, () -> AdaDec.of(-1));
        assertThrows(IllegalArgumentException.class, () -> AdaDec.of(1).withCandidates(0));
        assertThrows(IllegalArgumentException.class, () -> AdaDec.of(1).withDepth(-1));
        var track = Letters.table(TableTrack.random(SIZE, 1, 1, 1), SIZE);
        assertThrows(IllegalArgumentException.class, () -> new AdaDecRun(AdaDec.of(1).withCandidates(17), track, PROMPT, Letters.options(1),
                Letters.IT));
        var large = new TableTrack(100, 100, TableTrack.random(100, 1, 1, 1));
        assertThrows(IllegalArgumentException.class, () -> new AdaDecRun(AdaDec.of(1).withCandidates(64), large, PROMPT, Letters.options(1),
                Letters.IT));
        assertEquals(0, track.tally().rows());
    }

    // --- the threshold --------------------------------------------------------------------------------------------------

    @Test
    void aKnownThresholdIsRecovered() {
        long seed = 99;
        System.out.println("AdaDecTest seed " + seed);
        var random = new SplittableRandom(seed);
        int n = 200_000;
        var entropies = new double[n];
        var right = new boolean[n];
        // balanced by construction: for each entropy right and wrong are as likely as the logistic says, symmetric around 1.5
        for (int i = 0; i < n; i++) {
            entropies[i] = 3 * random.nextDouble();
            right[i] = random.nextDouble() < 1 / (1 + Math.exp(-(4.5 - 3 * entropies[i])));
        }
        var fit = EntropyThreshold.fit(entropies, right, 1, "synthetic");
        assertEquals(4.5, fit.intercept(), 0.1);
        assertEquals(-3, fit.slope(), 0.06);
        assertEquals(1.5, fit.threshold(), 0.1);
        assertTrue(fit.accuracy() > 0.8 && fit.accuracy() < 0.9, fit.toString());
        // the line itself, without the choice of the cut, which is flat around its best
        assertEquals(1.5, -fit.intercept() / fit.slope(), 0.03);
    }

    @Test
    void entropyThatDoesNotSeparateIsReported() {
        var random = new SplittableRandom(3);
        var entropies = random.doubles(5000).toArray();
        var inverted = new boolean[5000];
        for (int i = 0; i < 5000; i++) {
            inverted[i] = random.nextDouble() < entropies[i];
        }
        assertTrue(assertThrows(LlamaException.class, () -> EntropyThreshold.fit(entropies, inverted, 1,
                "x")).getMessage().contains("does not separate"));
        assertTrue(assertThrows(LlamaException.class, () -> EntropyThreshold.fit(entropies, new boolean[5000], 1,
                "x")).getMessage().contains("wrong at all"));
        assertThrows(LlamaException.class, () -> EntropyThreshold.fit(new double[0], new boolean[0], 1, "x"));
        assertThrows(LlamaException.class, () -> EntropyThreshold.fit(new double[] {1, 2}, new boolean[] {true, false}, 1, "x"));
    }

    @Test
    void thresholdsAreKeptPerModel(@TempDir Path folder) throws IOException {
        var file = folder.resolve("thresholds.json");
        try (var model = Model.load(Path.of("..", "models", "java-tiny-f16.gguf"))) {
            var missing = assertThrows(LlamaException.class, () -> AdaDec.learned(model, file));
            assertTrue(missing.getMessage().contains("no thresholds at"), missing.getMessage());
            Files.writeString(file, "{}");
            assertTrue(assertThrows(LlamaException.class, () -> AdaDec.learned(model, file)).getMessage().contains(model.description()));
            new EntropyThreshold(0.875, 2, -3, 0.4, 0.8, 1000, model.description()).store(file, model);
            assertEquals(0.875, AdaDec.learned(model, file).threshold());
            assertFalse(Files.exists(folder.resolve("thresholds.json.new")));
            for (var bad : List.of("[]", "{", Files.readString(file).replace("0.875", "-1"), Files.readString(file).replace("0.875",
                    "\"much\""))) {
                Files.writeString(file, bad);
                assertThrows(LlamaException.class, () -> AdaDec.learned(model, file), bad);
            }
        }
    }

    @Test
    void whatTheSamplerExcludesIsNoCandidate() {
        for (long seed = 1; seed <= 20; seed++) {
            var model = Letters.endless(TableTrack.random(SIZE, -1, 2, seed));
            var favourite = Letters.plain(model, SIZE, PROMPT, Letters.options(1))[0];
            var without = Letters.options(40).withSampling(SamplerOptions.greedy().withLogitBias(favourite, Float.NEGATIVE_INFINITY));
            assertTrue(Arrays.stream(run(AdaDec.of(0), model, without)).noneMatch(token -> token == favourite));
            // ten tokens other than each other and the prompt's, as the penalty has it
            var fresh = Letters.options(10).withSampling(SamplerOptions.greedy().withPresencePenalty(1000));
            var tokens = join(PROMPT, run(AdaDec.of(0), model, fresh));
            assertEquals(tokens.length, Arrays.stream(tokens).distinct().count(), Arrays.toString(tokens));
        }
    }

    @Test
    void aLookAheadEndsWithAStopString() {
        // token 1 with 0.4 leads to the end of a stop string, and only behind that to near-uniform steps; token 2 with 0.35 to coins
        Function<int[], float[]> model = history -> {
            var row = new float[SIZE];
            int n = history.length - PROMPT.length;
            if (n == 0) {
                row[6] = 50;
            } else if (n == 1) {
                Arrays.fill(row, (float) Math.log(0.25 / (SIZE - 2)));
                row[1] = (float) Math.log(0.4);
                row[2] = (float) Math.log(0.35);
            } else if (history[PROMPT.length + 1] == 2) {
                row[7] = row[8] = 50;
            } else if (n == 2) {
                row[3] = 50;
            }
            return row;
        };
        var options = Letters.options(3);
        assertArrayEquals(new int[] {6, 2, 7}, run(AdaDec.of(0.5), model, options));
        for (var stop : List.of("ac", "fac")) {    // token 6, f, is written before the pause
            assertArrayEquals(new int[] {6, 1, 3}, run(AdaDec.of(0.5), model, options.withStopStrings(stop)), stop);
        }
    }

    @Test
    void aRowThatIsNoDistributionIsNamedByItsPlace() {
        var sound = Letters.endless(TableTrack.random(SIZE, -1, 1, 5));
        Function<int[], float[]> broken = history -> {
            var row = sound.apply(history);
            row[7] = history.length == PROMPT.length + 3 ? Float.NaN : row[7];
            return row;
        };
        for (var settings : List.of(AdaDec.of(0), AdaDec.of(0).withReuse(false), AdaDec.of(Double.POSITIVE_INFINITY))) {
            var track = Letters.table(broken, SIZE);
            var thrown = assertThrows(SamplingException.class, () -> Letters.run(new AdaDecRun(settings, track, PROMPT, Letters.options(20),
                    Letters.IT)));
            assertTrue(thrown.getMessage().startsWith("token 4: row holds NaN"), thrown.getMessage());
            assertEquals(0, track.openForks());
        }
        var plain = assertThrows(SamplingException.class, () -> Letters.plain(broken, SIZE, PROMPT, Letters.options(20)));
        assertTrue(plain.getMessage().startsWith("token 4: row holds NaN"), plain.getMessage());
    }

    @Test
    void thePapersEndOfAFunctionIsSeen() {
        for (var over : List.of("return x\ndef", " a\n\n@b", "\n)", "\n\n\n\n\n", "x\n  \n\t\n\r\n\n")) {
            assertTrue(AdaDec.functionIsOver(over), over);
        }
        for (var goesOn : List.of("", "def f():", "a\n    b\n", "a\n\n\n\n  b", "\n\tc", "x\r\n  y")) {
            assertFalse(AdaDec.functionIsOver(goesOn), goesOn);
        }
        // the trap again: the token behind which everything is uncertain ends the function, so that nothing uncertain is left
        Function<int[], float[]> model = history -> {
            var row = new float[SIZE];
            if (history.length == PROMPT.length) {
                Arrays.fill(row, (float) Math.log(0.25 / (SIZE - 2)));
                row[1] = (float) Math.log(0.4);
                row[2] = (float) Math.log(0.35);
            }
            return row;
        };
        assertEquals(1, run(AdaDec.of(0.5).withFinished(text -> text.equals("a")), model, Letters.options(1))[0]);
        assertEquals(2, run(AdaDec.of(0.5).withFinished(text -> text.equals("b")), model, Letters.options(1))[0]);
    }
}
