package io.github.panamallama.sampling.strategy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.SamplingException;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.FiniteConstraint;
import io.github.panamallama.sampling.track.TableTrack;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Function;
import org.junit.jupiter.api.Test;

class UscdTest {
    private static final int SIZE = 12;
    private static final int[] PROMPT = {3, 5, 7, 2};
    private static final int[] LAME = {3, 5, 2};

    private static Decoding start(Uscd settings, Function<int[], float[]> model, StrategyOptions options, boolean lazy) {
        return new Decoding(new UscdRun(settings, Letters.table(model, SIZE), PROMPT, options, Letters.IT, lazy));
    }

    private static Row row(double... values) {
        var row = new Row(values.length);
        for (int i = 0; i < values.length; i++) {
            row.set(i, (float) values[i]);
        }
        return row;
    }

    @Test
    void theHandCaseComesOut() {
        var p = row(0.4, 0.35, 0.2, 0.05);
        assertTrue(Contrast.scores(p, row(0.5, 0.1, 0.35, 0.05), Uscd.of(LAME)));
        assertEquals(Math.log(0.05), p.get(0), 1e-5);
        assertEquals(Math.log(0.28), p.get(1), 1e-5);
        assertEquals(Float.NEGATIVE_INFINITY, p.get(2), "0.2 - 0.7 * 0.35 is below zero");
        assertEquals(Float.NEGATIVE_INFINITY, p.get(3), "below the cut of 1/6");
    }

    @Test
    void nothingLeftIsSaid() {
        assertFalse(Contrast.scores(row(0.5, 0.5), row(0.8, 0.8), Uscd.of(LAME)));
    }

    @Test
    void nothingLeftFallsBackToThePlainDistribution() {
        // the kept tokens hold 0.6 of the mass, the lame prompt is sure of each of them in turn
        Function<int[], float[]> model = history -> {
            var row = new float[SIZE];
            boolean lame = history[2] == 2;
            Arrays.fill(row, (float) Math.log(0.4 / (SIZE - 1)));
            row[1] = (float) Math.log(0.6);
            if (lame) {
                Arrays.fill(row, -30);
                row[1] = 0;
            }
            return row;
        };
        var settings = Uscd.of(LAME).withKappa(1).withEta(2);
        try (var decoding = start(settings, model, Letters.options(5), true)) {
            assertArrayEquals(new int[] {1, 1, 1, 1, 1}, Letters.run(decoding));
            assertEquals(5, decoding.work().count("fallbacks"));
        }
    }

    @Test
    void kappaIsTheSameTestAsTheta() {
        long seed = 5;
        System.out.println("UscdTest seed " + seed);
        var random = new SplittableRandom(seed);
        int border = 0;
        for (int size : new int[] {2, 5, 100, 3000}) {
            for (int round = 0; round < 300; round++) {
                double[] p = random.doubles(size).map(x -> Math.pow(x, 1 + 40 * random.nextDouble())).toArray();
                double sum = Arrays.stream(p).sum();
                double theta = random.nextDouble() / Math.sqrt(size);
                double kappa = Uscd.kappaOf(theta * 0.99, size);
                double collision = 0;
                double variance = 0;
                for (int i = 0; i < size; i++) {
                    p[i] /= sum;
                    collision += p[i] * p[i];
                    variance += (p[i] - 1.0 / size) * (p[i] - 1.0 / size);
                }
                double sigma = Math.sqrt(variance / (size - 1));
                if (Math.abs(sigma - theta * 0.99) < 1e-9) {
                    border++;
                } else {
                    assertEquals(sigma > theta * 0.99, collision > kappa);
                }
            }
        }
        assertTrue(border < 5);
        assertEquals(0.39, Uscd.kappaOf(0.0035, 32_016), 0.005);
        assertEquals(0.80, Uscd.kappaOf(0.0050, 32_016), 0.005);
        assertEquals(0.60, Uscd.kappaOf(0.0035, 49_152), 0.005);
        var never = assertThrows(IllegalArgumentException.class, () -> Uscd.kappaOf(0.0035, 128_256));
        assertTrue(never.getMessage().startsWith("this threshold can never be reached for this vocabulary"), never.getMessage());
    }

    @Test
    void withoutContrastItIsPlainDecoding() {
        var model = Letters.endless(TableTrack.random(SIZE, -1, 2, 7));
        var options = Letters.options(300).withSampling(Letters.FREE.withSeed(4));
        var plain = Letters.plain(model, SIZE, PROMPT, options);
        assertArrayEquals(plain, Letters.run(start(Uscd.of(LAME).withKappa(0), model, options, true)), "always sure");
        assertArrayEquals(plain, Letters.run(start(Uscd.of(LAME).withKappa(1).withEta(0).withWeights(1, 0), model, options, true)),
                "nothing subtracted");
        assertArrayEquals(plain, Letters.run(start(Uscd.of(PROMPT).withKappa(1).withEta(0), model, options, true)),
                "the same prompt twice");
        try (var decoding = start(Uscd.of(PROMPT), model, options, true)) {
            decoding.advance();
            assertEquals(1, decoding.work().count("lameEqualsPrompt"));
        }
    }

