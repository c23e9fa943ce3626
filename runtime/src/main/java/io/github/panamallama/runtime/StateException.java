package io.github.panamallama.runtime;

/**
 * A saved sequence can't be restored, or one can't be saved: the file is damaged, no such file, or belongs to another model, plan, set of
 * adapters or kind of cache. Nothing was changed. The message says what differs.
 */
public final class StateException extends LlamaException {
    public StateException(String message) {
        super(message);
    }

    public StateException(String message, Throwable cause) {
        super(message, cause);
    }
}
