package io.github.panamallama.runtime;

/** Native code refused or failed to evaluate a batch; the sequences in it keep the tokens they had before. */
public final class DecodeException extends LlamaException {
    public DecodeException(String message) {
        super(message);
    }

    public DecodeException(String message, Throwable cause) {
        super(message, cause);
    }
}
