package io.github.panamallama.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class StatisticsTest {
    @Test
    void medianIsTheMiddleOrTheMeanOfTheTwoMiddleValues() {
        assertEquals(3, Statistics.median(5, 3, 1));
        assertEquals(2.5, Statistics.median(4, 1, 3, 2));
        assertThrows(IllegalArgumentException.class, Statistics::median);
    }

    /** Ranks and coverage as in tables of the sign test: n = 15 takes the 4th and the 12th value, 96.48 %. */
    @Test
    void intervalOfFifteenValuesRunsFromTheFourthToTheTwelfth() {
        var interval = Statistics.medianInterval(0.95, IntStream.rangeClosed(1, 15).asDoubleStream().toArray());
        assertEquals(4, interval.low());
        assertEquals(12, interval.high());
        assertEquals(0.9648, interval.coverage(), 5e-5);
    }

    @Test
    void intervalOfFewValuesIsTheirRangeAndSaysWhatItIsWorth() {
        var interval = Statistics.medianInterval(0.95, 7, 5, 9);
        assertEquals(5, interval.low());
        assertEquals(9, interval.high());
        assertEquals(0.75, interval.coverage(), 1e-12);
        assertEquals(0, Statistics.medianInterval(0.95, 7).coverage(), 1e-12);
    }

    @Test
    void intervalHoldsTheMedianAsOftenAsItClaims() {
        long seed = 20_251;
        System.out.println("seed " + seed);
        var random = new SplittableRandom(seed);
        int held = 0;
        int trials = 20_000;
        double claimed = 0;
        for (int t = 0; t < trials; t++) {
            var values = random.doubles(16).map(v -> v * v * v).toArray();     // skewed; its median is 1/8
            var interval = Statistics.medianInterval(0.95, values);
            claimed = interval.coverage();
            held += interval.low() <= 0.125 && 0.125 <= interval.high() ? 1 : 0;
        }
        assertTrue(claimed >= 0.95);
        assertEquals(claimed, (double) held / trials, 0.006);
    }

    @Test
    void ratioIsTakenPairByPair() {
        // the machine halves its speed for the second pair: a ratio of medians would still be 1, so is the median of ratios
        var comparison = new Comparison("part", "model", "work", 2, "ours", "theirs", 0.99, List.of(
                new Comparison.Pair(100, 100, true), new Comparison.Pair(49, 50, false), new Comparison.Pair(101, 100, true)));
        assertEquals(1.0, comparison.ratio(), 1e-12);
        assertEquals(0.98, comparison.interval().low(), 1e-12);
        assertTrue(comparison.reached());
        assertThrows(IllegalArgumentException.class, () -> new Comparison.Pair(0, 1, true));
    }
}
