package io.github.panamallama.runtime;

/** A sequence, or something else that has one caller at a time, was used by two at once. */
public final class ConcurrentUseException extends LlamaException {
    public ConcurrentUseException(String message) {
        super(message);
    }
}
