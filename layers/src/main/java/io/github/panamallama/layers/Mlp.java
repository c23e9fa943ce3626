package io.github.panamallama.layers;

import java.util.SplittableRandom;

/**
 * The router of one block, {@code z = W2 gelu(W1 u + b1) + b2} with the tanh form of gelu, averaged over windows; its loss and gradient.
 *
 * <p>All parameters in one array: W1 {@code [hidden][width]}, b1 {@code [hidden]}, W2 {@code [3][hidden]}, b2 {@code [3]}.
 */
record Mlp(int width, int hidden, double[] parameters) {
    /** Skip, run, run twice. */
    static final int CLASSES = 3;

    private static final double SQRT_2_BY_PI = Math.sqrt(2 / Math.PI);

    static int size(int width, int hidden) {
        return hidden * width + hidden + CLASSES * hidden + CLASSES;
    }

    /** Uniform within {@code 1/sqrt(inputs)} of 0, the usual start of a linear layer. */
    static Mlp random(int width, int hidden, SplittableRandom random) {
        var parameters = new double[size(width, hidden)];
        int second = hidden * width + hidden;
        for (int i = 0; i < parameters.length; i++) {
            double bound = 1 / Math.sqrt(i < second ? width : hidden);
            parameters[i] = random.nextDouble(-bound, bound);
        }
        return new Mlp(width, hidden, parameters);
    }

    /**
     * Logits {@code [3]}, averaged over windows.
     *
     * @param windows {@code [windows][width]}
     */
    double[] logits(float[][] windows) {
        var logits = new double[CLASSES];
        var before = new double[hidden];
        for (float[] u : windows) {
            add(u, before, logits, 1.0 / windows.length);
        }
        return logits;
    }

    private void add(float[] u, double[] before, double[] logits, double factor) {
        int b1 = hidden * width;
        int w2 = b1 + hidden;
        int b2 = w2 + CLASSES * hidden;
        for (int c = 0; c < CLASSES; c++) {
            logits[c] += factor * parameters[b2 + c];
        }
        for (int k = 0; k < hidden; k++) {
            double sum = parameters[b1 + k];
            int row = k * width;
            for (int j = 0; j < width; j++) {
                sum += parameters[row + j] * u[j];
            }
            before[k] = sum;
            double after = gelu(sum);
            for (int c = 0; c < CLASSES; c++) {
                logits[c] += factor * parameters[w2 + c * hidden + k] * after;
            }
        }
    }

    /**
     * The weighted focal loss {@code -w (1-p)^gamma ln p} of one example, in nats; its gradient, times {@code scale}, is added to
     * {@code gradient}.
     *
     * @param label   class, 0 to 2
     * @param weights of the classes
     */
    double loss(float[][] windows, int label, double[] weights, double gamma, double scale, double[] gradient) {
        var before = new double[windows.length][hidden];
        var logits = new double[CLASSES];
        for (int w = 0; w < windows.length; w++) {
            add(windows[w], before[w], logits, 1.0 / windows.length);
        }
        double highest = Math.max(logits[0], Math.max(logits[1], logits[2]));
        double sum = 0;
        for (double z : logits) {
            sum += Math.exp(z - highest);
        }
        double logP = logits[label] - highest - Math.log(sum);
        double p = Math.exp(logP);
        double missing = -Math.expm1(logP);
        double focus = Math.pow(missing, gamma);
        // dp/dz_c = p ([c = label] - p_c)
        double slope = weights[label] * ((gamma == 0 ? 0 : gamma * Math.pow(missing, gamma - 1) * p * logP) - focus);
        var dz = new double[CLASSES];
        for (int c = 0; c < CLASSES; c++) {
            dz[c] = scale * slope * ((c == label ? 1 : 0) - Math.exp(logits[c] - highest) / sum) / windows.length;
        }
        for (int w = 0; w < windows.length; w++) {
            back(windows[w], before[w], dz, gradient);
        }
        return -weights[label] * focus * logP;
    }

    private void back(float[] u, double[] before, double[] dz, double[] gradient) {
        int b1 = hidden * width;
        int w2 = b1 + hidden;
        int b2 = w2 + CLASSES * hidden;
        for (int c = 0; c < CLASSES; c++) {
            gradient[b2 + c] += dz[c];
        }
        for (int k = 0; k < hidden; k++) {
            double after = gelu(before[k]);
            double d = 0;
            for (int c = 0; c < CLASSES; c++) {
                gradient[w2 + c * hidden + k] += dz[c] * after;
                d += dz[c] * parameters[w2 + c * hidden + k];
            }
            d *= geluSlope(before[k]);
            gradient[b1 + k] += d;
            int row = k * width;
            for (int j = 0; j < width; j++) {
                gradient[row + j] += d * u[j];
            }
        }
    }

    private static double gelu(double x) {
        return 0.5 * x * (1 + Math.tanh(SQRT_2_BY_PI * (x + 0.044715 * x * x * x)));
    }

    private static double geluSlope(double x) {
        double tanh = Math.tanh(SQRT_2_BY_PI * (x + 0.044715 * x * x * x));
        return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * SQRT_2_BY_PI * (1 + 3 * 0.044715 * x * x);
    }
}
