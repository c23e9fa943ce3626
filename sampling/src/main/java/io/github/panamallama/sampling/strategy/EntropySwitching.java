package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.Engine;

/**
 * EAD, entropy-adaptive decoding: a small and a large model of one vocabulary write one text. The mean entropy of the last tokens decides
 * which of them chooses the next one: the small one while it is low (Simonds, arXiv 2502.06833). Nothing is verified; the text may
 * differ from the large model's. The sequence that the strategy is started behind belongs to the large model.
 *
 * <p>What the paper leaves open is decided so: the entropy is that of the model whose row chose the token, before any mask; the window
 * stays as it is across a switch; the small model begins. A model that was not asked for a while catches up in one batch.
 *
 * <p>Counts {@code large} and {@code small} tokens, {@code switches}, and {@code catchUp}: tokens that the large model had to read without
 * choosing anything, the prompt included once it is asked at all. {@link Work#helperRows} are the small model's. {@code largeFull} or
 * {@code smallFull} says whose context ended the text: the smaller one is the limit while its model is asked.
 *
 * @param small     engine of the small model
 * @param threshold mean entropy in <em>bits</em> above which the large model takes over
 * @param window    tokens that the mean is over, at least 1; the paper's value is 5
 * @param dwell     least tokens between two switches, at least 0
 */
public record EntropySwitching(Engine small, double threshold, int window, int dwell) implements Strategy {
    public EntropySwitching {
        if (small == null) {
            throw new IllegalArgumentException("an engine of the small model must be given");
        }
        check(threshold, window, dwell);
    }

    static void check(double threshold, int window, int dwell) {
        if (Double.isNaN(threshold)) {
            throw new IllegalArgumentException("threshold must be a number of bits, got NaN");
        }
        if (window < 1) {
            throw new IllegalArgumentException("window must be at least 1 token, got " + window);
        }
        if (dwell < 0) {
            throw new IllegalArgumentException("dwell must be at least 0 tokens, got " + dwell);
        }
    }

    /** Over five tokens, at least five between two switches. */
    public static EntropySwitching of(Engine small, double thresholdBits) {
        return new EntropySwitching(small, thresholdBits, 5, 5);
    }
}
