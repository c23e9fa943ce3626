package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Comparator;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class RowMathTest {
    private static final float INF = Float.POSITIVE_INFINITY;

    private static Row row(float... logits) {
        var row = new Row(logits.length);
        row.copyFrom(logits);
        return row;
    }

    /** Logits with many ties, excluded tokens, both zeros and a few peaks. */
    private static float[] random(Random random, int n) {
        var logits = new float[n];
        float spread = (float) Math.pow(10, random.nextDouble() * 3 - 1.5);
        boolean ties = random.nextBoolean();
        for (int i = 0; i < n; i++) {
            float x = (float) random.nextGaussian() * spread;
            logits[i] = ties ? Math.round(x * 4) / 4f : x;
            if (random.nextInt(10) == 0) {
                logits[i] = -INF;
            }
        }
        logits[random.nextInt(n)] = random.nextFloat();
        return logits;
    }

    private static Integer[] byLogit(float[] logits) {
        return IntStream.range(0, logits.length).boxed()
                .filter(i -> logits[i] > -INF)
                .sorted(Comparator.comparingDouble((Integer i) -> -(logits[i] + 0.0)).thenComparing(i -> i))
                .toArray(Integer[]::new);
    }

    private static double logSumExp(float[] logits) {
        double max = -INF;
        for (float x : logits) {
            max = Math.max(max, x);
        }
        double sum = 0;
        for (float x : logits) {
            sum += Math.exp(x - max);
        }
        return max + Math.log(sum);
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 15, 16, 17, 127, 128, 129, 1023, 1025, 5000, 32000, 151936})
    void agreesWithThePlainComputation(int n) {
        long seed = 20_000 + n;
        System.out.println("RowMathTest n " + n + " seed " + seed);
        var random = new Random(seed);
        for (int round = 0; round < (n > 10_000 ? 6 : 60); round++) {
            float[] logits = random(random, n);
            var row = row(logits);
            var sorted = byLogit(logits);

            assertEquals(sorted[0], RowMath.argmax(row));
            assertEquals(logits[sorted[0]], RowMath.max(row));
            double denominator = logSumExp(logits);
            assertEquals(denominator, RowMath.logSumExp(row), 1e-6 * Math.max(1, Math.abs(denominator)));
            int token = sorted[random.nextInt(sorted.length)];
            assertEquals(logits[token] - denominator, RowMath.logProbability(row, token), 1e-6 * Math.max(1, Math.abs(denominator)));

            double entropy = 0;
            for (int i : sorted) {
                double p = Math.exp(logits[i] - denominator);
                entropy -= p > 0 ? p * Math.log(p) : 0;
            }
            assertEquals(entropy, RowMath.entropy(row), 1e-5 * Math.max(1, entropy));

            for (int k : new int[] {1, 2, 40, 1 + random.nextInt(n), n}) {
                var top = new Candidates(Math.max(k, n));
                int size = RowMath.topK(row, k, top);
                assertEquals(Math.min(k, sorted.length), size);
                for (int i = 0; i < size; i++) {
                    assertEquals(sorted[i], top.token(i), "rank " + i + " of " + k);
                    assertEquals(logits[sorted[i]], top.value(i), 0.0f);
                }
            }

            float threshold = logits[sorted[random.nextInt(sorted.length)]];
            int[] above = IntStream.range(0, n).filter(i -> logits[i] > threshold).toArray();
            var found = new Candidates(n);
            assertEquals(above.length, RowMath.above(row, threshold, found));
            assertArrayEquals(above, IntStream.range(0, found.size()).map(found::token).toArray());

            assertArrayEquals(logits, row.toArray(), "the row is only read");
            float temperature = 0.2f + random.nextFloat() * 2;
            RowMath.softmax(row, temperature);
            double[] warm = new double[n];
            double sum = 0;
            for (int i = 0; i < n; i++) {
                sum += warm[i] = Math.exp((logits[i] - logits[sorted[0]]) / temperature);
            }
            for (int i = 0; i < n; i++) {
                // the exponent is rounded to single precision: an absolute error of its size times 2^-23 becomes a relative one
                double distance = Math.min(100, (logits[sorted[0]] - logits[i]) / temperature);
                assertEquals(warm[i] / sum, row.get(i), (1e-6 + distance * 0x1p-22) * warm[i] / sum + 1e-37);
            }
        }
    }

    @Test
    void lowestTokenWinsTies() {
        assertEquals(1, RowMath.argmax(row(-1, 5, 5, 5)));
        assertEquals(0, RowMath.argmax(row(-0.0f, 0.0f)));
        var top = new Candidates(2);
        RowMath.topK(row(0.0f, 7, -0.0f, 0.0f), 2, top);
        assertEquals(1, top.token(0));
        assertEquals(0, top.token(1));
        var flat = new float[3000];
        Arrays.fill(flat, -3);
        var many = new Candidates(700);
        RowMath.topK(row(flat), 700, many);
        assertArrayEquals(IntStream.range(0, 700).toArray(), IntStream.range(0, 700).map(many::token).toArray());
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 16, 17, 300, 5000})
    void everyFunctionRefusesNanWithItsToken(int n) {
        for (float bad : new float[] {Float.NaN, Float.intBitsToFloat(0xffc00000), Float.intBitsToFloat(0x7f800001), INF}) {
            for (int at : new int[] {0, n / 2, n - 1}) {
                var logits = new float[n];
                logits[at] = bad;
                var row = row(logits);
                var into = new Candidates(n);
                String expected = "row holds " + (Float.isNaN(bad) ? "NaN" : "+infinity") + " at token " + at;
                for (Runnable use : new Runnable[] {
                    () -> RowMath.argmax(row), () -> RowMath.max(row), () -> RowMath.logSumExp(row), () -> RowMath.entropy(row),
                    () -> RowMath.logProbability(row, 0), () -> RowMath.topK(row, 1, into), () -> RowMath.above(row, 0, into),
                    () -> RowMath.softmax(row, 1), () -> RowMath.sample(row, 0, 1, 0, 1, 0.5),
                            () -> RowMath.sample(row, 5, 0.9f, 0.1f, 1, 0.5),
                    () -> RowMath.sample(row, 0, 0.9f, 0, 0, 0.5), () -> RowMath.distribution(row, 0, 0.9f, 0, 1, into)}) {
                    var thrown = assertThrows(SamplingException.class, use::run);
                    assertTrue(thrown.getMessage().startsWith(expected), thrown.getMessage());
                }
                assertArrayEquals(logits, row.toArray(), "a refused row is left alone");
            }
        }
    }

    @Test
    void refusesARowWithoutAnyToken() {
        var logits = new float[200];
        Arrays.fill(logits, -INF);
        var row = row(logits);
        var into = new Candidates(200);
        for (Runnable use : new Runnable[] {
            () -> RowMath.argmax(row), () -> RowMath.logSumExp(row), () -> RowMath.entropy(row), () -> RowMath.topK(row, 3, into),
            () -> RowMath.softmax(row, 1), () -> RowMath.sample(row, 0, 1, 0, 1, 0), () -> RowMath.sample(row, 3, 0.5f, 0, 1, 0)}) {
            var thrown = assertThrows(SamplingException.class, use::run);
            assertTrue(thrown.getMessage().startsWith("all 200 tokens of the row are at -infinity"), thrown.getMessage());
        }
    }

    @Test
    void excludedTokensAreNeverSelected() {
        var row = row(-INF, 1, -INF, 2, -INF);
        var into = new Candidates(5);
        assertEquals(2, RowMath.topK(row, 5, into));
        assertEquals(3, into.token(0));
        for (double u : new double[] {0, 0.5, Math.nextDown(1.0)}) {
            for (float topP : new float[] {1, 0.999f}) {
                int token = RowMath.sample(row, 0, topP, 0, 1, u);
                assertTrue(token == 1 || token == 3, "token " + token);
            }
        }
    }

    @Test
    void extremeLogitsAndTemperaturesStayDistributions() {
        float huge = Float.MAX_VALUE;
        assertEquals(1, RowMath.sample(row(-huge, huge), 0, 1, 0, 1, Math.nextDown(1.0)));
        assertEquals(1, RowMath.sample(row(0, 1e-3f), 0, 1, 0, Float.MIN_VALUE, Math.nextDown(1.0)));
        var into = new Candidates(2);
        assertEquals(2, RowMath.distribution(row(-50, 50), 0, 1, 0, Float.MAX_VALUE, into));
        assertEquals(0.5f, into.value(0));
        assertEquals(0.0, RowMath.entropy(row(-huge, huge)));
        assertEquals(huge, RowMath.logSumExp(row(-huge, huge)));
        assertEquals(0.0, RowMath.logProbability(row(-3), 0), 1e-12);
    }

    @Test
    void outOfRangeArgumentsAreNamed() {
        var row = row(1, 2);
        var into = new Candidates(1);
        assertThrows(SamplingException.class, () -> RowMath.logProbability(row, 2));
        assertThrows(SamplingException.class, () -> RowMath.logProbability(row, -1));
        assertThrows(IllegalArgumentException.class, () -> RowMath.topK(row, 2, into));
        assertThrows(IllegalArgumentException.class, () -> RowMath.topK(row, 0, into));
        assertThrows(IllegalArgumentException.class, () -> RowMath.softmax(row, 0));
        assertThrows(IllegalArgumentException.class, () -> RowMath.softmax(row, Float.NaN));
        assertThrows(IllegalArgumentException.class, () -> RowMath.sample(row, 0, 1, 0, 1, 1.0));
        assertThrows(IllegalArgumentException.class, () -> RowMath.sample(row, 0, Float.NaN, 0, 1, 0));
        assertThrows(IllegalArgumentException.class, () -> RowMath.sample(row, -1, 1, 0, 1, 0));
        assertThrows(IllegalArgumentException.class, () -> new Candidates(0));
        assertThrows(IndexOutOfBoundsException.class, () -> into.token(0));
    }
}
