package io.github.panamallama.quantization;

import io.github.panamallama.runtime.BlockQuantizer;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.Quantizer;
import io.github.panamallama.runtime.gguf.GgmlType;
import java.nio.file.Path;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Writes a model as a {@link TypePlan} says, each matrix in a type of its own. Matrices are rounded as they were when the plan was
 * searched, which takes the text that the plan names: once for importances, and as {@link Sparsifier} says for SparseGPT. All that is no
 * matrix is copied; parts of a split model become one file. Immutable; weights are streamed.
 */
public final class PlannedQuantizer {
    private final SourceModel source;
    private final TypePlan plan;
    private final boolean overwrite;
    private final int threads;
    private final long memory;
    private final Progress progress;

    private PlannedQuantizer(SourceModel source, TypePlan plan, boolean overwrite, int threads, long memory, Progress progress) {
        this.source = source;
        this.plan = plan;
        this.overwrite = overwrite;
        this.threads = threads;
        this.memory = memory;
        this.progress = progress;
    }

    /**
     * Checks whether a plan is for a model.
     *
     * @param model a GGUF file; of a split model the first part
     * @throws io.github.panamallama.runtime.gguf.GgufException if it is missing or broken
     * @throws LlamaException if the plan is for another model, has a matrix that the model lacks, lacks one that the model has, or gives
     *                        one a type that its rows don't fit or that needs a text where the plan names none
     */
    public static PlannedQuantizer of(Path model, TypePlan plan) {
        var source = SourceModel.read(model);
        var own = source.fingerprint();
        if (!own.equals(plan.model())) {
            throw new LlamaException("the plan is for " + plan.description() + " with fingerprint " + plan.model() + "; " + model
                    + " has fingerprint " + own + ". Search types for this model");
        }
        plan.types().forEach((name, type) -> {
            var tensor = source.tensors().get(name);
            if (tensor == null) {
                throw new LlamaException("the plan has a type for \"" + name + "\"; " + model + " has no such tensor");
            }
            if (!tensor.isBlockMatrix() && !tensor.isEnd() && type != tensor.info().type()) {
                throw new LlamaException("the plan has a type for \"" + name + "\", which is no matrix that can be quantised");
            }
            check(tensor, type, plan);
        });
        for (var tensor : source.tensors().values()) {
            if ((tensor.isBlockMatrix() || tensor.isEnd()) && !plan.types().containsKey(tensor.name())) {
                throw new LlamaException("the plan has no type for \"" + tensor.name() + "\" of " + model + "; each matrix needs one, "
                        + tensor.info().type().label() + " keeps it as it is");
            }
        }
        return new PlannedQuantizer(source, plan, false, 0, Runtime.getRuntime().maxMemory() / 2, Progress.NONE);
    }

    private static void check(SourceModel.Tensor tensor, GgmlType type, TypePlan plan) {
        if (type == tensor.info().type()) {
            return;
        }
        if (!tensor.fits(type)) {
            throw new LlamaException("the plan has " + type.label() + " for \"" + tensor.name() + "\", whose rows of " + tensor.columns()
                    + " are no multiple of " + type.blockSize());
        }
        if (!BlockQuantizer.supports(type)) {
            throw new LlamaException("the plan has " + type.label() + " for \"" + tensor.name() + "\", which nothing can be quantised to");
        }
        if (BlockQuantizer.needsImportance(type) && (plan.text().isEmpty() || tensor.isEnd())) {
            throw new LlamaException("the plan has " + type.label() + " for \"" + tensor.name() + "\", which needs to know what matters on "
                    + "a text, and " + (tensor.isEnd() ? "nothing is learned about this matrix" : "names no text"));
        }
        tensor.requireFloats(false);
    }

    /** Whether an existing output file is replaced. */
    public PlannedQuantizer withOverwrite(boolean overwrite) {
        return new PlannedQuantizer(source, plan, overwrite, threads, memory, progress);
    }

    /** @param threads CPU threads that evaluate the text, 0 for all cores */
    public PlannedQuantizer withThreads(int threads) {
        return new PlannedQuantizer(source, plan, overwrite, threads, memory, progress);
    }

    /** @param bytes as {@link Sparsifier#withMemory} */
    public PlannedQuantizer withMemory(long bytes) {
        return new PlannedQuantizer(source, plan, overwrite, threads, bytes, progress);
    }

    public PlannedQuantizer withProgress(Progress progress) {
        return new PlannedQuantizer(source, plan, overwrite, threads, memory, progress);
    }

    /**
     * Writes the model. It appears under its name only when it is complete. Blocks until it is done; all processors compute.
     *
     * @param text the text that the plan names; null where it names none
     * @return bytes of the file
     * @throws LlamaException if it is another text, what a matrix is multiplied by can't be read, a weight isn't finite, {@code out} is an
     *                        input, or exists and is not to be overwritten, or its folder is missing or too full
     */
    public long run(String text, Path out) {
        source.checkOutput(out, overwrite);
        if (plan.text().isEmpty()) {
            return write(out, null);
        }
        if (text == null) {
            throw new LlamaException("the plan's matrices are rounded by what they are multiplied by on " + plan.text().get().path()
                    + "; give that text");
        }
        var calibration = plan.text().get().calibration(text);
        var columns = new LinkedHashMap<String, Integer>();
        source.tensors().values().stream().filter(SourceModel.Tensor::isBlockMatrix)
                .forEach(matrix -> columns.put(matrix.name(), matrix.columns()));
        try (var model = Model.load(source.path(), ModelOptions.defaults().withRepack(false));
                var activations = Activations.open(model, columns, calibration, threads, progress)) {
            return write(out, activations);
        }
    }

    private long write(Path out, Activations activations) {
        var changed = source.tensors().values().stream().filter(tensor -> type(tensor) != tensor.info().type()).toList();
        var sparse = changed.stream().filter(tensor -> type(tensor).isSparse()).toList();
        var rounding = new Rounding(plan.method(), activations, changed, sparse, memory);
        for (var tensor : changed) {
            if (BlockQuantizer.needsImportance(type(tensor)) && !rounding.weighs(tensor)) {
                throw new LlamaException("the plan has " + type(tensor).label() + " for \"" + tensor.name()
                        + "\", and what that is multiplied by can't be read");
            }
        }
        return source.write(out, fileType(), sparse.isEmpty() ? Map.of() : Sparsifier.metadata(plan.method(), activations), this::type,
                rounding::write, progress);
    }

    private GgmlType type(SourceModel.Tensor tensor) {
        return plan.types().getOrDefault(tensor.name(), tensor.info().type());
    }

    /** llama.cpp's number of the type that most weights have. */
    private int fileType() {
        var weights = new EnumMap<GgmlType, Long>(GgmlType.class);
        source.tensors().values().forEach(tensor -> weights.merge(type(tensor), tensor.info().elementCount(), Long::sum));
        var most = weights.entrySet().stream().max(Map.Entry.comparingByValue()).orElseThrow().getKey();
        return Quantizer.Type.byName(most.name()).map(Quantizer.Type::id).orElse(-1);
    }
}
