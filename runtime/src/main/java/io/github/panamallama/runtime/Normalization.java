package io.github.panamallama.runtime;

/**
 * What a vector is divided by, as llama.cpp numbers it ({@code common_embd_normalize}): its p-norm for p from 1 on. A vector of zeros
 * stays one.
 *
 * @param p -1 for nothing, 0 for the largest absolute value (which becomes {@value #LARGEST}), else of the p-norm
 */
public record Normalization(int p) {
    /** As the model gives it. */
    public static final Normalization NONE = new Normalization(-1);
    /** The largest absolute value becomes {@value #LARGEST}, so that 16-bit integers hold the vector. */
    public static final Normalization MAX_ABSOLUTE = new Normalization(0);
    /** Absolute values sum to 1. */
    public static final Normalization TAXICAB = new Normalization(1);
    /** Squares sum to 1: the scalar product of two vectors is the cosine of their angle. */
    public static final Normalization EUCLIDEAN = new Normalization(2);

    private static final double LARGEST = 32760;

    public Normalization {
        if (p < -1) {
            throw new IllegalArgumentException("no normalization " + p + ": -1 is none, 0 by the largest value, 1 and more a p-norm");
        }
    }

    /** Divides in place. */
    public void apply(float[] vector) {
        double sum = 0;
        switch (p) {
            case -1 -> {
                return;
            }
            case 0 -> {
                for (float x : vector) {
                    sum = Math.max(sum, Math.abs(x));
                }
                sum /= LARGEST;
            }
            case 2 -> {
                for (float x : vector) {
                    sum += x * x;
                }
                sum = Math.sqrt(sum);
            }
            default -> {
                for (float x : vector) {
                    sum += Math.pow(Math.abs(x), p);
                }
                sum = Math.pow(sum, 1.0 / p);
            }
        }
        float factor = sum > 0 ? (float) (1 / sum) : 0;
        for (int i = 0; i < vector.length; i++) {
            vector[i] *= factor;
        }
    }
}
