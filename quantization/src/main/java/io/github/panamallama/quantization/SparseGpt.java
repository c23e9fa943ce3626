package io.github.panamallama.quantization;

import io.github.panamallama.runtime.LlamaException;

/**
 * SparseGPT (Frantar and Alistarh, arXiv 2301.00774) for 2:4 masks. With H the damped {@code X^T X} of a weight's inputs and U the upper
 * triangular factor of {@code H^-1 = U^T U}, columns are visited in order. At the first of each group of 4, the two with the smallest
 * {@code w^2 / U_jj^2} are chosen to go; each that goes changes the columns behind it by {@code -(w_j / U_jj) U_j}, which makes up for it
 * as well as they can. Rows don't depend on each other.
 *
 * <p>{@code H = R R^T} with R upper triangular is {@code H^-1 = U^T U} with U = R^-1. With rows and columns in reverse order, R is
 * Cholesky's L: so everything here is in reverse, column j at index {@code columns - 1 - j}.
 *
 * <p>H is factored in its own memory: {@code 4 columns^2} bytes, {@code columns^3 / 3} multiplications; pruning takes about
 * {@code columns^2 / 4} a row.
 */
final class SparseGpt {
    /** Added to H's diagonal, in parts of its mean: the paper's. */
    static final double DAMPING = 0.01;
    /** Columns after which those behind are updated, once for all of them. */
    private static final int BLOCK = 128;
    /** Rows that are pruned together: each value of U is read once for all of them. */
    static final int ROWS = 32;

    private final int columns;
    /** In reverse, so lower triangular. */
    private final double[][] u;
    /** In reverse: columns whose input is always 0, and so their weights too. */
    private final boolean[] dead;

    /**
     * Takes a matrix over: its values are overwritten. All processors compute.
     *
     * @throws LlamaException if it can't be factored, because it has values that aren't finite
     */
    SparseGpt(GramMatrix gram) {
        columns = gram.columns;
        u = gram.reversed;
        dead = new boolean[columns];
        double mean = 0;
        for (int i = 0; i < columns; i++) {
            dead[i] = u[i][i] == 0;
            mean += u[i][i] / columns;
        }
        for (int i = 0; i < columns; i++) {
            u[i][i] += dead[i] ? (mean > 0 ? mean : 1) : DAMPING * mean;
        }
        if (!Triangle.factor(u)) {
            throw new LlamaException("the inputs of a weight can't be factored; the model computes values that are not finite");
        }
        Triangle.invert(u);
    }

    /**
     * Prunes rows and changes what is kept. Several threads may prune at once.
     *
     * @param weights {@code [rows][columns]}
     */
    void prune(float[] weights, int rows) {
        for (int first = 0; first < rows; first += ROWS) {
            prune(weights, first, Math.min(ROWS, rows - first));
        }
    }

    /** What goes from a row within a block of columns: {@code -w_j / U_jj}, and {@code U_j}. */
    private static final class Gone {
        final double[] errors = new double[BLOCK];
        final double[][] rows = new double[BLOCK][];
        int count;
    }

    private void prune(float[] weights, int first, int rows) {
        var w = new double[rows][columns];
        var gone = new Gone[rows];
        for (int row = 0; row < rows; row++) {
            for (int i = 0; i < columns; i++) {
                w[row][i] = dead[i] ? 0 : weights[(first + row + 1) * columns - 1 - i];
            }
            gone[row] = new Gone();
        }
        for (int end = columns; end > 0; end -= BLOCK) {
            int begin = Math.max(0, end - BLOCK);
            for (int row = 0; row < rows; row++) {
                pruneBlock(w[row], begin, end, gone[row]);
            }
            for (int tile = 0; tile < begin; tile += Triangle.TILE) {
                for (int row = 0; row < rows; row++) {
                    Triangle.add(w[row], gone[row].errors, 0, gone[row].count, gone[row].rows, 0, tile,
                            Math.min(tile + Triangle.TILE, begin));
                }
            }
        }
        for (int row = 0; row < rows; row++) {
            for (int i = 0; i < columns; i++) {
                weights[(first + row + 1) * columns - 1 - i] = (float) w[row][i];
            }
        }
    }

    /** Indices {@code begin} to before {@code end} of one row, the last first. */
    private void pruneBlock(double[] w, int begin, int end, Gone gone) {
        gone.count = 0;
        var score = new double[TwoOfFour.GROUP];
        int kept = 0;
        for (int i = end - 1; i >= begin; i--) {
            int inGroup = (columns - 1 - i) % TwoOfFour.GROUP;
            if (inGroup == 0) {
                for (int k = 0; k < score.length; k++) {
                    double scaled = w[i - k] / u[i - k][i - k];
                    score[k] = scaled * scaled;
                }
                kept = TwoOfFour.largest(score);
            }
            if ((kept >> inGroup & 1) != 0 || w[i] == 0) {
                continue;
            }
            double error = -w[i] / u[i][i];
            Triangle.add(w, error, u[i], begin, i);
            w[i] = 0;
            gone.errors[gone.count] = error;
            gone.rows[gone.count++] = u[i];
        }
    }
}
