package io.github.panamallama.runtime;

/** More tokens than the context of an engine can hold; the sequence keeps the tokens it had before. */
public final class ContextFullException extends LlamaException {
    public ContextFullException(String message) {
        super(message);
    }
}
