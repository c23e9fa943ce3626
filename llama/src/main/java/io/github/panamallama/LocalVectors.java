package io.github.panamallama;

import io.github.panamallama.runtime.Embedder;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Pooling;
import io.github.panamallama.runtime.Reranker;
import io.github.panamallama.runtime.TextEmbedder;
import io.github.panamallama.runtime.TextReranker;

/** An embedder or reranker of this process that answers for another one; the other one of the two is null. */
record LocalVectors(TextEmbedder embedder, TextReranker reranker) implements AutoCloseable {
    static LocalVectors open(Model model, Wire.Vectors asked) {
        return asked.ranks() ? new LocalVectors(null, Reranker.open(model, asked.options()))
                : new LocalVectors(Embedder.open(model, asked.options()), null);
    }

    Wire.VectorsOpened opened() {
        return reranker != null ? new Wire.VectorsOpened(Pooling.RANK, 1, reranker.longestText())
                : new Wire.VectorsOpened(embedder.pooling(), embedder.size(), embedder.longestText());
    }

    float[][] of(Wire.VectorsOf asked) {
        if (reranker == null) {
            return asked.byToken() ? embedder.embedTokens(asked.texts().getFirst()) : embedder.embed(asked.texts());
        }
        var scores = reranker.scores(asked.query(), asked.texts());
        var rows = new float[scores.length][1];
        for (int i = 0; i < scores.length; i++) {
            rows[i][0] = scores[i];
        }
        return rows;
    }

    @Override
    public void close() {
        if (reranker != null) {
            reranker.close();
        } else {
            embedder.close();
        }
    }
}
