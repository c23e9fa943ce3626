package io.github.panamallama.runtime;

import io.github.panamallama.runtime.Reranker.Ranked;
import java.util.List;

/**
 * What tells how well documents answer a query: a {@link Reranker} in this process, or one in a worker (see {@code IsolatedLlama} of the
 * facade). Both give the same scores. Thread rule: any thread may call; calls wait for each other.
 */
public interface TextReranker extends AutoCloseable {
    /** Tokens of the longest pair of query and document. */
    int longestText();

    /** The documents by their scores, the best first; equal ones in their order. */
    default List<Ranked> rank(String query, List<String> documents) {
        return Ranked.of(scores(query, documents));
    }

    /**
     * How well each document answers: the first output of the model's head.
     *
     * @throws EmbeddingException    if a pair is too long, or its score is not finite
     * @throws TokenizationException if a text can't be tokenized
     */
    float[] scores(String query, List<String> documents);

    /** Frees it. Waits for calls that are under way; idempotent. */
    @Override
    void close();
}
