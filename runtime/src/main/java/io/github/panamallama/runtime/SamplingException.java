package io.github.panamallama.runtime;

/** A row of logits that no token can be chosen from, or a token that does not belong to it; the message has the token and the value. */
public final class SamplingException extends LlamaException {
    public SamplingException(String message) {
        super(message);
    }
}
