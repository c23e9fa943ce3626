package io.github.panamallama.runtime;

import java.util.List;

/**
 * What turns texts into vectors: an {@link Embedder} in this process, or one in a worker (see {@code IsolatedLlama} of the facade). Both
 * give the same vectors. Thread rule: any thread may call; calls wait for each other.
 */
public interface TextEmbedder extends AutoCloseable {
    /** How the vectors of a text's tokens become one. */
    Pooling pooling();

    /** Numbers of a vector. */
    int size();

    /** Tokens of the longest text, with those that the vocabulary adds. */
    int longestText();

    /**
     * The vector of a text {@code [size]}.
     *
     * @throws EmbeddingException as {@link #embed(List)}
     */
    float[] embed(String text);

    /**
     * The vectors of texts {@code [texts][size]}. Special tokens that a text spells out are text.
     *
     * @throws EmbeddingException    if a text is empty where the vocabulary adds nothing, is too long, or its vector is not finite; or if
     *                               {@linkplain Pooling#NONE no pooling} makes one vector of a text
     * @throws TokenizationException if a text can't be tokenized
     */
    float[][] embed(List<String> texts);

    /**
     * The vectors of a text's tokens {@code [tokens][size]}, with those that the vocabulary adds.
     *
     * @throws EmbeddingException if the text is empty or too long, a vector is not finite, or there is a {@link Pooling}
     */
    float[][] embedTokens(String text);

    /** Frees it. Waits for calls that are under way; idempotent. */
    @Override
    void close();
}
