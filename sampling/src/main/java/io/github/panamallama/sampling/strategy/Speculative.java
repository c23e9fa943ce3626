package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.Engine;

/**
 * Speculative decoding with a draft model: a small model writes some tokens, the large one evaluates them in one batch and keeps the
 * longest acceptable beginning. Exact: a drafted token is accepted with probability {@code min(1, p/q)}, otherwise one is drawn from what
 * {@code p} has above {@code q} (Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318), so that texts are distributed as
 * without drafts, for every sampling; greedy texts are the same.
 *
 * <p>Counts {@code drafted} and {@code accepted} tokens and {@code passes} of the large model, and {@code draftFull} passes for which
 * the draft model's context was full. Where the model carries a head for that purpose, {@link MtpDrafts} needs no second model.
 *
 * @param draft  engine of the small model, of the same vocabulary; may serve several decodings at once
 * @param length tokens drafted per pass, at least 1
 */
public record Speculative(Engine draft, int length) implements Strategy {
    public Speculative {
        if (draft == null) {
            throw new IllegalArgumentException("an engine of the draft model must be given");
        }
        if (length < 1) {
            throw new IllegalArgumentException("length must be at least 1 token, got " + length);
        }
    }

    /** Four tokens per pass. */
    public static Speculative of(Engine draft) {
        return new Speculative(draft, 4);
    }
}
