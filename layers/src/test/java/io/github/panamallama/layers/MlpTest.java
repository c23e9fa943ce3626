package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class MlpTest {
    private static final double[] WEIGHTS = {0.9, 0.8, 1.3};

    private static float[][] windows(int count, int width, SplittableRandom random) {
        var windows = new float[count][width];
        for (float[] window : windows) {
            for (int j = 0; j < width; j++) {
                window[j] = (float) random.nextGaussian();
            }
        }
        return windows;
    }

    @Test
    void theGradientIsThatOfTheLoss() {
        long seed = 3;
        var random = new SplittableRandom(seed);
        var network = Mlp.random(7, 5, random);
        double worst = 0;
        for (int label = 0; label < Mlp.CLASSES; label++) {
            for (double gamma : new double[] {0, 1, 2}) {
                var windows = windows(3, 7, random);
                double[] p = network.parameters();
                var gradient = new double[p.length];
                network.loss(windows, label, WEIGHTS, gamma, 1, gradient);
                for (int i = 0; i < p.length; i++) {
                    double step = 1e-5;
                    double at = p[i];
                    p[i] = at + step;
                    double above = network.loss(windows, label, WEIGHTS, gamma, 0, new double[p.length]);
                    p[i] = at - step;
                    double below = network.loss(windows, label, WEIGHTS, gamma, 0, new double[p.length]);
                    p[i] = at;
                    double numeric = (above - below) / (2 * step);
                    worst = Math.max(worst, Math.abs(numeric - gradient[i]) / Math.max(1e-3, Math.abs(numeric)));
                }
            }
        }
        assertTrue(worst < 1e-6, "seed " + seed + ": off by " + worst);
    }

    @Test
    void withoutFocusTheLossIsTheWeightedCrossEntropy() {
        var random = new SplittableRandom(4);
        var network = Mlp.random(7, 5, random);
        var windows = windows(2, 7, random);
        double[] z = network.logits(windows);
        double sum = Math.exp(z[0]) + Math.exp(z[1]) + Math.exp(z[2]);
        for (int label = 0; label < Mlp.CLASSES; label++) {
            double p = Math.exp(z[label]) / sum;
            var unused = new double[network.parameters().length];
            assertEquals(-WEIGHTS[label] * Math.log(p), network.loss(windows, label, WEIGHTS, 0, 0, unused), 1e-12);
            assertEquals(-WEIGHTS[label] * (1 - p) * (1 - p) * Math.log(p), network.loss(windows, label, WEIGHTS, 2, 0, unused), 1e-12);
        }
    }

    @Test
    void logitsAreTheMeanOverTheWindows() {
        var random = new SplittableRandom(5);
        var network = Mlp.random(4, 6, random);
        var windows = windows(2, 4, random);
        double[] first = network.logits(new float[][] {windows[0]});
        double[] second = network.logits(new float[][] {windows[1]});
        double[] both = network.logits(windows);
        for (int c = 0; c < Mlp.CLASSES; c++) {
            assertEquals((first[c] + second[c]) / 2, both[c], 1e-12);
        }
    }

    @Test
    void theRateRisesThenFallsAsACosine() {
        var optimiser = new AdamW(1, 1e-3, 0, 10, 110);
        assertEquals(1e-4, optimiser.rate(0), 1e-12);
        assertEquals(1e-3, optimiser.rate(9), 1e-12);
        assertEquals(1e-3, optimiser.rate(10), 1e-12);
        assertEquals(5e-4, optimiser.rate(60), 1e-12);
        assertEquals(0, optimiser.rate(110), 1e-12);
    }

    @Test
    void theFirstStepIsTheRateAgainstTheSignAndTheDecay() {
        var optimiser = new AdamW(2, 0.1, 0.5, 0, 1000);
        var p = new double[] {2, -4};
        optimiser.step(p, new double[] {3, -0.01});
        assertEquals(2 - 0.1 * (1 + 0.5 * 2), p[0], 1e-6);
        assertEquals(-4 - 0.1 * (-1 - 0.5 * 4), p[1], 1e-6);
    }
}
