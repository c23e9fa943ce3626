package io.github.panamallama.sampling.strategy;

/**
 * Best of n: draws {@code n} texts at the same time, one batch per step, and keeps the one that the model holds most likely. All tokens are
 * chosen before the first is shown. The first text is the one that {@link Plain} would draw, the others have seeds derived from its seed.
 *
 * @param n       texts to draw, at least 1
 * @param perToken whether the log-probability per token decides, or that of the whole text, which favours short ones
 */
public record BestOfN(int n, boolean perToken) implements Strategy {
    public BestOfN {
        if (n < 1) {
            throw new IllegalArgumentException("n must be at least 1, got " + n);
        }
    }

    /** By log-probability per token. */
    public static BestOfN of(int n) {
        return new BestOfN(n, true);
    }
}
