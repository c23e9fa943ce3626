package io.github.panamallama.quantization;

import java.util.Arrays;
import java.util.function.IntConsumer;
import java.util.stream.IntStream;

/**
 * Arithmetic on lower triangular matrices, {@code [n][]} with {@code i + 1} values in row i, in blocks and by all processors. The compiler
 * makes vector instructions of a loop only if it takes all arrays at the same index, which is what the layouts here are for.
 */
final class Triangle {
    /** Columns that are eliminated at once. */
    private static final int BLOCK = 64;
    /** Columns that are changed while what they are changed by, {@code [BLOCK][TILE]}, is in the processor's cache. */
    static final int TILE = 512;

    private Triangle() {
    }

    /** A matrix of zeros. */
    static double[][] zeros(int n) {
        var rows = new double[n][];
        Arrays.setAll(rows, i -> new double[i + 1]);
        return rows;
    }

    /** {@code to += factor * from}, from one index to before another. */
    static void add(double[] to, double factor, double[] from, int begin, int end) {
        for (int i = begin; i < end; i++) {
            to[i] += factor * from[i];
        }
    }

    /** {@code to += sum of factors[at + k] * from[first + k]} over {@code count} rows, from one index to before another. */
    static void add(double[] to, double[] factors, int at, int count, double[][] from, int first, int begin, int end) {
        int k = 0;
        for (; k + 4 <= count; k += 4) {
            addFour(to, factors[at + k], factors[at + k + 1], factors[at + k + 2], factors[at + k + 3],
                    from[first + k], from[first + k + 1], from[first + k + 2], from[first + k + 3], begin, end);
        }
        for (; k < count; k++) {
            add(to, factors[at + k], from[first + k], begin, end);
        }
    }

    private static void addFour(double[] to, double fa, double fb, double fc, double fd, double[] a, double[] b, double[] c, double[] d,
            int begin, int end) {
        for (int i = begin; i < end; i++) {
            to[i] += (fa * a[i] + fb * b[i]) + (fc * c[i] + fd * d[i]);
        }
    }

    /** Runs a task for {@code begin}, {@code begin + step} and so on to before {@code end}, on all processors. */
    static void inParallel(int begin, int end, int step, IntConsumer task) {
        IntStream.range(0, Math.ceilDiv(Math.max(0, end - begin), step)).parallel().forEach(i -> task.accept(begin + i * step));
    }

    /**
     * Cholesky's factor L of {@code A = L L^T}, in the place of A's lower triangle: {@code n^3 / 6} multiplications.
     *
     * @return whether A is finite and positive definite; if not, it is overwritten all the same
     */
    static boolean factor(double[][] a) {
        int n = a.length;
        // of the block's columns of L: rows below it, with the other sign, as rows
        var panel = new double[BLOCK][n];
        for (int first = 0; first < n; first += BLOCK) {
            int start = first;
            int end = Math.min(start + BLOCK, n);
            if (!factorBlock(a, start, end)) {
                return false;
            }
            var inverse = transposed(inverseBlock(a, start, end));
            inParallel(end, n, BLOCK, low -> {
                for (int row = low; row < Math.min(low + BLOCK, n); row++) {
                    belowBlock(a[row], start, inverse, panel, row);
                }
            });
            inParallel(end, n, BLOCK, low -> {
                int high = Math.min(low + BLOCK, n);
                for (int tile = end; tile < high; tile += TILE) {
                    for (int row = Math.max(low, tile); row < high; row++) {
                        add(a[row], a[row], start, end - start, panel, 0, tile, Math.min(tile + TILE, row + 1));
                    }
                }
            });
        }
        return true;
    }

    /** Of the block on the diagonal: by the definition. */
    private static boolean factorBlock(double[][] a, int start, int end) {
        for (int i = start; i < end; i++) {
            for (int j = start; j <= i; j++) {
                double sum = a[i][j];
                for (int k = start; k < j; k++) {
                    sum -= a[i][k] * a[j][k];
                }
                if (i > j) {
                    a[i][j] = sum / a[j][j];
                } else if (sum > 0 && sum < Double.POSITIVE_INFINITY) {
                    a[i][i] = Math.sqrt(sum);
                } else {
                    return false;
                }
            }
        }
        return true;
    }

    /** A row below a block of L: {@code x L_block^T = a}. */
    private static void belowBlock(double[] row, int start, double[][] inverse, double[][] panel, int column) {
        int count = inverse.length;
        var x = new double[count];
        add(x, row, start, count, inverse, 0, 0, count);
        for (int i = 0; i < count; i++) {
            row[start + i] = x[i];
            panel[i][column] = -x[i];
        }
    }

    /** The inverse of a block on the diagonal, {@code [count][count]}, row by row: {@code X_i = (e_i - sum of L_ik X_k) / L_ii}. */
    private static double[][] inverseBlock(double[][] a, int start, int end) {
        int count = end - start;
        var inverse = new double[count][count];
        for (int i = 0; i < count; i++) {
            add(inverse[i], a[start + i], start, i, inverse, 0, 0, i);
            double pivot = a[start + i][start + i];
            for (int k = 0; k < i; k++) {
                inverse[i][k] /= -pivot;
            }
            inverse[i][i] = 1 / pivot;
        }
        return inverse;
    }

    private static double[][] transposed(double[][] square) {
        var transposed = new double[square.length][square.length];
        for (int i = 0; i < square.length; i++) {
            for (int j = 0; j < square.length; j++) {
                transposed[j][i] = square[i][j];
            }
        }
        return transposed;
    }

    /** The inverse of L in its place: {@code n^3 / 6} multiplications. */
    static void invert(double[][] l) {
        int n = l.length;
        var products = new double[BLOCK][n];
        for (int first = 0; first < n; first += BLOCK) {
            int start = first;
            int count = Math.min(BLOCK, n - start);
            var inverse = inverseBlock(l, start, start + count);
            // rows above are inverted already: X_block = -L_block^-1 (L_left X_above)
            inParallel(0, start, TILE, tile -> {
                int end = Math.min(tile + TILE, start);
                for (int i = 0; i < count; i++) {
                    Arrays.fill(products[i], tile, end, 0);
                    for (int k = tile; k < end; k++) {      // rows that end within the tile
                        add(products[i], l[start + i][k], l[k], tile, k + 1);
                    }
                }
                for (int k = end; k < start; k += BLOCK) {
                    for (int i = 0; i < count; i++) {
                        add(products[i], l[start + i], k, Math.min(BLOCK, start - k), l, k, tile, end);
                    }
                }
            });
            for (double[] row : inverse) {
                for (int k = 0; k < count; k++) {
                    row[k] = -row[k];
                }
            }
            inParallel(0, start, TILE, tile -> {
                int end = Math.min(tile + TILE, start);
                for (int i = 0; i < count; i++) {
                    Arrays.fill(l[start + i], tile, end, 0);
                    add(l[start + i], inverse[i], 0, i + 1, products, 0, tile, end);
                }
            });
            for (int i = 0; i < count; i++) {
                for (int k = 0; k <= i; k++) {
                    l[start + i][start + k] = -inverse[i][k];
                }
            }
        }
    }
}
