package io.github.panamallama.quantization;

import io.github.panamallama.runtime.LlamaException;
import java.util.Arrays;
import java.util.stream.IntStream;

/**
 * {@code X^T X} of a weight's inputs X {@code [tokens][columns]}: the Hessian of the squared error of the weight's product, but for a
 * factor of 2. Takes {@code 8 columns^2} bytes, and {@code columns^2 / 2} multiplications per token. Not safe for use by several threads
 * at once; {@link #absorb} itself uses all processors.
 */
final class GramMatrix {
    /** Most columns whose square is the length of an array. */
    private static final int MAX_COLUMNS = 46_340;
    /** Rows of the matrix that one task adds to. */
    private static final int TASK_ROWS = 64;
    /** Inputs that are added together: each value of the matrix is read and written once for all of them. */
    private static final int BATCH = 64;

    final int columns;
    /** {@code [columns][columns]}; only the lower triangle, the diagonal included, is filled. */
    final double[] values;
    private final double[][] batch;
    private int waiting;
    private long tokens;

    /** @throws LlamaException if there are more columns than {@value #MAX_COLUMNS} */
    GramMatrix(int columns) {
        if (columns > MAX_COLUMNS) {
            throw new LlamaException("inputs of " + columns + " columns; at most " + MAX_COLUMNS
                    + " can be multiplied with each other, prune such weights by magnitude or Wanda's score");
        }
        this.columns = columns;
        values = new double[columns * columns];
        batch = new double[BATCH][columns];
    }

    /** Bytes of one with so many columns. */
    static long bytes(long columns) {
        return Double.BYTES * columns * (columns + BATCH);
    }

    void add(float[] input) {
        double[] row = batch[waiting++];
        for (int i = 0; i < columns; i++) {
            row[i] = input[i];
        }
        tokens++;
        if (waiting == BATCH) {
            absorb();
        }
    }

    /** Adds what waits to {@link #values}. */
    void absorb() {
        // four inputs at a time, the last of them filled up with zeros
        int count = (waiting + 3) / 4 * 4;
        for (int i = waiting; i < count; i++) {
            Arrays.fill(batch[i], 0);
        }
        if (count > 0) {
            IntStream.range(0, Math.ceilDiv(columns, TASK_ROWS)).parallel()
                    .forEach(task -> absorb(task * TASK_ROWS, Math.min(columns, (task + 1) * TASK_ROWS), count));
        }
        waiting = 0;
    }

    private void absorb(int from, int to, int count) {
        for (int row = from; row < to; row++) {
            int start = row * columns;
            for (int i = 0; i < count; i += 4) {
                addFour(values, start, row + 1, batch[i], batch[i + 1], batch[i + 2], batch[i + 3], row);
            }
        }
    }

    private static void addFour(double[] to, int start, int length, double[] a, double[] b, double[] c, double[] d, int at) {
        double fa = a[at];
        double fb = b[at];
        double fc = c[at];
        double fd = d[at];
        for (int j = 0; j < length; j++) {
            to[start + j] += fa * a[j] + fb * b[j] + (fc * c[j] + fd * d[j]);
        }
    }

    /** The diagonal: what {@link ColumnSquares} would have been. */
    ColumnSquares squares() {
        var sums = new double[columns];
        for (int i = 0; i < columns; i++) {
            sums[i] = values[i * columns + i];
        }
        return new ColumnSquares(sums, tokens);
    }
}
