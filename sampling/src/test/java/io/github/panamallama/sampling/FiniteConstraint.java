package io.github.panamallama.sampling;

import java.util.Arrays;
import java.util.Collection;
import java.util.List;

/** A list of texts, each a list of tokens; any end-of-generation token may follow a whole one. */
public final class FiniteConstraint implements Constraint {
    private final int vocabularySize;
    private final List<int[]> texts;
    private final int[] ends;
    private int[] accepted = {};

    public FiniteConstraint(int vocabularySize, Collection<int[]> texts, int... ends) {
        this.vocabularySize = vocabularySize;
        this.texts = List.copyOf(texts);
        this.ends = ends;
    }

    private boolean isEnd(int token) {
        return Arrays.stream(ends).anyMatch(end -> end == token);
    }

    @Override
    public TokenMask mask() {
        var mask = new TokenMask(vocabularySize);
        if (!ended()) {
            for (int[] text : texts) {
                if (text.length > accepted.length && Arrays.equals(text, 0, accepted.length, accepted, 0, accepted.length)) {
                    mask.set(text[accepted.length]);
                }
            }
            if (complete()) {
                Arrays.stream(ends).forEach(mask::set);
            }
        }
        return mask;
    }

    @Override
    public boolean allows(int token) {
        return mask().get(token);
    }

    @Override
    public void accept(int token) {
        if (!allows(token)) {
            throw new ConstraintException("token " + token + " does not continue " + Arrays.toString(accepted));
        }
        accepted = Arrays.copyOf(accepted, accepted.length + 1);
        accepted[accepted.length - 1] = token;
    }

    @Override
    public void rollback(int tokens) {
        if (tokens < 0 || tokens > accepted.length) {
            throw new IllegalArgumentException("rollback of " + tokens + " after " + accepted.length);
        }
        accepted = Arrays.copyOf(accepted, accepted.length - tokens);
    }

    @Override
    public Constraint fork() {
        var fork = new FiniteConstraint(vocabularySize, texts, ends);
        fork.accepted = accepted;
        return fork;
    }

    @Override
    public boolean complete() {
        return texts.stream().anyMatch(text -> Arrays.equals(text, accepted));
    }

    @Override
    public boolean ended() {
        return accepted.length > 0 && isEnd(accepted[accepted.length - 1]);
    }

    @Override
    public Object state() {
        return List.of(Arrays.hashCode(accepted), accepted.length);
    }
}
