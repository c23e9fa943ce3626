package io.github.panamallama.layers;

import java.util.List;

/**
 * Logistic regression with an L2 penalty, fitted on all samples at once by L-BFGS. Nothing is random: the same samples in the same order
 * give the same bits.
 *
 * <p>Inputs are standardised for the fit, which the weights that come out have folded in: they apply to inputs as they are. The penalty
 * acts on the standardised weights, and not on the bias.
 *
 * @param weights   {@code [d]}
 * @param converged whether the gradient became small enough before the rounds ran out
 */
record Logistic(float[] weights, float bias, int rounds, boolean converged) {
    private static final int ROUNDS = 200;
    private static final int MEMORY = 8;
    /** Largest derivative of the mean loss, in nats per standard deviation, at which the fit is done. */
    private static final double TOLERANCE = 1e-5;

    /**
     * Fits {@code P(y | x) = sigmoid(w.x + b)}.
     *
     * @param x       {@code [n][d]}
     * @param penalty half of it times the squared weights is added to the mean loss, in nats
     */
    static Logistic fit(List<float[]> x, boolean[] y, double penalty) {
        int n = x.size();
        int d = x.getFirst().length;
        int positive = 0;
        for (boolean one : y) {
            positive += one ? 1 : 0;
        }
        if (positive == 0 || positive == n) {
            // nothing to tell apart: the prior, with half a sample of the class that never came
            double odds = (positive + 0.5) / (n - positive + 0.5);
            return new Logistic(new float[d], (float) Math.log(odds), 0, true);
        }
        var problem = new Problem(x, y, penalty, Scaling.of(x));
        var at = new double[d + 1];
        at[d] = Math.log(positive / (double) (n - positive));
        int rounds = minimise(problem, at);
        var weights = new float[d];
        double bias = at[d];
        for (int j = 0; j < d; j++) {
            double w = at[j] * problem.scaling.factor()[j];
            weights[j] = (float) w;
            bias -= w * problem.scaling.mean()[j];
        }
        return new Logistic(weights, (float) bias, rounds, rounds < ROUNDS);
    }

    /** Mean loss and its gradient by the standardised weights, the bias last. */
    private record Problem(List<float[]> x, boolean[] y, double penalty, Scaling scaling) {
        double loss(double[] at, double[] gradient) {
            double[] mean = scaling.mean();
            double[] factor = scaling.factor();
            int d = mean.length;
            var w = new double[d];
            double bias = at[d];
            double loss = 0;
            for (int j = 0; j < d; j++) {
                w[j] = at[j] * factor[j];
                bias -= w[j] * mean[j];
                loss += 0.5 * penalty * at[j] * at[j];
            }
            var sums = new double[d];
            double errors = 0;
            int n = y.length;
            for (int i = 0; i < n; i++) {
                float[] row = x.get(i);
                double z = bias;
                for (int j = 0; j < d; j++) {
                    z += w[j] * row[j];
                }
                double margin = y[i] ? z : -z;
                loss += (Math.max(0, -margin) + Math.log1p(Math.exp(-Math.abs(margin)))) / n;
                double error = (1 / (1 + Math.exp(-z)) - (y[i] ? 1 : 0)) / n;
                errors += error;
                for (int j = 0; j < d; j++) {
                    sums[j] += error * row[j];
                }
            }
            for (int j = 0; j < d; j++) {
                gradient[j] = (sums[j] - mean[j] * errors) * factor[j] + penalty * at[j];
            }
            gradient[d] = errors;
            return loss;
        }
    }

    /** L-BFGS with halved steps (Nocedal and Wright, Numerical Optimization, algorithms 3.1 and 7.4). Returns the rounds it took. */
    private static int minimise(Problem problem, double[] at) {
        int size = at.length;
        var gradient = new double[size];
        double loss = problem.loss(at, gradient);
        var steps = new double[MEMORY][];
        var changes = new double[MEMORY][];
        int kept = 0;
        for (int round = 0; round < ROUNDS; round++) {
            if (largest(gradient) <= TOLERANCE) {
                return round;
            }
            double[] direction = gradient.clone();
            var alpha = new double[MEMORY];
            for (int k = kept - 1; k >= Math.max(0, kept - MEMORY); k--) {
                double[] s = steps[k % MEMORY];
                double[] c = changes[k % MEMORY];
                alpha[k % MEMORY] = dot(s, direction) / dot(s, c);
                add(direction, -alpha[k % MEMORY], c);
            }
            if (kept > 0) {
                double[] s = steps[(kept - 1) % MEMORY];
                double[] c = changes[(kept - 1) % MEMORY];
                double scale = dot(s, c) / dot(c, c);
                for (int j = 0; j < size; j++) {
                    direction[j] *= scale;
                }
            }
            for (int k = Math.max(0, kept - MEMORY); k < kept; k++) {
                double[] s = steps[k % MEMORY];
                double[] c = changes[k % MEMORY];
                add(direction, alpha[k % MEMORY] - dot(c, direction) / dot(s, c), s);
            }
            double slope = -dot(gradient, direction);
            var next = new double[size];
            var nextGradient = new double[size];
            double length = 1;
            double nextLoss;
            while (true) {
                System.arraycopy(at, 0, next, 0, size);
                add(next, -length, direction);
                nextLoss = problem.loss(next, nextGradient);
                if (nextLoss <= loss + 1e-4 * length * slope) {
                    break;
                }
                length /= 2;
                if (length < 1e-10) {
                    return round;    // as low as doubles can tell
                }
            }
            var step = new double[size];
            var change = new double[size];
            for (int j = 0; j < size; j++) {
                step[j] = next[j] - at[j];
                change[j] = nextGradient[j] - gradient[j];
            }
            if (dot(step, change) > 0) {
                steps[kept % MEMORY] = step;
                changes[kept % MEMORY] = change;
                kept++;
            }
            System.arraycopy(next, 0, at, 0, size);
            gradient = nextGradient;
            loss = nextLoss;
        }
        return ROUNDS;
    }

    private static double largest(double[] values) {
        double largest = 0;
        for (double value : values) {
            largest = Math.max(largest, Math.abs(value));
        }
        return largest;
    }

    private static double dot(double[] a, double[] b) {
        double sum = 0;
        for (int i = 0; i < a.length; i++) {
            sum += a[i] * b[i];
        }
        return sum;
    }

    private static void add(double[] to, double factor, double[] what) {
        for (int i = 0; i < to.length; i++) {
            to[i] += factor * what[i];
        }
    }
}
