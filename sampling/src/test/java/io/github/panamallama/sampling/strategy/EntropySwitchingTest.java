package io.github.panamallama.sampling.strategy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.SamplingException;
import io.github.panamallama.sampling.FiniteConstraint;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.track.TableTrack;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.function.Function;
import org.junit.jupiter.api.Test;

class EntropySwitchingTest {
    private static final int SIZE = 64;
    private static final int[] PROMPT = {1, 2, 3};

    private static SwitchRun run(double threshold, int window, int dwell, Function<int[], float[]> large, Function<int[], float[]> small,
            StrategyOptions options) {
        return new SwitchRun(threshold, window, dwell, Letters.table(large, SIZE), Letters.table(small, SIZE), PROMPT, options, Letters.IT);
    }

    @Test
    void theSameModelTwiceIsOneModel() {
        for (long seed = 0; seed < 20; seed++) {
            var model = Letters.endless(TableTrack.random(SIZE, -1, 3, seed));
            for (var sampling : List.of(SamplerOptions.greedy(), Letters.FREE.withSeed(seed))) {
                var options = Letters.options(80).withSampling(sampling);
                var run = run(2 + seed / 5.0, 1 + (int) seed % 6, (int) seed % 4, model, model, options);
                assertArrayEquals(Letters.plain(model, SIZE, PROMPT, options), Letters.run(run));
            }
        }
    }

    @Test
    void aThresholdOutOfReachLeavesOneModelToDoEverything() {
        var large = Letters.endless(TableTrack.random(SIZE, -1, 3, 1));
        var small = Letters.endless(TableTrack.random(SIZE, -1, 3, 2));
        var never = run(Double.POSITIVE_INFINITY, 5, 3, large, small, Letters.options(50));
        assertArrayEquals(Letters.plain(small, SIZE, PROMPT, Letters.options(50)), Letters.run(never));
        assertEquals(0, never.work().rows(), "the large model is not asked");
        var always = run(-1, 5, 3, large, small, Letters.options(50));
        Letters.run(always);
        assertEquals(set(3, 50), always.byLarge, "from the first switch on");
    }

    private static BitSet set(int from, int to) {
        var set = new BitSet();
        set.set(from, to);
        return set;
    }

    /** Uniform over 2^k tokens, which is k bits; the best token is 1. */
    private static Function<int[], float[]> scripted(int... bits) {
        return history -> {
            var row = new float[SIZE];
            Arrays.fill(row, Float.NEGATIVE_INFINITY);
            Arrays.fill(row, 1, 1 + (1 << bits[Math.min(bits.length - 1, history.length - PROMPT.length)]), 0);
            return row;
        };
    }

    @Test
    void switchesComeWhereTheMeanOfTheWindowSaysSo() {
        // window 5, dwell 3, threshold 2 bits; entropies by position, the same for both models
        //  H      0 1 5 5 0 0 0 0 0 3 4 4 0 0
        //  mean   0 .5 2 2.75 2.2 2.2 2 1 0 .6 1.4 2.2 2.2 2.2
        // position 3 is the first above 2: the large model chooses from 4 on; at 6 the mean is 2, not above, and three tokens have passed
        var script = scripted(0, 1, 5, 5, 0, 0, 0, 0, 0, 3, 4, 4, 0, 0, 0, 0, 0, 0);
        var run = run(2, 5, 3, script, script, Letters.options(18));
        Letters.run(run);
        var expected = new BitSet();
        expected.set(4, 7);      // 4, 5, 6
        expected.set(12, 15);    // 12, 13, 14: the mean of 10..14 is 8/5
        assertEquals(expected, run.byLarge);
        assertEquals(4, run.work().count("switches"));
    }

    @Test
    void aSwitchHasToWaitForTheDwell() {
        // alternating 0 and 5 bits with a window of one asks for a switch at every token
        var script = scripted(0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5);
        var eager = run(2, 1, 0, script, script, Letters.options(10));
        Letters.run(eager);
        assertEquals(BitSet.valueOf(new long[] {0b0101010100}), eager.byLarge,
                "after each undecided position the large model has one turn");
        var patient = run(2, 1, 4, script, script, Letters.options(12));
        Letters.run(patient);
        // position 3 is undecided and the fourth token; the next decided one with four tokens since is position 8
        var expected = new BitSet();
        expected.set(4, 9);
        assertEquals(expected, patient.byLarge);
    }

