package io.github.panamallama;

import io.github.panamallama.runtime.ControlVector;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import java.util.function.Function;

/**
 * How a {@link Llama} is made: {@code LlamaOptions.defaults().withContextSize(4096).withThreads(8).withTemperature(0.2f)}. The most
 * used settings have methods here; all others are in the three parts.
 *
 * @param model      how the weights are loaded
 * @param engine     context, batching and threads
 * @param generation what holds for every generation that brings no options of its own
 * @param control    makes the control vector that all texts are written with; null for none
 */
public record LlamaOptions(ModelOptions model, EngineOptions engine, GenerationOptions generation, Function<Model, ControlVector> control) {
    private static final LlamaOptions DEFAULTS = new LlamaOptions(ModelOptions.defaults(), EngineOptions.defaults(),
            GenerationOptions.defaults(), null);

    public LlamaOptions {
        if (model == null || engine == null || generation == null) {
            throw new IllegalArgumentException("model, engine and generation must be given");
        }
    }

    public static LlamaOptions defaults() {
        return DEFAULTS;
    }

    public LlamaOptions withModel(ModelOptions model) {
        return new LlamaOptions(model, engine, generation, control);
    }

    public LlamaOptions withEngine(EngineOptions engine) {
        return new LlamaOptions(model, engine, generation, control);
    }

    public LlamaOptions withGeneration(GenerationOptions generation) {
        return new LlamaOptions(model, engine, generation, control);
    }

    /**
     * All texts are written with a control vector: {@code withControl(ControlFiles.of(file, 0.5f))}, or one that code makes. It can't be
     * changed while the model is loaded.
     */
    public LlamaOptions withControl(Function<Model, ControlVector> control) {
        return new LlamaOptions(model, engine, generation, control);
    }

    /** Tokens of context, shared by everything that runs at the same time. */
    public LlamaOptions withContextSize(int tokens) {
        return withEngine(engine.withContextSize(tokens));
    }

    /** CPU threads. */
    public LlamaOptions withThreads(int count) {
        return withEngine(engine.withThreads(count));
    }

    /** Layers kept on the GPU, where the native libraries have one; without it as many as fit. */
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
