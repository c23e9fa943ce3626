package io.github.panamallama.runtime;

/**
 * A layer plan, a tap, or a file that decides about plans can't be used: it does not fit the model or its architecture, or the engine has
 * no room for it. Nothing was changed. The message says what is allowed.
 */
public final class LayerPlanException extends LlamaException {
    public LayerPlanException(String message) {
        super(message);
    }

    public LayerPlanException(String message, Throwable cause) {
        super(message, cause);
    }
}
