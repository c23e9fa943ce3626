package io.github.panamallama;

import io.github.panamallama.runtime.EmbedderOptions;
import io.github.panamallama.runtime.Pooling;
import io.github.panamallama.runtime.TextEmbedder;
import java.util.List;

/** An embedder in a worker. */
final class RemoteEmbedder implements TextEmbedder {
    private final RemoteVectors vectors;

    /** @param owns whether the worker ends with this */
    RemoteEmbedder(IsolatedLlama llama, EmbedderOptions options, boolean owns) {
        vectors = new RemoteVectors(llama, options, false, owns);
    }

    @Override
    public Pooling pooling() {
        return vectors.opened().pooling();
    }

    @Override
    public int size() {
        return vectors.opened().size();
    }

    @Override
    public int longestText() {
        return vectors.opened().longest();
    }

    @Override
    public float[] embed(String text) {
        return embed(List.of(text))[0];
    }

    @Override
    public float[][] embed(List<String> texts) {
        return vectors.of(null, texts, false);
    }

    @Override
    public float[][] embedTokens(String text) {
        return vectors.of(null, List.of(text), true);
    }

    @Override
    public void close() {
        vectors.close();
    }
}
