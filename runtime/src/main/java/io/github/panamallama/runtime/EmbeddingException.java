package io.github.panamallama.runtime;

/**
 * A text can't be turned into a vector or a score: the model is none for that, the text is empty or too long, or what came out is not a
 * number. The message says which, and what to do.
 */
public final class EmbeddingException extends LlamaException {
    public EmbeddingException(String message) {
        super(message);
    }
}
