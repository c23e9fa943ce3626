package io.github.panamallama.sampling;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.Row;
import java.util.Arrays;

/** A sampler behind a mask. The caller's row stays as it is. */
final class ConstrainedSampler implements Sampler {
    private final Sampler inner;
    private final Constraint constraint;
    private final MaskedRow masked = new MaskedRow();
    private long[] prompt = new long[1];    // bit per accepted token: the constraint did not see it
    private int accepted;

    ConstrainedSampler(Sampler inner, Constraint constraint) {
        this.inner = inner;
        this.constraint = constraint;
    }

    private ConstrainedSampler(ConstrainedSampler other, Sampler inner) {
        this.inner = inner;
        constraint = other.constraint.fork();
        prompt = other.prompt.clone();
        accepted = other.accepted;
    }

    @Override
    public int sample(Row row) {
        return inner.sample(masked.of(row, mask()));
    }

    @Override
    public void distribution(Row row, Candidates into) {
        inner.distribution(masked.of(row, mask()), into);
    }

    @Override
    public Row adjusted(Row row, Row scratch) {
        var mask = mask();
        if (inner.adjusted(row, scratch) == row) {
            scratch.segment().copyFrom(row.segment());
        }
        mask.apply(scratch);
        return scratch;
    }

    private TokenMask mask() {
        if (constraint.ended()) {
            throw new ConstraintException("the constrained text has ended; nothing may follow its end-of-generation token");
        }
        var mask = constraint.mask();
        if (mask.isEmpty()) {
            throw new ConstraintException("dead end after " + accepted
                    + " tokens: no token of this vocabulary continues the constrained text");
        }
        return mask;
    }

    @Override
    public int forced() {
        return constraint.ended() ? -1 : constraint.mask().only();
    }

    @Override
    public boolean mayEnd() {
        return constraint.ended() || constraint.complete();
    }

    @Override
    public void accept(int token) {
        constraint.accept(token);
        inner.accept(token);
        note(false);
    }

    @Override
    public void acceptPrompt(int token) {
        inner.acceptPrompt(token);
        note(true);
    }

    private void note(boolean ofPrompt) {
        if (accepted >> 6 == prompt.length) {
            prompt = Arrays.copyOf(prompt, 2 * prompt.length);
        }
        long bit = 1L << accepted;
        prompt[accepted >> 6] = ofPrompt ? prompt[accepted >> 6] | bit : prompt[accepted >> 6] & ~bit;
        accepted++;
    }

    @Override
    public Sampler fork() {
        return new ConstrainedSampler(this, inner.fork());
    }

    @Override
    public Sampler fork(long seed) {
        return new ConstrainedSampler(this, inner.fork(seed));
    }

    @Override
    public void rollback(int tokens) {
        if (tokens < 0 || tokens > accepted) {
            throw new IllegalArgumentException("rollback must be 0 to " + accepted + ", the number of accepted tokens, got " + tokens);
        }
        inner.rollback(tokens);
        int constrained = 0;
        for (int i = 0; i < tokens; i++) {
            accepted--;
            constrained += (prompt[accepted >> 6] >>> accepted & 1) == 0 ? 1 : 0;
        }
        constraint.rollback(constrained);
    }
}
