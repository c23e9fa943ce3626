package io.github.panamallama.quantization;

import io.github.panamallama.runtime.LlamaException;
import java.util.Arrays;

/**
 * {@code X^T X} of a weight's inputs X {@code [tokens][columns]}: the Hessian of the squared error of the weight's product, but for a
 * factor of 2. Takes {@code 4 columns^2} bytes, and {@code columns^2 / 2} multiplications per token, those of {@value #BATCH} tokens summed
 * in single precision. Not safe for use by several threads at once; {@link #absorb} itself uses all processors.
 */
final class GramMatrix {
    /** Rows of the matrix that one task adds to. */
    private static final int TASK_ROWS = 64;
    /** Inputs that are added together: each value of the matrix is read and written once for all of them. */
    private static final int BATCH = 64;

    final int columns;
    /** The lower triangle, with rows and columns in reverse order, as {@link SparseGpt} factors it. */
    final double[][] reversed;
    private final float[][] batch;
    private int waiting;
    private long tokens;

    /** @throws LlamaException if there are so many columns that the Java heap can't hold it */
    GramMatrix(int columns) {
        long most = Runtime.getRuntime().maxMemory();
        if (bytes(columns) > most) {
            throw new LlamaException("the products of inputs of " + columns + " columns take " + bytes(columns)
                    + " bytes, the Java heap has at most " + most + ": allow more (-Xmx), or prune by magnitude or Wanda's score");
        }
        this.columns = columns;
        reversed = Triangle.zeros(columns);
        batch = new float[BATCH][columns];
    }

    /** Bytes of one with so many columns. */
    static long bytes(long columns) {
        return Double.BYTES * columns * (columns + BATCH) / 2;
    }

    void add(float[] input) {
        float[] row = batch[waiting++];
        for (int i = 0; i < columns; i++) {
            row[columns - 1 - i] = input[i];
        }
        tokens++;
        if (waiting == BATCH) {
            absorb();
        }
    }

    /** Adds what waits to the matrix. */
    void absorb() {
        int count = waiting;
        Triangle.inParallel(0, columns, TASK_ROWS, low -> {
            int high = Math.min(low + TASK_ROWS, columns);
            var factors = new float[count];
            var sums = new float[columns];
            for (int tile = 0; tile < high; tile += Triangle.TILE) {
                for (int row = Math.max(low, tile); row < high; row++) {
                    int end = Math.min(tile + Triangle.TILE, row + 1);
                    for (int i = 0; i < count; i++) {
                        factors[i] = batch[i][row];
                    }
                    Arrays.fill(sums, tile, end, 0);
                    addProducts(sums, factors, count, tile, end);
                    add(reversed[row], sums, tile, end);
                }
            }
        });
        waiting = 0;
    }

    /** As {@link Triangle#add}, in single precision. */
    private void addProducts(float[] to, float[] factors, int count, int begin, int end) {
        int k = 0;
        for (; k + 4 <= count; k += 4) {
            addFour(to, factors[k], factors[k + 1], factors[k + 2], factors[k + 3], batch[k], batch[k + 1], batch[k + 2], batch[k + 3],
                    begin, end);
        }
        for (; k < count; k++) {
            addFour(to, factors[k], 0, 0, 0, batch[k], batch[k], batch[k], batch[k], begin, end);
        }
    }

    private static void addFour(float[] to, float fa, float fb, float fc, float fd, float[] a, float[] b, float[] c, float[] d, int begin,
            int end) {
        for (int i = begin; i < end; i++) {
            to[i] += (fa * a[i] + fb * b[i]) + (fc * c[i] + fd * d[i]);
        }
    }

    private static void add(double[] to, float[] from, int begin, int end) {
        for (int i = begin; i < end; i++) {
            to[i] += from[i];
        }
    }

    /** The diagonal: what {@link ColumnSquares} would have been. */
    ColumnSquares squares() {
        var sums = new double[columns];
        for (int i = 0; i < columns; i++) {
            sums[columns - 1 - i] = reversed[i][i];
        }
        return new ColumnSquares(sums, tokens);
    }
}
