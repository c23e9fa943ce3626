package io.github.panamallama.layers;

/** AdamW (Loshchilov and Hutter, arXiv 1711.05101) with linear warm-up and a cosine down to 0. */
final class AdamW {
    private static final double BETA1 = 0.9;
    private static final double BETA2 = 0.999;
    private static final double EPSILON = 1e-8;

    private final double[] first;
    private final double[] second;
    private final double rate;
    private final double decay;
    private final int warmUp;
    private final int steps;
    private int step;

    AdamW(int size, double rate, double decay, int warmUp, int steps) {
        this.first = new double[size];
        this.second = new double[size];
        this.rate = rate;
        this.decay = decay;
        this.warmUp = warmUp;
        this.steps = steps;
    }

    /** One step down {@code gradient}. */
    void step(double[] parameters, double[] gradient) {
        double now = rate(step++);
        double unbias1 = 1 - Math.pow(BETA1, step);
        double unbias2 = 1 - Math.pow(BETA2, step);
        for (int i = 0; i < parameters.length; i++) {
            first[i] = BETA1 * first[i] + (1 - BETA1) * gradient[i];
            second[i] = BETA2 * second[i] + (1 - BETA2) * gradient[i] * gradient[i];
            double move = first[i] / unbias1 / (Math.sqrt(second[i] / unbias2) + EPSILON);
            parameters[i] -= now * (move + decay * parameters[i]);
        }
    }

    double rate(int step) {
        if (step < warmUp) {
            return rate * (step + 1) / warmUp;
        }
        return rate * 0.5 * (1 + Math.cos(Math.PI * (step - warmUp) / Math.max(1, steps - warmUp)));
    }
}
