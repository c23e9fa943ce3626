package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.sampling.Constraint;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.MaskedRow;
import io.github.panamallama.sampling.Sampler;
import io.github.panamallama.sampling.TokenMask;

/** The sampler of one branch with the constraint inside it, for strategies that need to look at the mask themselves. */
final class Chooser {
    private final Sampler inner;
    private final Constraint constraint;    // null for any text
    private final MaskedRow masked = new MaskedRow();

    Chooser(Sampler inner, Constraint constraint) {
        this.inner = inner;
        this.constraint = constraint;
    }

    /** The row as far as the constraint allows; the same object without one. Valid until the next call of anything here. */
    Row allowed(Row row) {
        return constraint == null ? row : masked.of(row, mask());
    }

    /** The row with the sampler's bias and penalties, the same object if it has none; otherwise in {@code scratch}. */
    Row adjusted(Row row, Row scratch) {
        return inner.adjusted(row, scratch);
    }

    /** The tokens allowed next, at least one; only with a constraint. */
    TokenMask mask() {
        if (constraint.ended()) {
            throw new ConstraintException("the constrained text has ended; nothing may follow its end-of-generation token");
        }
        var mask = constraint.mask();
        if (mask.isEmpty()) {
            throw new ConstraintException("dead end: no token of this vocabulary continues the constrained text");
        }
        return mask;
    }

    int sample(Row row) {
        return inner.sample(allowed(row));
    }

    /** What {@link #sample} draws from. */
    void distribution(Row row, Candidates into) {
        inner.distribution(allowed(row), into);
    }

    boolean allows(int token) {
        return constraint == null || !constraint.ended() && constraint.allows(token);
    }

    /** The only token that the constraint allows, -1 if it leaves a choice. */
    int forced() {
        return constraint == null || constraint.ended() ? -1 : constraint.mask().only();
    }

    String forcedText() {
        return constraint == null || constraint.ended() ? "" : constraint.forcedText();
    }

    boolean mayEnd() {
        return constraint == null || constraint.ended() || constraint.complete();
    }

    void accept(int token) {
        if (constraint != null) {
            constraint.accept(token);
        }
        inner.accept(token);
    }

    void acceptPrompt(int token) {
        inner.acceptPrompt(token);
    }

    void rollback(int tokens) {
        inner.rollback(tokens);
        if (constraint != null) {
            constraint.rollback(tokens);
        }
    }

    Chooser fork() {
        return new Chooser(inner.fork(), constraint == null ? null : constraint.fork());
    }

    Chooser fork(long seed) {
        return new Chooser(inner.fork(seed), constraint == null ? null : constraint.fork());
    }
}
