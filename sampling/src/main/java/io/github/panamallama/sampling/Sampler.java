package io.github.panamallama.sampling;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Vocabulary;

/**
 * Turns rows of logits into tokens: the state of one branch of text (penalties, draws). One per branch; one caller at a time.
 *
 * <p>{@link #sample} looks, {@link #accept} moves on: sampling twice without accepting gives the same token, and a token may be
 * accepted that was not sampled (the prompt, or a token that another method chose).
 */
public interface Sampler {
    /**
     * The sampler that these options describe, before any token.
     *
     * @throws IllegalArgumentException if they need a vocabulary, {@link SamplerOptions#usesVocabulary}
     */
    static Sampler of(SamplerOptions options) {
        return new StandardSampler(options, null);
    }

    /** The sampler that these options describe, over rows of this vocabulary's tokens. */
    static Sampler of(SamplerOptions options, Vocabulary vocabulary) {
        return new StandardSampler(options, vocabulary);
    }

    /** The sampler that always takes the most likely token, the lowest id among equals. */
    static Sampler greedy() {
        return of(SamplerOptions.greedy());
    }

    /**
     * A sampler whose tokens all satisfy {@code constraint}: the others are taken out before {@code inner} chooses. It owns both from
     * here on. End-of-generation tokens come only where the constraint is complete.
     *
     * <p>{@link #sample} throws {@link ConstraintException} at a dead end and after the end; {@link #accept} throws it for a token that
     * is not allowed, and nothing has changed then.
     */
    static Sampler constrained(Sampler inner, Constraint constraint) {
        return new ConstrainedSampler(inner, constraint);
    }

    /**
     * The next token, given the logits after all accepted ones.
     *
     * @param row logits, {@code [n_vocab]}; an implementation may change it
     * @throws io.github.panamallama.runtime.SamplingException if the row holds NaN or +infinity, or nothing but -infinity
     */
    int sample(Row row);

    /**
     * The probabilities that {@link #sample} draws from, by ascending token id; one token of probability 1 if it draws nothing.
     *
     * @param into holds as many tokens as the row
     * @throws UnsupportedOperationException if this sampler does not know
     */
    default void distribution(Row row, Candidates into) {
        throw new UnsupportedOperationException(getClass().getSimpleName() + " does not tell the probabilities of its draws");
    }

    /**
     * What truncation and draw start from: the logits with bias, mask and the penalties that come before all else.
     *
     * @param row     stays as it is
     * @param scratch of the same size
     * @return {@code scratch} with the changed logits, or {@code row} if nothing is changed
     */
    default Row adjusted(Row row, Row scratch) {
        return row;
    }

    /** Appends {@code token} to this branch's history. */
    void accept(int token);

    /** As {@link #accept}, for a token of the prompt: what limits the answer takes no notice of it. {@link #rollback} counts it. */
    default void acceptPrompt(int token) {
        accept(token);
    }

    /** The token that comes next whatever the row says, -1 if that depends on the row. */
    default int forced() {
        return -1;
    }

    /** Whether the text may end after the accepted tokens, as far as this sampler is concerned. */
    default boolean mayEnd() {
        return true;
    }

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
