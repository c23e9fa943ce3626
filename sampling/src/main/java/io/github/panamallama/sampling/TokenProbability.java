package io.github.panamallama.sampling;

/**
 * A token and how likely the model held it.
 *
 * @param token          id
 * @param logProbability natural logarithm of its probability, in nats: 0 is certain
 */
public record TokenProbability(int token, double logProbability) {
    /** 0 to 1. */
    public double probability() {
        return Math.exp(logProbability);
    }
}
