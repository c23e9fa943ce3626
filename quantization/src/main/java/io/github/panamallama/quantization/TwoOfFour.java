package io.github.panamallama.quantization;

/** Masks of 2:4 sparse weights: of every {@value #GROUP} consecutive weights of a row, {@value #KEPT} are kept. */
final class TwoOfFour {
    static final int GROUP = 4;
    static final int KEPT = 2;

    private TwoOfFour() {
    }

    /**
     * Sets all to 0 but the weights with the largest {@code |w| norm} of each group, of equal ones the first.
     *
     * @param weights {@code [rows][columns]}, columns a multiple of {@value #GROUP}
     * @param norms   of the input's columns, {@code [columns]} (Wanda: Sun et al., arXiv 2306.11695); null for all alike (magnitude)
     */
    static void prune(float[] weights, int rows, int columns, double[] norms) {
        var score = new double[GROUP];
        for (int row = 0; row < rows; row++) {
            for (int column = 0; column < columns; column += GROUP) {
                int at = row * columns + column;
                for (int i = 0; i < GROUP; i++) {
                    score[i] = Math.abs(weights[at + i]) * (norms == null ? 1 : norms[column + i]);
                }
                int kept = largest(score);
                for (int i = 0; i < GROUP; i++) {
                    if ((kept >> i & 1) == 0) {
                        weights[at + i] = 0;
                    }
                }
            }
        }
    }

    /** The {@value #KEPT} largest of a group as bits, of equal ones the first. */
    static int largest(double[] score) {
        int kept = 0;
        for (int n = 0; n < KEPT; n++) {
            int best = -1;
            for (int i = 0; i < GROUP; i++) {
                if ((kept >> i & 1) == 0 && (best < 0 || score[i] > score[best])) {
                    best = i;
                }
            }
            kept |= 1 << best;
        }
        return kept;
    }

    /** The first group of the first {@code count} weights in which more than {@value #KEPT} are not 0; -1 if there is none. */
    static int firstFault(float[] weights, int count) {
        for (int at = 0; at < count; at += GROUP) {
            int used = 0;
            for (int i = at; i < at + GROUP; i++) {
                used += weights[i] != 0 ? 1 : 0;
            }
            if (used > KEPT) {
                return at / GROUP;
            }
        }
        return -1;
    }
}
