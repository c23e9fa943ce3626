package io.github.panamallama.sampling.automaton;

import io.github.panamallama.runtime.LlamaException;

/** A regular expression that does not parse, or uses what no finite automaton of reasonable size can do. */
public final class RegexSyntaxException extends LlamaException {
    private final int position;

    RegexSyntaxException(String message, int position) {
        super(message);
        this.position = position;
    }

    /** Where in the expression, in chars from 0. */
    public int position() {
        return position;
    }
}
