package io.github.panamallama.runtime;

/** A model could not be loaded, or loading it was cancelled; the message names the file and the cause. */
public final class ModelLoadException extends LlamaException {
    private final boolean cancelled;

    ModelLoadException(String message) {
        this(message, null, false);
    }

    public ModelLoadException(String message, Throwable cause, boolean cancelled) {
        super(message, cause);
        this.cancelled = cancelled;
    }

    /** Whether the load was given up because someone asked for that. */
    public boolean cancelled() {
        return cancelled;
    }
}
