package io.github.panamallama.runtime;

import io.github.panamallama.runtime.gguf.GgmlType;

/**
 * How an {@link Engine} is made. Start from {@link #defaults} and change what matters:
 * {@code EngineOptions.defaults().withContextSize(8192).withThreads(4)}.
 *
 * @param contextSize    tokens that the KV cache holds, shared by all sequences; 0 means as many as the model was trained on, at
 *                       most {@value #DEFAULT_CONTEXT_LIMIT}. Native code rounds it up to a multiple of 256
 * @param batchSize      most tokens evaluated by one native call
 * @param ubatchSize     most tokens of one compute graph; memory for activations grows with it
 * @param threads        CPU threads while one or few tokens are evaluated; 0 means one per physical core that the scheduling allows
 * @param batchThreads   CPU threads while prompts are evaluated; 0 means as {@code threads}
 * @param maxSequences   sequences that may hold cells of the KV cache at the same time, 1 to 256; further ones wait or are
 *                       evaluated again. Recurrent models need memory for each
 * @param keyType        element type of cached keys, for instance F16, BF16, F32 or Q8_0
 * @param valueType      element type of cached values; a quantised one needs flash attention
 * @param flashAttention when the fused attention kernel is used
 * @param promptChunk    most tokens of prompts in one step while others wait for their next token; smaller means steadier streams,
 *                       larger means faster prompts
 * @param polling        how long idle CPU threads spin for the next graph, 0 (sleep at once) to 100; llama.cpp's value is 50
 * @param checkpoints    states kept per sequence where a model can't forget single tokens (recurrent, hybrid, sliding window),
 *                       so that {@link Sequence#truncate} need not evaluate everything again; 0 also keeps none for rejected drafts
 * @param spareLayers    layers of the KV cache beyond the model's, each as large as its first: a {@link LayerPlan} takes one for each
 *                       repetition of a block. A model with sliding windows gets them in both of its caches
 * @param scheduling     on which processors the threads run and with which priority
 */
