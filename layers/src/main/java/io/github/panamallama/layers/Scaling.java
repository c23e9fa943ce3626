package io.github.panamallama.layers;

import java.util.List;

/**
 * Standardising inputs: less their mean, over their standard deviation.
 *
 * @param mean   {@code [d]}
 * @param factor {@code [d]}: one over the deviation; 0 for an input that does not vary beyond the rounding of floats
 */
record Scaling(double[] mean, double[] factor) {
    private static final double ROUNDING = 0x1p-23;

    /** Of samples {@code [n][d]}. */
    static Scaling of(List<float[]> x) {
        int d = x.getFirst().length;
        var mean = new double[d];
        for (float[] row : x) {
            for (int j = 0; j < d; j++) {
                mean[j] += row[j];
            }
        }
        for (int j = 0; j < d; j++) {
            mean[j] /= x.size();
        }
        var factor = new double[d];
        for (float[] row : x) {
            for (int j = 0; j < d; j++) {
                factor[j] += (row[j] - mean[j]) * (row[j] - mean[j]);
            }
        }
        for (int j = 0; j < d; j++) {
            double deviation = Math.sqrt(factor[j] / x.size());
            factor[j] = deviation > ROUNDING * Math.abs(mean[j]) ? 1 / deviation : 0;
        }
        return new Scaling(mean, factor);
    }

    float[] apply(float[] x) {
        var scaled = new float[x.length];
        for (int j = 0; j < x.length; j++) {
            scaled[j] = (float) ((x[j] - mean[j]) * factor[j]);
        }
        return scaled;
    }
}