    @Test
    void catchingUpIsCounted() {
        var large = Letters.endless(TableTrack.random(SIZE, -1, 3, 5));
        var small = Letters.endless(TableTrack.random(SIZE, -1, 3, 6));
        var run = run(2.5, 3, 2, large, small, Letters.options(200));
        Letters.run(run);
        var work = run.work();
        assertTrue(work.count("switches") > 5, work.toString());
        assertEquals(200, work.count("large") + work.count("small"));
        assertEquals(run.byLarge.cardinality(), work.count("large"));
        int last = run.byLarge.length() - 1;
        assertEquals(PROMPT.length + last, work.count("catchUp") + work.count("large"),
                "everything before its last token, and the rows it chose from");
        assertEquals(work.rows(), work.count("catchUp") + work.count("large"));
    }

    @Test
    void everyTokenComesFromTheRowOfTheModelThatIsNamed() {
        var large = Letters.endless(TableTrack.random(SIZE, -1, 3, 7));
        var small = Letters.endless(TableTrack.random(SIZE, -1, 3, 8));
        var run = run(2.5, 3, 2, large, small, Letters.options(200));
        var tokens = Letters.run(run);
        var history = PROMPT;
        for (int i = 0; i < tokens.length; i++) {
            var row = (run.byLarge.get(i) ? large : small).apply(history);
            int best = 0;
            for (int v = 1; v < SIZE; v++) {
                best = row[v] > row[best] ? v : best;
            }
            assertEquals(best, tokens[i]);
            history = Arrays.copyOf(history, history.length + 1);
            history[history.length - 1] = best;
        }
    }

    @Test
    void aConstraintHoldsAcrossSwitches() {
        var texts = List.of(new int[] {1, 2, 3, 4, 5, 6, 7, 8}, new int[] {1, 3, 3, 1, 1, 1, 1, 1, 2});
        for (long seed = 0; seed < 20; seed++) {
            var options = Letters.options(50).withConstraint(new FiniteConstraint(SIZE, texts, 0)).withConfidence(seed % 2 == 0);
            var tokens = Letters.run(run(2.5, 1, 0, TableTrack.random(SIZE, -1, 3, seed), TableTrack.random(SIZE, -1, 3, seed + 100),
                    options));
            assertTrue(texts.stream().anyMatch(text -> Arrays.equals(Arrays.copyOf(text, text.length + 1), tokens)),
                    Arrays.toString(tokens));
        }
    }

    @Test
    void brokenRowsAndFullContextsNameTheModel() {
        var model = Letters.endless(TableTrack.random(SIZE, -1, 3, 7));
        Function<int[], float[]> broken = history -> {
            var row = model.apply(history);
            row[5] = history.length > 6 ? Float.NaN : row[5];
            return row;
        };
        var thrown = assertThrows(SamplingException.class, () -> Letters.run(run(99, 5, 5, model, broken, Letters.options(20))));
        assertTrue(thrown.getMessage().startsWith("the small model, token 5"), thrown.getMessage());
        try (var decoding = new Decoding(new SwitchRun(99, 5, 5, new TableTrack(SIZE, 100, model), new TableTrack(SIZE, 10, model), PROMPT,
                Letters.options(50), Letters.IT))) {
            assertEquals(8, Letters.run(decoding).length);
            assertEquals(FinishReason.CONTEXT_FULL, decoding.finishReason());
        }
    }

    @Test
    void settingsOutOfRangeAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> EntropySwitching.check(Double.NaN, 5, 5));
        assertThrows(IllegalArgumentException.class, () -> EntropySwitching.check(1, 0, 5));
        assertThrows(IllegalArgumentException.class, () -> EntropySwitching.check(1, 5, -1));
        assertThrows(IllegalArgumentException.class, () -> EntropySwitching.of(null, 1));
    }

    @Test
    void theModelWhoseContextIsFullIsCounted() {
        var model = Letters.endless(TableTrack.random(SIZE, -1, 3, 7));
        for (boolean large : new boolean[] {false, true}) {
            try (var decoding = new Decoding(new SwitchRun(large ? -1 : 99, 5, 0, new TableTrack(SIZE, large ? 10 : 100, model),
                    new TableTrack(SIZE, large ? 100 : 10, model), PROMPT, Letters.options(50), Letters.IT))) {
                assertEquals(8, Letters.run(decoding).length);
                assertEquals(FinishReason.CONTEXT_FULL, decoding.finishReason());
                assertEquals(large ? 1 : 0, decoding.work().count("largeFull"));
                assertEquals(large ? 0 : 1, decoding.work().count("smallFull"));
            }
        }
    }
}
