package io.github.panamallama.quantization;

import io.github.panamallama.runtime.LlamaException;
import java.util.Arrays;
import org.ejml.data.DMatrixRMaj;
import org.ejml.dense.row.decomposition.chol.CholeskyDecompositionBlock_DDRM;

/**
 * SparseGPT (Frantar and Alistarh, arXiv 2301.00774) for 2:4 masks. With H the damped {@code X^T X} of a weight's inputs and U the upper
 * triangular factor of {@code H^-1 = U^T U}, columns are visited in order. At the first of each group of 4, the two with the smallest
 * {@code w^2 / U_jj^2} are chosen to go; each that goes changes the columns behind it by {@code -(w_j / U_jj) U_j}, which makes up for it
 * as well as they can. Rows don't depend on each other.
 *
 * <p>H is factored in its own memory: {@code 8 columns^2} bytes, {@code 2/3 columns^3} operations on one processor; pruning takes
 * about {@code columns^2 / 4} multiplications a row.
 */
final class SparseGpt {
    /** Added to H's diagonal, in parts of its mean: the paper's. */
    static final double DAMPING = 0.01;
    /** Columns that the factorisation takes at once. */
    private static final int CHOLESKY_BLOCK = 64;
    /** Columns after which those behind are updated, once for all of them. */
    private static final int BLOCK = 128;
    /** Columns that are updated while they are in the processor's cache. */
    private static final int TILE = 512;
    /** Rows that are pruned together: each value of U is read once for all of them. */
    static final int ROWS = 32;

    private final int columns;
    /** {@code [columns][columns]}, 0 below the diagonal. */
    private final double[] u;
    /** Columns whose input is always 0, and so their weights too. */
    private final boolean[] dead;

    /**
     * Takes a matrix over: its values are overwritten.
     *
     * @throws LlamaException if it can't be factored, because it has values that aren't finite
     */
    SparseGpt(GramMatrix gram) {
        columns = gram.columns;
        u = gram.values;
        dead = new boolean[columns];
        double mean = 0;
        for (int i = 0; i < columns; i++) {
            dead[i] = u[i * columns + i] == 0;
            mean += u[i * columns + i] / columns;
        }
        for (int i = 0; i < columns; i++) {
            u[i * columns + i] += dead[i] ? (mean > 0 ? mean : 1) : DAMPING * mean;
        }
        // H = R R^T with R upper triangular is H^-1 = U^T U with U = R^-1. With rows and columns in reverse, R is Cholesky's L.
        for (int i = 0; i < columns; i++) {
            for (int j = 0; j < i; j++) {
                u[j * columns + i] = u[i * columns + j];
            }
        }
        reverse();
        // by name: what EJML's factory gives for 1,000 columns and more can't hand its result over in the matrix's own memory
        var cholesky = new CholeskyDecompositionBlock_DDRM(CHOLESKY_BLOCK);
        var matrix = DMatrixRMaj.wrap(columns, columns, u);
        if (!Double.isFinite(mean) || !cholesky.decompose(matrix)) {
            throw new LlamaException("the inputs of a weight can't be factored; the model computes values that are not finite");
        }
        cholesky.getT(matrix);
        invertLower();
        reverse();
    }

    private void reverse() {
        for (int i = 0, j = u.length - 1; i < j; i++, j--) {
            double swapped = u[i];
            u[i] = u[j];
            u[j] = swapped;
        }
    }

    /** Row by row: {@code X_i = (e_i - sum of L_ik X_k) / L_ii}, over rows that are done. */
    private void invertLower() {
        var row = new double[columns];
        for (int i = 0; i < columns; i++) {
            int start = i * columns;
            Arrays.fill(row, 0, i, 0);
            for (int k = 0; k < i; k++) {
                add(row, 0, -u[start + k], u, k * columns, k + 1);
            }
            double pivot = u[start + i];
            for (int k = 0; k < i; k++) {
                u[start + k] = row[k] / pivot;
            }
            u[start + i] = 1 / pivot;
        }
    }

    /** {@code to += factor * from}. */
    private static void add(double[] to, int at, double factor, double[] from, int start, int length) {
        for (int i = 0; i < length; i++) {
            to[at + i] += factor * from[start + i];
        }
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

    private void prune(float[] weights, int first, int rows) {
        var w = new double[rows * columns];
        for (int i = 0; i < w.length; i++) {
            w[i] = dead[i % columns] ? 0 : weights[first * columns + i];
        }
        var errors = new double[rows * BLOCK];
        for (int start = 0; start < columns; start += BLOCK) {
            int end = Math.min(start + BLOCK, columns);
            for (int row = 0; row < rows; row++) {
                pruneBlock(w, row * columns, start, end, errors, row * BLOCK);
            }
            for (int tile = end; tile < columns; tile += TILE) {
                int length = Math.min(TILE, columns - tile);
                for (int j = start; j < end; j++) {
                    for (int row = 0; row < rows; row++) {
                        double error = errors[row * BLOCK + j - start];
                        if (error != 0) {
                            add(w, row * columns + tile, -error, u, j * columns + tile, length);
                        }
                    }
                }
            }
        }
        for (int i = 0; i < w.length; i++) {
            weights[first * columns + i] = (float) w[i];
        }
    }

    /** Columns {@code start} to {@code end} of one row; {@code errors} get {@code w_j / U_jj} of those that go and 0 of the others. */
    private void pruneBlock(double[] w, int row, int start, int end, double[] errors, int to) {
        var score = new double[TwoOfFour.GROUP];
        int kept = 0;
        for (int j = start; j < end; j++) {
            int inGroup = j % TwoOfFour.GROUP;
            if (inGroup == 0) {
                for (int i = 0; i < score.length; i++) {
                    double scaled = w[row + j + i] / u[(j + i) * columns + j + i];
                    score[i] = scaled * scaled;
                }
                kept = TwoOfFour.largest(score);
            }
            double error = (kept >> inGroup & 1) != 0 ? 0 : w[row + j] / u[j * columns + j];
            errors[to + j - start] = error;
            if (error != 0) {
                add(w, row + j, -error, u, j * columns + j, end - j);
                w[row + j] = 0;
            }
        }
    }
}