public record EngineOptions(
        int contextSize,
        int batchSize,
        int ubatchSize,
        int threads,
        int batchThreads,
        int maxSequences,
        GgmlType keyType,
        GgmlType valueType,
        FlashAttention flashAttention,
        int promptChunk,
        int polling,
        int checkpoints,
        int spareLayers,
        Scheduling scheduling) {

    /** Largest context that is chosen without being asked for, in tokens. */
    public static final int DEFAULT_CONTEXT_LIMIT = 8192;

    /** Most sequence ids that llama.cpp knows in this version ({@code LLAMA_MAX_SEQ}). */
    static final int MAX_SEQUENCES = 256;

    /** Most repetitions of blocks in one plan. */
    public static final int MAX_SPARE_LAYERS = 32;

    private static final EngineOptions DEFAULTS = new EngineOptions(
            0, 512, 512, 0, 0, 16, GgmlType.F16, GgmlType.F16, FlashAttention.AUTO, 64, 50, 4, 0, Scheduling.usual());

    public EngineOptions {
        within("contextSize", contextSize, 0, Integer.MAX_VALUE);
        within("batchSize", batchSize, 1, 1 << 20);
        within("ubatchSize", ubatchSize, 1, 1 << 20);
        within("threads", threads, 0, 512);
        within("batchThreads", batchThreads, 0, 512);
        within("maxSequences", maxSequences, 1, MAX_SEQUENCES);
        within("promptChunk", promptChunk, 1, 1 << 20);
        within("polling", polling, 0, 100);
        within("checkpoints", checkpoints, 0, 1024);
        within("spareLayers", spareLayers, 0, MAX_SPARE_LAYERS);
        if (ubatchSize > batchSize) {
            throw new IllegalArgumentException(
                    "ubatchSize " + ubatchSize + " is larger than batchSize " + batchSize + "; make it at most as large");
        }
        if (keyType == null || valueType == null || flashAttention == null || scheduling == null) {
            throw new IllegalArgumentException("keyType, valueType, flashAttention and scheduling must be given");
        }
    }

    /** llama.cpp's defaults, except for the context, which is the model's own up to {@value #DEFAULT_CONTEXT_LIMIT} tokens. */
    public static EngineOptions defaults() {
        return DEFAULTS;
    }

    public EngineOptions withContextSize(int tokens) {
        return new EngineOptions(tokens, batchSize, ubatchSize, threads, batchThreads, maxSequences, keyType, valueType,
                flashAttention, promptChunk, polling, checkpoints, spareLayers, scheduling);
    }

    /** Sets the size of a native call; {@code ubatchSize} is lowered with it where needed. */
    public EngineOptions withBatchSize(int tokens) {
        return new EngineOptions(contextSize, tokens, Math.min(tokens, ubatchSize), threads, batchThreads, maxSequences, keyType,
                valueType, flashAttention, promptChunk, polling, checkpoints, spareLayers, scheduling);
    }

    /** Sets the size of a compute graph; {@code batchSize} is raised with it where needed. */
    public EngineOptions withUbatchSize(int tokens) {
        return new EngineOptions(contextSize, Math.max(tokens, batchSize), tokens, threads, batchThreads, maxSequences, keyType,
                valueType, flashAttention, promptChunk, polling, checkpoints, spareLayers, scheduling);
    }

    public EngineOptions withThreads(int count) {
        return new EngineOptions(contextSize, batchSize, ubatchSize, count, batchThreads, maxSequences, keyType, valueType,
                flashAttention, promptChunk, polling, checkpoints, spareLayers, scheduling);
    }

    public EngineOptions withBatchThreads(int count) {
        return new EngineOptions(contextSize, batchSize, ubatchSize, threads, count, maxSequences, keyType, valueType,
                flashAttention, promptChunk, polling, checkpoints, spareLayers, scheduling);
    }

    public EngineOptions withMaxSequences(int count) {
        return new EngineOptions(contextSize, batchSize, ubatchSize, threads, batchThreads, count, keyType, valueType,
                flashAttention, promptChunk, polling, checkpoints, spareLayers, scheduling);
    }

    public EngineOptions withCacheTypes(GgmlType keys, GgmlType values) {
        return new EngineOptions(contextSize, batchSize, ubatchSize, threads, batchThreads, maxSequences, keys, values,
                flashAttention, promptChunk, polling, checkpoints, spareLayers, scheduling);
    }

    public EngineOptions withFlashAttention(FlashAttention when) {
        return new EngineOptions(contextSize, batchSize, ubatchSize, threads, batchThreads, maxSequences, keyType, valueType,
                when, promptChunk, polling, checkpoints, spareLayers, scheduling);
    }

    public EngineOptions withPromptChunk(int tokens) {
        return new EngineOptions(contextSize, batchSize, ubatchSize, threads, batchThreads, maxSequences, keyType, valueType,
                flashAttention, tokens, polling, checkpoints, spareLayers, scheduling);
    }

    public EngineOptions withPolling(int level) {
        return new EngineOptions(contextSize, batchSize, ubatchSize, threads, batchThreads, maxSequences, keyType, valueType,
                flashAttention, promptChunk, level, checkpoints, spareLayers, scheduling);
    }

    public EngineOptions withCheckpoints(int count) {
        return new EngineOptions(contextSize, batchSize, ubatchSize, threads, batchThreads, maxSequences, keyType, valueType,
                flashAttention, promptChunk, polling, count, spareLayers, scheduling);
    }

    public EngineOptions withSpareLayers(int count) {
        return new EngineOptions(contextSize, batchSize, ubatchSize, threads, batchThreads, maxSequences, keyType, valueType,
                flashAttention, promptChunk, polling, checkpoints, count, scheduling);
    }

    /** When and where the threads run. */
    public EngineOptions withScheduling(Scheduling how) {
        return new EngineOptions(contextSize, batchSize, ubatchSize, threads, batchThreads, maxSequences, keyType, valueType,
                flashAttention, promptChunk, polling, checkpoints, spareLayers, how);
    }

    private static void within(String name, int value, int low, int high) {
        if (value < low || value > high) {
            throw new IllegalArgumentException(name + " is " + value + "; it must be between " + low + " and " + high);
        }
    }
}
