package io.github.panamallama.sampling;

import io.github.panamallama.runtime.LlamaException;

/**
 * A constrained text that had to end before its constraint was complete: the context is full, or the tokens that were allowed are used up.
 * What was generated is a valid beginning.
 */
public final class IncompleteException extends LlamaException {
    private final transient int[] tokens;
    private final String text;

    /**
     * @param tokens the valid beginning; its last tokens may not be evaluated
     * @param text   of those tokens
     */
    public IncompleteException(int[] tokens, String text) {
        this(FinishReason.CONTEXT_FULL, tokens, text);
    }

    /**
     * @param reason why it ended
     * @param tokens the valid beginning; its last tokens may not be evaluated
     * @param text   of those tokens
     */
    public IncompleteException(FinishReason reason, int[] tokens, String text) {
        super(switch (reason) {
            case CONTEXT_FULL -> "the context is full after " + tokens.length + " tokens, and the constrained text is not complete; raise "
                    + "EngineOptions.contextSize, shorten the prompt, or bound the text by its grammar";
            case LENGTH -> "the " + tokens.length + " tokens that were allowed are used up, and the constrained text is not complete; allow "
                    + "more, or bound the text by its grammar";
            case STOP_STRING -> "a stop text ended the constrained text after " + tokens.length
                    + " tokens, before it was complete; leave the "
                    + "end to the grammar";
            default -> "the constrained text ended after " + tokens.length + " tokens (" + reason + "), before it was complete";
        });
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
