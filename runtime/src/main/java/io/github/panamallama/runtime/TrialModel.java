package io.github.panamallama.runtime;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufTensor;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/**
 * A model whose weights are tried in other types. A weight is pointed at blocks that lie in memory already, nothing is copied or loaded,
 * and the engines that are opened from then on compute with them, by the kernels of their type. Trying a candidate so costs its evaluation
 * and the opening of an engine.
 *
 * <p>Weights lie on the CPU, in the layout of the file. The file is never changed. One caller at a time.
 *
 * <pre>{@code
 * trial.replace("blk.0.ffn_up.weight", GgmlType.Q4_K, blocks);
 * try (var engine = Engine.open(trial.model())) { ... }
 * }</pre>
 */
public final class TrialModel implements AutoCloseable {
    private final Model model;
    private final Map<String, GgufTensor> weights = new HashMap<>();
    /** What weights point at: kept from being collected. */
    private final Map<String, MemorySegment> blocks = new HashMap<>();

    private TrialModel(Model model) {
        this.model = model;
        model.parts().forEach(part -> part.tensors().forEach(tensor -> weights.put(tensor.name(), tensor)));
    }

    /**
     * Loads a model.
     *
     * @param path as {@link Model#load(Path)}, which says what is thrown
     */
    public static TrialModel load(Path path) {
        return new TrialModel(Model.load(path, ModelOptions.defaults().withRepack(false).withGpuLayers(0).withDevices("none")));
    }

    /** The model, which says of itself what the file says. */
    public Model model() {
        return model;
    }

    /**
     * Puts other values in place of a weight's.
     *
     * @param data native memory of exactly as many blocks as the weight has, alive until this is closed or the weight is replaced again
     * @throws ModelInUseException      while engines are open
     * @throws IllegalArgumentException if there is no such weight, or its rows or the data don't fit the type
     * @throws LlamaException           if the model does not use the weight
     */
    public void replace(String weight, GgmlType type, MemorySegment data) {
        var tensor = weights.get(weight);
        if (tensor == null) {
            throw new IllegalArgumentException(model.path() + " has no \"" + weight + "\"");
        }
        if (tensor.shape().getFirst() % type.blockSize() != 0) {
            throw new IllegalArgumentException("\"" + weight + "\" has rows of " + tensor.shape().getFirst() + " elements; type "
                    + type.label() + " needs a multiple of " + type.blockSize());
        }
        long bytes = type.bytes(tensor.elementCount());
        if (!data.isNative() || data.byteSize() != bytes) {
            throw new IllegalArgumentException("\"" + weight + "\" as " + type.label() + " takes " + bytes + " bytes of native memory; "
                    + "given are " + data.byteSize() + (data.isNative() ? "" : " of the heap"));
        }
        model.pointTo(weight, type, data);
        blocks.put(weight, data);
    }

    /** @throws ModelInUseException while engines are open; the model stays open */
    @Override
    public void close() {
        model.close();
    }
}
