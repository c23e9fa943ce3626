package io.github.panamallama;

import io.github.panamallama.runtime.EmbedderOptions;
import io.github.panamallama.runtime.TextReranker;
import java.util.List;

/** A reranker in a worker. */
final class RemoteReranker implements TextReranker {
    private final RemoteVectors vectors;

    /** @param owns whether the worker ends with this */
    RemoteReranker(IsolatedLlama llama, EmbedderOptions options, boolean owns) {
        vectors = new RemoteVectors(llama, options, true, owns);
    }

    @Override
    public int longestText() {
        return vectors.opened().longest();
    }

    @Override
    public float[] scores(String query, List<String> documents) {
        var rows = vectors.of(query, documents, false);
        var scores = new float[rows.length];
        for (int i = 0; i < scores.length; i++) {
            scores[i] = rows[i][0];
        }
        return scores;
    }

    @Override
    public void close() {
        vectors.close();
    }
}
