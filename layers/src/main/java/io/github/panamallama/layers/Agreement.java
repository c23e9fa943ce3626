package io.github.panamallama.layers;

/**
 * How often decisions agree with labels, block by block.
 *
 * @param counts {@code [label][decision]} over skip (0), run (1) and run twice (2)
 */
public record Agreement(long[][] counts) {
    /** Share of decisions that are as the label says. */
    public double accuracy() {
        long right = 0;
        long all = 0;
        for (int label = 0; label < counts.length; label++) {
            for (int decision = 0; decision < counts.length; decision++) {
                right += label == decision ? counts[label][decision] : 0;
                all += counts[label][decision];
            }
        }
        return right / (double) all;
    }

    /** F1 of a class: the harmonic mean of precision and recall. NaN for one that is neither a label nor decided on. */
    public double f1(int runs) {
        long right = counts[runs][runs];
        long either = 0;
        for (int other = 0; other < counts.length; other++) {
            either += counts[runs][other] + counts[other][runs];
        }
        return 2.0 * right / either;
    }
}
