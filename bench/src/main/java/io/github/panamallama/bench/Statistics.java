package io.github.panamallama.bench;

import java.util.Arrays;

/** Medians and intervals that assume nothing about the distribution: timings on a shared machine are anything but normal. */
final class Statistics {
    private Statistics() {
    }

    /**
     * An interval that holds the median of the population.
     *
     * @param coverage probability that it does so, if the values are independent
     */
    record Interval(double low, double high, double coverage) {
    }

    static double median(double... values) {
        if (values.length == 0) {
            throw new IllegalArgumentException("the median of no values");
        }
        var sorted = sorted(values);
        int middle = sorted.length / 2;
        return sorted.length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }

    /**
     * The narrowest symmetric pair of order statistics whose coverage of the median is at least {@code confidence}: the number
     * of values below the median is binomial(n, 1/2), whatever the distribution. With too few values it is the whole range,
     * and {@link Interval#coverage} says what that is worth.
     */
    static Interval medianInterval(double confidence, double... values) {
        if (values.length == 0) {
            throw new IllegalArgumentException("an interval over no values");
        }
        var sorted = sorted(values);
        int n = sorted.length;
        double outside = Math.scalb(1.0, -n);        // P(fewer than rank of n values lie below the median), here for rank 1
        double term = outside;
        int rank = 1;
        while (rank + 1 <= (n + 1) / 2) {
            term = term * (n - rank + 1) / rank;
            if (2 * (outside + term) > 1 - confidence) {
                break;
            }
            outside += term;
            rank++;
        }
        return new Interval(sorted[rank - 1], sorted[n - rank], 1 - 2 * outside);
    }

    private static double[] sorted(double[] values) {
        var sorted = values.clone();
        Arrays.sort(sorted);
        return sorted;
    }
}
