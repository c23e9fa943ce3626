package io.github.panamallama.sampling;

import io.github.panamallama.runtime.Row;

/**
 * Turns rows of logits into tokens: the state of one branch of text (penalties, draws). One per branch; one caller at a time.
 *
 * <p>{@link #sample} looks, {@link #accept} moves on: sampling twice without accepting gives the same token, and a token may be
 * accepted that was not sampled (the prompt, or a token that another method chose).
 */
public interface Sampler {
    /** The sampler that these options describe, before any token. */
    static Sampler of(SamplerOptions options) {
        return new StandardSampler(options);
    }

    /** The sampler that always takes the most likely token, the lowest id among equals. */
    static Sampler greedy() {
        return of(SamplerOptions.greedy());
    }

    /**
     * The next token, given the logits after all accepted ones.
     *
     * @param row logits, {@code [n_vocab]}; an implementation may change it
     * @throws io.github.panamallama.runtime.SamplingException if the row holds NaN or +infinity, or nothing but -infinity
     */
    int sample(Row row);

    /** Appends {@code token} to this branch's history. */
    void accept(int token);

    /**
     * An independent sampler in the same state: given the same rows, both go on with the same tokens. Branches that ought to differ
     * use {@link #fork(long)}.
     */
    Sampler fork();

    /** As {@link #fork()}, but with the draws of another seed from here on. */
    Sampler fork(long seed);

    /**
     * Undoes the last {@code tokens} calls of {@link #accept}: the sampler goes on exactly as it would have before them.
     *
     * @throws IllegalArgumentException if fewer tokens were accepted, or {@code tokens} is negative
     */
    void rollback(int tokens);
}
