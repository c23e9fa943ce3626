package io.github.panamallama.bench;

import java.util.Arrays;
import java.util.Locale;
import java.util.SplittableRandom;

/**
 * A ratio of sums, and the middle 95 % of what it is when whole groups (files) are drawn anew with replacement. The same for the same
 * input.
 */
record Bootstrap(double value, double low, double high) {
    private static final int RESAMPLES = 2000;

    /**
     * @param above  summands of the numerator {@code [n]}
     * @param below  summands of the denominator {@code [n]}
     * @param groups the group of each {@code [n]}; those of one group are drawn together
     */
    static Bootstrap ratio(double[] above, double[] below, int[] groups) {
        if (above.length == 0 || above.length != below.length || above.length != groups.length) {
            throw new IllegalArgumentException(above.length + " over " + below.length + " values of " + groups.length + " groups");
        }
        int count = 1 + Arrays.stream(groups).max().getAsInt();
        var tops = new double[count];
        var bottoms = new double[count];
        var present = new boolean[count];
        for (int i = 0; i < groups.length; i++) {
            tops[groups[i]] += above[i];
            bottoms[groups[i]] += below[i];
            present[groups[i]] = true;
        }
        int n = 0;
        for (int g = 0; g < count; g++) {
            if (present[g]) {
                tops[n] = tops[g];
                bottoms[n++] = bottoms[g];
            }
        }
        var random = new SplittableRandom(1);
        var ratios = new double[RESAMPLES];
        for (int r = 0; r < RESAMPLES; r++) {
            double top = 0;
            double bottom = 0;
            for (int i = 0; i < n; i++) {
                int g = random.nextInt(n);
                top += tops[g];
                bottom += bottoms[g];
            }
            ratios[r] = top / bottom;
        }
        Arrays.sort(ratios);
        double value = Arrays.stream(above).sum() / Arrays.stream(below).sum();
        return new Bootstrap(value, ratios[RESAMPLES / 40], ratios[RESAMPLES - 1 - RESAMPLES / 40]);
    }

    /** The same of a mean. */
    static Bootstrap mean(double[] values, int[] groups) {
        var ones = new double[values.length];
        Arrays.fill(ones, 1);
        return ratio(values, ones, groups);
    }

    String percent() {
        return String.format(Locale.ROOT, "%.1f %% (%.1f to %.1f)", 100 * value, 100 * low, 100 * high);
    }

    String signedPercent() {
        return String.format(Locale.ROOT, "%+.1f (%+.1f to %+.1f)", 100 * value, 100 * low, 100 * high);
    }

    String plain() {
        return String.format(Locale.ROOT, "%.4f (%.4f to %.4f)", value, low, high);
    }
}
