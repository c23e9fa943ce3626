package io.github.panamallama.sampling.automaton;

import io.github.panamallama.runtime.LlamaException;

/** A grammar needs more of something than it may have; the message names the limit, its value and what to do. */
public final class LimitException extends LlamaException {
    public LimitException(String message) {
        super(message);
    }
}
