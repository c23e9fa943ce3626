package io.github.panamallama.runtime;

/**
 * A text that this vocabulary cannot turn into tokens: the model has no vocabulary, the text is too long, or it holds something for
 * which there is no token.
 */
public final class TokenizationException extends LlamaException {
    public TokenizationException(String message) {
        super(message);
    }
}
