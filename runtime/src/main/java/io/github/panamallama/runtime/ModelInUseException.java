package io.github.panamallama.runtime;

/** A model can't be closed while engines decode with it; it stays open and usable. */
public final class ModelInUseException extends LlamaException {
    private final int engines;

    ModelInUseException(String message, int engines) {
        super(message);
        this.engines = engines;
    }

    /** How many engines are open. */
    public int engines() {
        return engines;
    }
}
