package io.github.panamallama.runtime;

/**
 * How an {@link Embedder} or {@link Reranker} is made: {@code EmbedderOptions.defaults().withPooling(Pooling.LAST)}.
 *
 * @param pooling       null for the model's own
 * @param normalization of vectors; scores are never normalized
 * @param batchSize     most tokens evaluated by one native call, which is also the longest text; 0 for the context that the model was
 *                      trained
 *                      on, at most {@value #DEFAULT_BATCH_LIMIT}
 * @param maxTexts      most texts evaluated by one native call, 1 to 256. Recurrent models need memory for each
 * @param truncation    whether a longer text loses its end; else it is refused
 * @param causal        whether tokens of a decoder see those before them only; null for the model's own way. Encoders see all
 * @param threads       CPU threads; 0 means one per physical core
 */
public record EmbedderOptions(Pooling pooling, Normalization normalization, int batchSize, int maxTexts, boolean truncation, Boolean causal,
        int threads) {
    /** Largest batch that is chosen without being asked for, in tokens. */
    public static final int DEFAULT_BATCH_LIMIT = 2048;

    private static final EmbedderOptions DEFAULTS = new EmbedderOptions(null, Normalization.EUCLIDEAN, 0, 64, false, null, 0);

    public EmbedderOptions {
        if (normalization == null) {
            throw new IllegalArgumentException("normalization must be given; Normalization.NONE for none");
        }
        within("batchSize", batchSize, 0, 1 << 20);
        within("maxTexts", maxTexts, 1, EngineOptions.MAX_SEQUENCES);
        within("threads", threads, 0, 512);
    }

    /** The model's own pooling, vectors of Euclidean length 1. */
    public static EmbedderOptions defaults() {
        return DEFAULTS;
    }

    public EmbedderOptions withPooling(Pooling pooling) {
        return new EmbedderOptions(pooling, normalization, batchSize, maxTexts, truncation, causal, threads);
    }

    public EmbedderOptions withNormalization(Normalization normalization) {
        return new EmbedderOptions(pooling, normalization, batchSize, maxTexts, truncation, causal, threads);
    }

    public EmbedderOptions withBatchSize(int tokens) {
        return new EmbedderOptions(pooling, normalization, tokens, maxTexts, truncation, causal, threads);
    }

    public EmbedderOptions withMaxTexts(int count) {
        return new EmbedderOptions(pooling, normalization, batchSize, count, truncation, causal, threads);
    }

    public EmbedderOptions withTruncation(boolean truncation) {
        return new EmbedderOptions(pooling, normalization, batchSize, maxTexts, truncation, causal, threads);
    }

    public EmbedderOptions withCausal(Boolean causal) {
        return new EmbedderOptions(pooling, normalization, batchSize, maxTexts, truncation, causal, threads);
    }

    public EmbedderOptions withThreads(int count) {
        return new EmbedderOptions(pooling, normalization, batchSize, maxTexts, truncation, causal, count);
    }

    private static void within(String name, int value, int low, int high) {
        if (value < low || value > high) {
            throw new IllegalArgumentException(name + " is " + value + "; it must be between " + low + " and " + high);
        }
    }
}
