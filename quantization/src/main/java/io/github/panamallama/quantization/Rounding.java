package io.github.panamallama.quantization;

import io.github.panamallama.quantization.Sparsifier.Method;
import io.github.panamallama.runtime.BlockQuantizer;
import io.github.panamallama.runtime.Dequantizer;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/**
 * Rounds the matrices of a model to blocks of a type. ggml's own quantisers do it, and weigh errors by the mean square of each input
 * where a text was read; for sparse types a {@link Method} says before which weights stay. Each expert is rounded by the tokens that it was
 * given, and those that were given none as if no text had been read.
 *
 * <p>The same model, text and method give the same blocks, whatever else is rounded. One caller at a time; all processors compute.
 */
final class Rounding {
    /** Elements that one task rounds, about. */
    private static final int TASK_ELEMENTS = 1 << 16;
    /** Tasks between two writes: bounds memory at about 60 MB. */
    private static final int TASKS = 64;

    /**
     * What one matrix is rounded with.
     *
     * @param norms      of the input's columns; null for all alike
     * @param gpt        null but for SparseGPT
     * @param importance of the columns for the quantiser; null for all alike
     */
    private record Pruner(double[] norms, SparseGpt gpt, float[] importance) {
        static final Pruner BY_MAGNITUDE = new Pruner(null, null, null);

        void prune(float[] weights, int rows, int columns) {
            if (gpt != null) {
                gpt.prune(weights, rows);
            } else {
                TwoOfFour.prune(weights, rows, columns, norms);
            }
        }
    }

    private final Method method;
    /** Null where no text was read. */
    private final Activations activations;
    private final List<Activations.Matrix> sparse;
    private final Map<String, Integer> columns = new HashMap<>();
    private final long memory;

    private Map<String, List<ColumnSquares>> squares;
    private Map<Activations.Matrix, GramMatrix> grams = Map.of();
    /** For SparseGPT, of equal inputs once. */
    private final Map<Activations.Matrix, Pruner> factored = new HashMap<>();
    private final Map<String, Integer> unused = new LinkedHashMap<>();

    /**
     * @param activations null to round without a text, by magnitude
     * @param matrices    that may be rounded; those whose inputs can't be read are rounded as without a text
     * @param sparse      those of them that may get a sparse type, in the order in which they will
     * @param memory      bytes that Gram matrices may take together; at least one is held
     */
    Rounding(Method method, Activations activations, Collection<SourceModel.Tensor> matrices, Collection<SourceModel.Tensor> sparse,
            long memory) {
        this.method = method;
        this.activations = activations;
        this.memory = memory;
        matrices.stream().filter(this::weighs).forEach(matrix -> columns.put(matrix.name(), matrix.columns()));
        this.sparse = sparse.stream().map(SourceModel.Tensor::name).filter(columns::containsKey)
                .flatMap(name -> IntStream.range(0, activations.matrices(name)).mapToObj(i -> new Activations.Matrix(name, i))).toList();
    }

    /** Whether the text says which errors in this matrix matter. */
    boolean weighs(SourceModel.Tensor matrix) {
        return activations != null && !matrix.isEnd() && activations.readable(matrix.name());
    }

    /** Of weights of experts that were rounded: how many of the experts the text gave no token to. */
    Map<String, Integer> unused() {
        return unused;
    }

    /** Writes all of a matrix, or of the matrices of all experts. */
    void write(SourceModel.Tensor matrix, GgmlType type, GgufWriter.Output to) throws IOException {
        int count = columns.containsKey(matrix.name()) ? activations.matrices(matrix.name()) : 1;
        long rows = matrix.rows() / count;
        int without = 0;
        for (int i = 0; i < count; i++) {
            var pruner = pruner(new Activations.Matrix(matrix.name(), i), type);
            without += columns.containsKey(matrix.name()) && pruner == Pruner.BY_MAGNITUDE ? 1 : 0;
            write(matrix, type, pruner, i * rows, (i + 1) * rows, to);
        }
        if (without > 0) {
            unused.put(matrix.name(), without);
        }
    }

