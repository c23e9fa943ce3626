package io.github.panamallama.bench;

import java.util.List;

/**
 * What one line of the report says: our tokens per second against a baseline's, measured in alternation.
 *
 * @param part     which comparison, for instance {@code prefill}
 * @param model    name of the model
 * @param work     what both sides did, for instance {@code 128 tokens in one batch}
 * @param threads  CPU threads of each side
 * @param ours     what produced {@link Pair#ours}
 * @param baseline what produced {@link Pair#baseline}
 * @param target   ratio to reach, or 0 where the figure is only reported
 * @param pairs    one entry per alternation, in the order of measurement
 */
record Comparison(String part, String model, String work, int threads, String ours, String baseline, double target,
                  List<Pair> pairs) {

    /** Level of the interval that is stated beside each median. */
    static final double CONFIDENCE = 0.95;

    /**
     * Two measurements next to each other in time, in tokens per second.
     *
     * @param oursFirst the order, drawn at random for each pair
     */
    record Pair(double ours, double baseline, boolean oursFirst) {
        Pair {
            if (!(ours > 0) || !(baseline > 0)) {
                throw new IllegalArgumentException("not a pair of rates: " + ours + " and " + baseline + " tokens/s");
            }
        }

        double ratio() {
            return ours / baseline;
        }
    }

    Comparison {
        pairs = List.copyOf(pairs);
    }

    double medianOurs() {
        return Statistics.median(pairs.stream().mapToDouble(Pair::ours).toArray());
    }

    double medianBaseline() {
        return Statistics.median(pairs.stream().mapToDouble(Pair::baseline).toArray());
    }

    /** Median of the pairs' ratios: what disturbs both halves of a pair cancels, unlike in a ratio of medians. */
    double ratio() {
        return Statistics.median(ratios());
    }

    Statistics.Interval interval() {
        return Statistics.medianInterval(CONFIDENCE, ratios());
    }

    boolean reached() {
        return ratio() >= target;
    }

    private double[] ratios() {
        return pairs.stream().mapToDouble(Pair::ratio).toArray();
    }
}
