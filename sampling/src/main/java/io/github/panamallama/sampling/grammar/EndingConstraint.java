package io.github.panamallama.sampling.grammar;

import io.github.panamallama.sampling.Constraint;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.TokenMask;

/**
 * A grammar with room for a number of tokens. As long as there is plenty it is the grammar alone; where the room gets tight, only tokens
 * are left after which the text can still be ended. A way to the end is always known: at worst, its next token is the only one.
 */
final class EndingConstraint implements Constraint {
    private final GrammarConstraint inner;
    private Step step;
    private TokenMask own;      // of the current step, or null
    private TokenMask spare;

    /**
     * After one more token.
     *
     * @param left tokens that there is room for
     * @param way  tokens to an end, of which the first {@code at} were taken; null where the state itself knows one that fits
     */
    private record Step(int left, int[] way, int at, Step before) {
    }

    EndingConstraint(GrammarConstraint inner, int tokens) {
        this.inner = inner;
        int shortest = inner.endingCost();
        if (shortest > tokens) {
            throw new ConstraintException((shortest >= GrammarConstraint.NEVER
                    ? "no text of the grammar can be ended by tokens of this vocabulary"
                    : "the shortest text found for the grammar takes " + shortest + " tokens") + ", and there is room for " + tokens
                    + "; allow more tokens, raise the context or shorten the prompt");
        }
        step = new Step(tokens, null, 0, null);
    }

    private EndingConstraint(EndingConstraint other) {
        inner = other.inner.fork();
        step = other.step;
    }

    @Override
    public TokenMask mask() {
        if (own != null) {
            return own;
        }
        var base = inner.mask();
        if (inner.ended() || step.left > 0 && inner.endingWorst() < step.left) {
            own = base;
            return own;
        }
        spare = spare == null ? new TokenMask(base.size()) : spare;
        spare.clear();
        if (step.left > 0) {
            inner.endingNear(step.left - 1, spare);
            if (step.way == null && !inner.complete()) {
                step = new Step(step.left, inner.endingWay(), 0, step.before);
            }
            if (step.way != null && step.at < step.way.length) {
                spare.set(step.way[step.at]);
            }
        }
        inner.keepEnds(spare);
        var words = spare.words();
        for (int i = 0; i < words.length; i++) {
            words[i] &= base.words()[i];
        }
        own = spare;
        return own;
    }

    @Override
    public boolean allows(int token) {
        if (own == null && !inner.ended() && step.left > 0 && inner.endingWorst() < step.left) {
            return inner.allows(token);
        }
        return mask().get(token);
    }

    @Override
    public void accept(int token) {
        if (!allows(token) && inner.allows(token)) {
            throw new ConstraintException("token " + token + " is not allowed " + inner + ": with room for " + step.left
                    + " tokens, the text could not be ended after it");
        }
        var from = step;
        boolean ends = inner.isEnd(token);
        inner.accept(token);
        int left = from.left - (ends ? 0 : 1);
        if (ends || inner.endingCost() <= left) {
            step = new Step(left, null, 0, from);
        } else if (from.way != null && from.at < from.way.length && from.way[from.at] == token) {
            step = new Step(left, from.way, from.at + 1, from);
        } else {
            step = new Step(left, inner.endingWayFromBefore(), 0, from);
        }
        own = null;
    }

    @Override
    public void rollback(int tokens) {
        inner.rollback(tokens);
        for (int i = 0; i < tokens; i++) {
            step = step.before;
        }
        own = tokens == 0 ? own : null;
    }

    @Override
    public Constraint fork() {
        return new EndingConstraint(this);
    }

    @Override
    public boolean complete() {
        return inner.complete();
    }

    @Override
    public boolean ended() {
        return inner.ended();
    }

    @Override
    public String forcedText() {
        return inner.forcedText();
    }

    private record State(Object grammar, int left) {
    }

    @Override
    public Object state() {
        return new State(inner.state(), step.left);
    }

    @Override
    public String toString() {
        return inner + ", room for " + step.left + " tokens";
    }
}
