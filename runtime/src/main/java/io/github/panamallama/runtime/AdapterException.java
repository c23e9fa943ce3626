package io.github.panamallama.runtime;

/**
 * A LoRA adapter can't be used: its file breaks a rule, it doesn't fit the model, or it can't be converted. Nothing was loaded or
 * changed. The message names the file or adapter, the tensor or field and the values, and says what to do.
 */
public final class AdapterException extends LlamaException {
    public AdapterException(String message) {
        super(message);
    }

    public AdapterException(String message, Throwable cause) {
        super(message, cause);
    }
}