    @Test
    void aLazyLamePromptChangesNothingButTheCost() {
        int steps = 0;
        long saved = 0;
        for (long seed = 0; steps < 10_000; seed++) {
            var model = Letters.endless(TableTrack.random(SIZE, -1, 3, seed));
            var options = Letters.options(250).withSampling(seed % 2 == 0 ? Letters.FREE.withSeed(seed) : Letters.options(1).sampling());
            var settings = Uscd.of(LAME).withKappa(0.4);
            try (var lazy = start(settings, model, options, true); var lockstep = start(settings, model, options, false)) {
                var tokens = Letters.run(lazy);
                assertArrayEquals(Letters.run(lockstep), tokens);
                assertEquals(lazy.work().count("contrasts"), lockstep.work().count("contrasts"));
                assertTrue(lazy.work().batches() < 2 * lockstep.work().batches());
                saved += lockstep.work().rows() - lazy.work().rows();
                steps += tokens.length;
            }
        }
        assertTrue(saved >= 0);
        // a model that is always sure never reads the lame prompt's tail
        Function<int[], float[]> sure = history -> {
            var row = new float[SIZE];
            row[1 + history.length % 5] = 20;
            return row;
        };
        try (var decoding = start(Uscd.of(LAME), sure, Letters.options(50), true)) {
            Letters.run(decoding);
            assertEquals(0, decoding.work().count("lameRows"));
            assertEquals(PROMPT.length + 49, decoding.work().rows());
        }
    }

    @Test
    void aConstraintComesBeforeTheContrast() {
        var texts = List.of(new int[] {1, 2, 3, 4}, new int[] {1, 3, 3, 1}, new int[] {2, 2, 2}, new int[] {4});
        for (long seed = 0; seed < 30; seed++) {
            var options = Letters.options(50).withConstraint(new FiniteConstraint(SIZE, texts, 0)).withConfidence(seed % 2 == 0);
            try (var decoding = start(Uscd.of(LAME).withKappa(1), TableTrack.random(SIZE, -1, 2, seed), options, true)) {
                var tokens = Letters.run(decoding);
                assertTrue(texts.stream().anyMatch(text -> Arrays.equals(text, Arrays.copyOf(tokens, tokens.length - 1))),
                        Arrays.toString(tokens));
            }
        }
    }

    @Test
    void settingsOutOfRangeAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> Uscd.of(new int[0]));
        assertThrows(IllegalArgumentException.class, () -> Uscd.of(LAME).withKappa(1.1));
        assertThrows(IllegalArgumentException.class, () -> Uscd.of(LAME).withKappa(Double.NaN));
        assertThrows(IllegalArgumentException.class, () -> Uscd.of(LAME).withEta(-1));
        assertThrows(IllegalArgumentException.class, () -> Uscd.of(LAME).withWeights(0, -1));
        assertThrows(IllegalArgumentException.class, () -> Uscd.of(LAME).withWeights(1, 0.5));
        var track = new TableTrack(SIZE, 10, TableTrack.random(SIZE, 1, 1, 1));
        assertThrows(IllegalArgumentException.class, () -> new UscdRun(Uscd.of(new int[10]), track, PROMPT, Letters.options(1), Letters.IT,
                true));
    }

    @Test
    void withoutSubtractionItIsPlainDecodingOfWhatThePlausibilityCutLeaves() {
        var model = Letters.endless(TableTrack.random(SIZE, -1, 2, 17));
        double eta = 0.5;
        Function<int[], float[]> cut = history -> {
            var row = model.apply(history);
            double sum = 0;
            for (float x : row) {
                sum += Math.exp(x);
            }
            for (int v = 0; v < SIZE; v++) {
                row[v] = Math.exp(row[v]) / sum < eta / SIZE ? Float.NEGATIVE_INFINITY : row[v];
            }
            return row;
        };
        var options = Letters.options(300).withSampling(Letters.FREE.withSeed(4));
        assertArrayEquals(Letters.plain(cut, SIZE, PROMPT, options),
                Letters.run(start(Uscd.of(LAME).withKappa(1).withEta(eta).withWeights(1, 0), model, options, true)));
    }

    @Test
    void aRowThatIsNoDistributionIsNamedByPromptAndPlace() {
        var sound = Letters.endless(TableTrack.random(SIZE, -1, 1, 5));
        for (boolean lame : new boolean[] {false, true}) {
            Function<int[], float[]> broken = history -> {
                var row = sound.apply(history);
                boolean here = lame == (history[2] == 2) && history.length == (lame ? LAME : PROMPT).length + 3;
                row[7] = here ? Float.NaN : row[7];
                return row;
            };
            for (boolean lazy : new boolean[] {false, true}) {
                var thrown = assertThrows(SamplingException.class,
                        () -> Letters.run(start(Uscd.of(LAME).withKappa(1), broken, Letters.options(20), lazy)));
                var place = lame ? "the lame prompt, token 4" : "token 4";
                assertTrue(thrown.getMessage().startsWith(place + ": row holds NaN"), thrown.getMessage());
            }
        }
    }

    @Test
    void theSequenceThatIsFullFirstEndsBothAndIsNamed() {
        var model = Letters.endless(TableTrack.random(SIZE, -1, 1, 5));
        var longLame = new int[] {3, 5, 2, 2, 2, 2, 2, 2};
        for (boolean lazy : new boolean[] {false, true}) {
            try (var decoding = new Decoding(new UscdRun(Uscd.of(longLame).withKappa(1), new TableTrack(SIZE, 12, model), PROMPT,
                    Letters.options(50), Letters.IT, lazy))) {
                assertEquals(12 - longLame.length + 1, Letters.run(decoding).length);
                assertEquals(FinishReason.CONTEXT_FULL, decoding.finishReason());
                assertEquals(1, decoding.work().count("lameFull"));
            }
            try (var decoding = new Decoding(new UscdRun(Uscd.of(LAME).withKappa(1), new TableTrack(SIZE, 12, model), PROMPT,
                    Letters.options(50), Letters.IT, lazy))) {
                assertEquals(12 - PROMPT.length + 1, Letters.run(decoding).length);
                assertEquals(FinishReason.CONTEXT_FULL, decoding.finishReason());
                assertEquals(0, decoding.work().count("lameFull"));
            }
        }
    }
}
