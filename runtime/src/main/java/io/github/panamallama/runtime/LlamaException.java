package io.github.panamallama.runtime;

/**
 * What every failure of this runtime derives from. The message names the cause, the value at fault and what to do about it.
 */
public class LlamaException extends RuntimeException {
    public LlamaException(String message) {
        super(message);
    }

    public LlamaException(String message, Throwable cause) {
        super(message, cause);
    }
}
