package io.github.panamallama.quantization;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.LlamaException;
import java.util.Arrays;
import java.util.SplittableRandom;
import org.ejml.data.DMatrixRMaj;
import org.ejml.dense.row.CommonOps_DDRM;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class SparseGptTest {
    private final long seed = new SplittableRandom().nextLong();
    private final SplittableRandom random = new SplittableRandom(seed);

    SparseGptTest() {
        System.out.println("seed " + seed);
    }

    /** Inputs that are mixtures of few sources and a little noise. */
    private float[][] inputs(int tokens, int columns) {
        int sources = Math.max(2, columns / 3);
        var mixture = new double[sources][columns];
        for (double[] row : mixture) {
            Arrays.setAll(row, i -> random.nextGaussian());
        }
        var inputs = new float[tokens][columns];
        for (float[] input : inputs) {
            for (double[] row : mixture) {
                double size = random.nextGaussian();
                for (int i = 0; i < columns; i++) {
                    input[i] += (float) (size * row[i]);
                }
            }
            for (int i = 0; i < columns; i++) {
                input[i] += (float) (0.3 * random.nextGaussian());
            }
        }
        return inputs;
    }

    private float[] weights(int rows, int columns) {
        var weights = new float[rows * columns];
        for (int i = 0; i < weights.length; i++) {
            weights[i] = (float) random.nextGaussian();
        }
        return weights;
    }

    private static GramMatrix gram(float[][] inputs) {
        var gram = new GramMatrix(inputs[0].length);
        for (float[] input : inputs) {
            gram.add(input);
        }
        gram.absorb();
        return gram;
    }

    private static double product(GramMatrix gram, int i, int j) {
        int last = gram.columns - 1;
        return gram.reversed[last - Math.min(i, j)][last - Math.max(i, j)];
    }

    private static double[][] damped(float[][] inputs) {
        int n = inputs[0].length;
        var h = new double[n][n];
        double mean = 0;
        for (float[] x : inputs) {
            for (int i = 0; i < n; i++) {
                for (int j = 0; j < n; j++) {
                    h[i][j] += (double) x[i] * x[j];
                }
                mean += (double) x[i] * x[i] / n;
            }
        }
        for (int i = 0; i < n; i++) {
            h[i][i] += SparseGpt.DAMPING * mean;
        }
        return h;
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 63, 64, 130})
    void gramMatricesAreSumsOfProducts(int tokens) {
        int columns = 600;      // more than a tile
        var inputs = inputs(tokens, columns);
        var gram = gram(inputs);
        double[] squares = new double[columns];
        for (float[] x : inputs) {
            Arrays.setAll(squares, i -> squares[i] + (double) x[i] * x[i]);
        }
        for (int i = 0; i < columns; i++) {
            for (int j = 0; j <= i; j++) {
                double sum = 0;
                for (float[] x : inputs) {
                    sum += (double) x[i] * x[j];
                }
                // rounded some twenty times in single precision
                assertEquals(sum, product(gram, i, j), 2e-6 * Math.sqrt(squares[i] * squares[j]));
            }
            assertEquals(squares[i], gram.squares().sums()[i], 2e-6 * squares[i]);
        }
        assertEquals(tokens, gram.squares().tokens());
    }

    /** {@code U^T U H v = v}, for widths within and beyond one block of the factorisation and one tile. */
    @ParameterizedTest
    @ValueSource(ints = {4, 63, 64, 68, 130, 512, 1100})
    void theFactorIsThatOfTheInverse(int columns) {
        var inputs = inputs(100, columns);
        var gram = gram(inputs);
        var h = new double[columns][columns];
        double damping = 0;
        for (int i = 0; i < columns; i++) {
            for (int j = 0; j < columns; j++) {
                h[i][j] = product(gram, i, j);
            }
            damping += SparseGpt.DAMPING * h[i][i] / columns;
        }
        new SparseGpt(gram);
        double[] v = random.doubles(columns, -1, 1).toArray();
        var hv = new double[columns];
        for (int i = 0; i < columns; i++) {
            hv[i] += damping * v[i];
            for (int j = 0; j < columns; j++) {
                hv[i] += h[i][j] * v[j];
            }
        }
        var back = new double[columns];
        for (int i = 0; i < columns; i++) {
            double sum = 0;
            for (int j = i; j < columns; j++) {
                sum += product(gram, i, j) * hv[j];     // now U
            }
            for (int j = i; j < columns; j++) {
                back[j] += product(gram, i, j) * sum;
            }
        }
        assertArrayEquals(v, back, 1e-6);
    }

    /**
     * The definition, without updates: at each column, the best values of this and all later ones (least squares, where the earlier ones
     * are as decided) are found by solving equations anew; of a group, those go that cost least.
     */
    @ParameterizedTest
    @ValueSource(ints = {4, 8, 20, 128, 140})
    void resultIsThatOfLeastSquaresSolvedAnewForEachColumn(int columns) {
        var inputs = inputs(3 * columns, columns);
        var h = damped(inputs);
        int rows = columns > 100 ? 2 : 40;  // 40: more than are pruned together
        var weights = weights(rows, columns);
        var pruned = weights.clone();
        new SparseGpt(gram(inputs)).prune(pruned, rows);
        for (int row = 0; row < rows; row++) {
            var original = new double[columns];
            for (int i = 0; i < columns; i++) {
                original[i] = weights[row * columns + i];
            }
            var wanted = solvedAnew(h, original);
            for (int i = 0; i < columns; i++) {
                assertEquals(wanted[i], pruned[row * columns + i], 1e-4 * (1 + Math.abs(wanted[i])), "row " + row + " column " + i);
            }
        }
    }

    private static double[] solvedAnew(double[][] h, double[] original) {
        int n = original.length;
        var decided = original.clone();
        int kept = 0;
        for (int j = 0; j < n; j++) {
            if (j % 4 == 0) {
                var now = best(h, original, decided, j);
                var cost = new double[4];
                for (int i = 0; i < 4; i++) {
                    // (w_i^2 / 2) / [H_later^-1]_ii is what it costs to set w_i to 0 and make up for it behind
                    cost[i] = now[j + i] * now[j + i] / inverseCorner(h, j + i);
                }
                kept = TwoOfFour.largest(cost);
            }
            decided[j] = (kept >> j % 4 & 1) != 0 ? best(h, original, decided, j)[j] : 0;
        }
        return decided;
    }

    /** Columns from {@code from} on that minimise (w - original) H (w - original), the earlier as decided. */
    private static double[] best(double[][] h, double[] original, double[] decided, int from) {
        int n = original.length;
        var best = decided.clone();
        if (from == 0) {
            return original.clone();
        }
        var right = new DMatrixRMaj(n - from, 1);
        for (int i = from; i < n; i++) {
            double sum = 0;
            for (int j = 0; j < from; j++) {
                sum -= h[i][j] * (decided[j] - original[j]);
            }
            right.set(i - from, 0, sum);
        }
        var change = new DMatrixRMaj(n - from, 1);
        assertTrue(CommonOps_DDRM.solve(later(h, from), right, change));
        for (int i = from; i < n; i++) {
            best[i] = original[i] + change.get(i - from, 0);
        }
        return best;
    }

    private static double inverseCorner(double[][] h, int from) {
        var later = later(h, from);
        assertTrue(CommonOps_DDRM.invert(later));
        return later.get(0, 0);
    }

    private static DMatrixRMaj later(double[][] h, int from) {
        int n = h.length;
        var later = new DMatrixRMaj(n - from, n - from);
        for (int i = from; i < n; i++) {
            for (int j = from; j < n; j++) {
                later.set(i - from, j - from, h[i][j]);
            }
        }
        return later;
    }

    @Test
    void outputsOfCorrelatedInputsChangeLessThanUnderPlainMasks() {
        int columns = 256;
        int rows = 40;
        var inputs = inputs(600, columns);
        var weights = weights(rows, columns);
        var squares = gram(inputs).squares();
        var magnitude = weights.clone();
        TwoOfFour.prune(magnitude, rows, columns, null);
        var wanda = weights.clone();
        TwoOfFour.prune(wanda, rows, columns, squares.norms());
        var gpt = weights.clone();
        new SparseGpt(gram(inputs)).prune(gpt, rows);
        assertEquals(-1, TwoOfFour.firstFault(gpt, gpt.length));

        double byMagnitude = error(inputs, weights, magnitude, rows);
        double byWanda = error(inputs, weights, wanda, rows);
        double byGpt = error(inputs, weights, gpt, rows);
        System.out.printf("relative error of outputs: magnitude %.3f, Wanda %.3f, SparseGPT %.3f%n", byMagnitude, byWanda, byGpt);
        assertTrue(byGpt < 0.5 * Math.min(byMagnitude, byWanda), byGpt + " against " + byMagnitude + " and " + byWanda);
    }

    private static double error(float[][] inputs, float[] before, float[] after, int rows) {
        int columns = inputs[0].length;
        double error = 0;
        double size = 0;
        for (float[] x : inputs) {
            for (int row = 0; row < rows; row++) {
                double y = 0;
                double difference = 0;
                for (int i = 0; i < columns; i++) {
                    y += x[i] * before[row * columns + i];
                    difference += x[i] * (before[row * columns + i] - after[row * columns + i]);
                }
                error += difference * difference;
                size += y * y;
            }
        }
        return error / size;
    }

    @Test
    void columnsThatAreNeverUsedAreTheFirstToGo() {
        int columns = 16;
        var inputs = inputs(40, columns);
        for (float[] x : inputs) {
            x[1] = 0;
            x[2] = 0;
        }
        var weights = weights(5, columns);
        for (int row = 0; row < 5; row++) {
            weights[row * columns + 1] = 100;
            weights[row * columns + 2] = -100;
        }
        var pruned = weights.clone();
        new SparseGpt(gram(inputs)).prune(pruned, 5);
        for (int row = 0; row < 5; row++) {
            assertArrayEquals(new float[] {weights[row * columns], 0, 0, weights[row * columns + 3]},
                    Arrays.copyOfRange(pruned, row * columns, row * columns + 4));
        }
        // no input at all: nothing to make up for, and nothing to fail
        var nothing = weights(2, 8);
        new SparseGpt(gram(new float[3][8])).prune(nothing, 2);
        assertArrayEquals(new float[16], nothing);
    }

    @Test
    void inputsThatAreNotFiniteAndTooManyColumnsAreRefused() {
        var inputs = inputs(10, 8);
        inputs[3][5] = Float.NaN;
        assertTrue(assertThrows(LlamaException.class, () -> new SparseGpt(gram(inputs))).getMessage().contains("not finite"));
        assertTrue(assertThrows(LlamaException.class, () -> new GramMatrix(1 << 22)).getMessage().contains("4194304 columns"));
    }
}
