package io.github.panamallama.sampling;

import io.github.panamallama.runtime.LlamaException;

/** A token that a {@link Constraint} does not allow, or a constraint that cannot go on: a limit was reached. */
public final class ConstraintException extends LlamaException {
    public ConstraintException(String message) {
        super(message);
    }
}
