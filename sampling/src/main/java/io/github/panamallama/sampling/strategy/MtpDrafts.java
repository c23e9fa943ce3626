package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.Sequence;

/**
 * Speculative decoding with the model's own head for multi-token prediction (MTP): as {@link Speculative}, with drafts by a block that
 * some models carry and that starts from the hidden states of the model itself. Needs no second model and no second prompt; exact
 * in the same way. The model has to be loaded with {@link io.github.panamallama.runtime.ModelOptions#withMtp}.
 *
 * <p>Counts {@code drafted} and {@code accepted} tokens and {@code passes} of the model, and {@code draftFull} passes for which there was
 * no room to draft.
 *
 * @param length tokens drafted per pass, 1 to {@value Sequence#MAX_DRAFT}. Where a model can't forget single tokens, each pass
 *               also keeps its state, and one with a rejected token is followed by another that evaluates the accepted ones again
 */
public record MtpDrafts(int length) implements Strategy {
    public MtpDrafts {
        if (length < 1 || length > Sequence.MAX_DRAFT) {
            throw new IllegalArgumentException("length must be 1 to " + Sequence.MAX_DRAFT + " tokens, got " + length);
        }
    }

    /** Two tokens per pass: heads are trained for one token, and what they draft from their own drafts is accepted less often. */
    public static MtpDrafts of() {
        return new MtpDrafts(2);
    }
}
