package io.github.panamallama.runtime;

/**
 * A text can't be turned into a vector or a score: the model is none for that, the text is empty or too long, or what came out is not a
 * number. The message says which, and what to do.
 */
public final class EmbeddingException extends LlamaException {
    private static final long serialVersionUID = 1;

    private final int index;
    private final String problem;

    public EmbeddingException(String message) {
        this(-1, message, message);
    }

    private EmbeddingException(int index, String problem, String message) {
        super(message);
        this.index = index;
        this.problem = problem;
    }

    /** @param problem what one of so many texts is or has */
    static EmbeddingException of(int index, int texts, String problem) {
        return new EmbeddingException(index, problem, (texts == 1 ? "the text " : "text " + index + " ") + problem);
    }

    /** Index of the text in the list of the call; -1 where it is not about one. */
    public int index() {
        return index;
    }

    /** What is wrong, without which text: {@code is empty, ...}; the whole message where it is not about one. */
    public String problem() {
        return problem;
    }
}
