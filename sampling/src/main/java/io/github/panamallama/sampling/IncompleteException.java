package io.github.panamallama.sampling;

import io.github.panamallama.runtime.LlamaException;

/**
 * A constrained text that had to end before its constraint was complete, because the context is full. What was generated is a valid
 * beginning.
 */
public final class IncompleteException extends LlamaException {
    private final transient int[] tokens;
    private final String text;

    /**
     * @param tokens the valid beginning; its last tokens may not be evaluated
     * @param text   of those tokens
     */
    public IncompleteException(int[] tokens, String text) {
        super("the context is full after " + tokens.length + " tokens, and the constrained text is not complete; raise "
                + "EngineOptions.contextSize, shorten the prompt, or bound the text by its grammar");
        this.tokens = tokens.clone();
        this.text = text;
    }

    /** The tokens of the valid beginning. */
    public int[] tokens() {
        return tokens.clone();
    }

    /** The valid beginning. */
    public String text() {
        return text;
    }
}
