package io.github.panamallama.runtime;

/** A model, engine, sequence or stream was used after it had been closed. */
public final class ClosedException extends LlamaException {
    public ClosedException(String message) {
        super(message);
    }
}
