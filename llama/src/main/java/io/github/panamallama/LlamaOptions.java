package io.github.panamallama;

import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.ModelOptions;

/**
 * How a {@link Llama} is made: {@code LlamaOptions.defaults().withContextSize(4096).withThreads(8).withTemperature(0.2f)}. The most
 * used settings have methods here; all others are in the three parts.
 *
 * @param model      how the weights are loaded
 * @param engine     context, batching and threads
 * @param generation what holds for every generation that brings no options of its own
 */
public record LlamaOptions(ModelOptions model, EngineOptions engine, GenerationOptions generation) {
    private static final LlamaOptions DEFAULTS = new LlamaOptions(ModelOptions.defaults(), EngineOptions.defaults(), GenerationOptions.defaults());

    public LlamaOptions {
        if (model == null || engine == null || generation == null) {
            throw new IllegalArgumentException("model, engine and generation must be given");
        }
    }

    public static LlamaOptions defaults() {
        return DEFAULTS;
    }

    public LlamaOptions withModel(ModelOptions model) {
        return new LlamaOptions(model, engine, generation);
    }

    public LlamaOptions withEngine(EngineOptions engine) {
        return new LlamaOptions(model, engine, generation);
    }

    public LlamaOptions withGeneration(GenerationOptions generation) {
        return new LlamaOptions(model, engine, generation);
    }

    /** Tokens of context, shared by everything that runs at the same time. */
    public LlamaOptions withContextSize(int tokens) {
        return withEngine(engine.withContextSize(tokens));
    }

    /** CPU threads. */
    public LlamaOptions withThreads(int count) {
        return withEngine(engine.withThreads(count));
    }

    /** Layers kept on the GPU, where the native libraries have one. */
    public LlamaOptions withGpuLayers(int count) {
        return withModel(model.withGpuLayers(count));
    }

    /** Most tokens of a generation. */
    public LlamaOptions withMaxTokens(int count) {
        return withGeneration(generation.withMaxTokens(count));
    }

    public LlamaOptions withTemperature(float temperature) {
        return withGeneration(generation.withTemperature(temperature));
    }

    public LlamaOptions withSeed(long seed) {
        return withGeneration(generation.withSeed(seed));
    }
}
