package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.sampling.SamplerOptions;

/**
 * Self-speculative decoding: as {@link Speculative}, with drafts by the model itself under a {@link LayerPlan} that leaves blocks out
 * (Zhang et al., arXiv 2309.08168). No second model, no second prompt and hardly more memory: a draft is written on a fork of the sequence
 * that reads the keys and values of the whole text as they are, and is closed before the draft is verified. The sequence itself evaluates
 * every drafted token, so that its own keys and values stay those of its own plan. Exact in the same way as {@link Speculative}.
 *
 * <p>Alternating between two plans rebuilds the graph twice per pass, tens to hundreds of microseconds each, so that longer drafts pay
 * more than their share. How long a draft is follows from what was measured so far: with an acceptance rate {@code a} per token, a draft
 * of {@code n} tokens gives {@code (1 - a^(n+1)) / (1 - a)} tokens on average, and takes the time of its steps, of the batch that verifies
 * it and of both rebuilds; the length with the most tokens per second is taken, at most twice the one before. Where none is better than no
 * draft at all, 32 tokens are written without drafts before the next try, and up to 128 where that did not pay either. What is drawn
 * depends on the lengths, although its distribution does not: where the sampling has a seed, nothing is measured and drafts have 4 tokens,
 * as far as the bounds allow, so that the seed draws the same text each time.
 *
 * <p>The engine needs two sequences; without a free one a draft evaluates the whole text again. Counts {@code drafted} and {@code accepted}
 * tokens and {@code passes} of the whole model, and {@code draftFull} passes for which there was no room to draft. Tokens under the plan
 * are {@link Work#helperRows}.
 *
 * @param plan  blocks that run while drafting; one that runs every block once drafts what is then accepted, and gains nothing
 * @param least fewest tokens drafted per pass, 0 or more; 0 also tries without
 * @param most  most tokens drafted per pass, at least 1 and {@code least}; the same as {@code least} measures nothing
 */
public record PlanDrafts(LayerPlan plan, int least, int most) implements Strategy {
    private static final int UNMEASURED = 4;

    public PlanDrafts {
        if (plan == null) {
            throw new IllegalArgumentException("a plan must be given: the blocks that run while drafting");
        }
        if (least < 0) {
            throw new IllegalArgumentException("least must be at least 0 tokens, got " + least);
        }
        if (most < Math.max(1, least)) {
            throw new IllegalArgumentException("most must be at least " + Math.max(1, least) + " tokens, got " + most);
        }
    }

    /** 0 to 16 tokens per pass. */
    public static PlanDrafts of(LayerPlan plan) {
        return new PlanDrafts(plan, 0, 16);
    }

    /** As many tokens each time. */
    public PlanDrafts withLength(int length) {
        return new PlanDrafts(plan, length, length);
    }

    DraftLength lengths(SamplerOptions sampling) {
        boolean repeatable = sampling.temperature() > 0 && sampling.seed().isPresent();
        return repeatable || least == most ? DraftLength.fixed(Math.clamp(UNMEASURED, least, most)) : new MeasuredLength(least, most);
    }
}