    private void write(SourceModel.Tensor matrix, GgmlType type, Pruner pruner, long begin, long end, GgufWriter.Output to)
            throws IOException {
        int columns = matrix.columns();
        int taskRows = Math.max(SparseGpt.ROWS, TASK_ELEMENTS / columns);
        try (var arena = Arena.ofShared()) {
            var data = matrix.file().map(matrix.info(), arena);
            var blocks = arena.allocate(type.bytes(Math.min(end - begin, (long) TASKS * taskRows) * columns), 32);
            for (long first = begin; first < end; first += (long) TASKS * taskRows) {
                long start = first;
                long count = Math.min(end - start, (long) TASKS * taskRows);
                IntStream.range(0, Math.toIntExact(Math.ceilDiv(count, taskRows))).parallel().forEach(task -> {
                    long from = (long) task * taskRows;
                    int own = (int) Math.min(taskRows, count - from);
                    round(matrix, data, pruner, type, start + from, own,
                            blocks.asSlice(type.bytes(from * columns), type.bytes((long) own * columns)));
                });
                to.write(blocks.asSlice(0, type.bytes(count * columns)));
            }
        }
    }

    private void round(SourceModel.Tensor matrix, MemorySegment data, Pruner pruner, GgmlType type, long first, int rows,
            MemorySegment to) {
        int columns = matrix.columns();
        var from = matrix.info().type();
        var weights = new float[rows * columns];
        Dequantizer.toFloats(from, data.asSlice(from.bytes(first * columns), from.bytes(weights.length)), weights, weights.length);
        requireFinite(matrix, first, weights, "is");
        if (!type.isSparse()) {
            var importance = pruner.importance;
            if (importance == null && BlockQuantizer.needsImportance(type)) {   // of an expert without tokens
                importance = new float[columns];
                Arrays.fill(importance, 1);
            }
            BlockQuantizer.toBlocks(type, weights, rows, columns, importance, to);
            return;
        }
        pruner.prune(weights, rows, columns);
        requireFinite(matrix, first, weights, "became");
        BlockQuantizer.toBlocks(type, weights, rows, columns, pruner.importance, to);
        Dequantizer.toFloats(type, to, weights, weights.length);
        int fault = TwoOfFour.firstFault(weights, weights.length);
        if (fault >= 0) {
            throw new LlamaException(at(matrix, first, fault * TwoOfFour.GROUP) + " begins a group of 4 with more than 2 weights; "
                    + "the quantiser of " + type.label() + " is broken");
        }
    }

    private static void requireFinite(SourceModel.Tensor matrix, long first, float[] weights, String verb) {
        for (int i = 0; i < weights.length; i++) {
            if (!Float.isFinite(weights[i])) {
                throw new LlamaException(at(matrix, first, i) + " " + verb + " " + weights[i] + "; the model or its calibration is broken");
            }
        }
    }

    private static String at(SourceModel.Tensor matrix, long first, int i) {
        return matrix.file().path() + ": \"" + matrix.name() + "\" row " + (first + i / matrix.columns())
                + " column " + i % matrix.columns();
    }

    /** {@link Pruner#BY_MAGNITUDE} itself where nothing is known. */
    private Pruner pruner(Activations.Matrix matrix, GgmlType type) {
        if (!columns.containsKey(matrix.weight())) {
            return Pruner.BY_MAGNITUDE;
        }
        if (type.isSparse() && method == Method.SPARSEGPT) {
            return factored(matrix);
        }
        if (squares == null) {
            squares = activations.squares(columns.keySet());
        }
        var own = squares.get(matrix.weight()).get(matrix.index());
        return own.tokens() == 0 ? Pruner.BY_MAGNITUDE : new Pruner(method == Method.WANDA ? own.norms() : null, null, own.importance());
    }

    private Pruner factored(Activations.Matrix matrix) {
        if (!grams.containsKey(matrix)) {
            factored.clear();
            grams = Map.of();   // before the next ones take their memory
            grams = activations.grams(run(matrix));
        }
        return factored.computeIfAbsent(source(matrix), source -> {
            var gram = grams.get(matrix);
            var importance = gram.squares().importance();
            return importance == null ? Pruner.BY_MAGNITUDE : new Pruner(null, new SparseGpt(gram), importance);
        });
    }

    private Activations.Matrix source(Activations.Matrix matrix) {
        return new Activations.Matrix(activations.source(matrix.weight()), matrix.index());
    }

    /** This matrix and those behind it, while memory allows. */
    private List<Activations.Matrix> run(Activations.Matrix matrix) {
        var run = new ArrayList<Activations.Matrix>();
        var inputs = new LinkedHashSet<Activations.Matrix>();
        long bytes = 0;
        for (var next : sparse.subList(sparse.indexOf(matrix), sparse.size())) {
            if (inputs.add(source(next))) {
                bytes += GramMatrix.bytes(columns.get(next.weight()));
            }
            if (bytes > memory && !run.isEmpty()) {
                break;
            }
            run.add(next);
        }
        return run;
    }
}
