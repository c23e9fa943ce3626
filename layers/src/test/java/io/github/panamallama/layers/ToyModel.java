package io.github.panamallama.layers;

import io.github.panamallama.runtime.LayerPlan;
import java.util.SplittableRandom;

/** A residual network of random blocks, of unequal strength, that classifies random vectors: small enough to try every plan. */
final class ToyModel {
    private static final int WIDTH = 12;
    private static final int CLASSES = 500;

    final int blocks;
    private final double[][][] weights;
    private final double[][] head;

    ToyModel(int blocks, SplittableRandom random) {
        this.blocks = blocks;
        weights = new double[blocks][][];
        for (int block = 0; block < blocks; block++) {
            weights[block] = matrix(WIDTH, Math.exp(random.nextDouble(-2, 1)), random);
        }
        head = matrix(CLASSES, 1, random);
    }

    private static double[][] matrix(int rows, double scale, SplittableRandom random) {
        var matrix = new double[rows][WIDTH];
        for (double[] row : matrix) {
            for (int j = 0; j < WIDTH; j++) {
                row[j] = scale * random.nextGaussian() / Math.sqrt(WIDTH);
            }
        }
        return matrix;
    }

    /** A vector and the class that it shall get: three times in ten one that the whole model does not give it. */
    LabelSearch.Task question(SplittableRandom random) {
        var input = new double[WIDTH];
        for (int j = 0; j < WIDTH; j++) {
            input[j] = random.nextGaussian();
        }
        int own = answer(input, LayerPlan.all(blocks));
        int wanted = random.nextInt(10) < 7 ? own : answer(input, LayerPlan.all(blocks).repeat(random.nextInt(blocks), 2));
        return plan -> answer(input, plan) == wanted;
    }

    private int answer(double[] input, LayerPlan plan) {
        double[] h = input.clone();
        for (int block = 0; block < blocks; block++) {
            for (int run = 0; run < plan.runs(block); run++) {
                double[] change = times(weights[block], h);
                for (int j = 0; j < WIDTH; j++) {
                    h[j] += Math.tanh(change[j]);
                }
            }
        }
        double[] z = times(head, h);
        int best = 0;
        for (int c = 1; c < CLASSES; c++) {
            best = z[c] > z[best] ? c : best;
        }
        return best;
    }

    private static double[] times(double[][] matrix, double[] x) {
        var y = new double[matrix.length];
        for (int i = 0; i < y.length; i++) {
            for (int j = 0; j < x.length; j++) {
                y[i] += matrix[i][j] * x[j];
            }
        }
        return y;
    }
}
