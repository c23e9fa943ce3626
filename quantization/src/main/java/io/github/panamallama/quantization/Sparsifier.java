package io.github.panamallama.quantization;

import io.github.panamallama.runtime.BlockQuantizer;
import io.github.panamallama.runtime.Dequantizer;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import java.util.stream.IntStream;

/**
 * Writes a model whose matrices are 2:4 sparse: of every 4 consecutive weights of a row at most 2 are kept, in one of the S24 types. Which
 * two, a {@link Method} says for each row; ggml's own quantiser then rounds them, weighing errors by the mean square of each input where a
 * calibration text was given. S24_T may move a kept sign to another place of its group where that leaves less error. Embedding and output
 * matrices, norms, biases, matrices that no product uses and those whose rows are no multiple of 256 stay dense, and so does what
 * {@link #withDense} names. The metadata is copied; parts of a split model become one file.
 *
 * <p>Inputs are those of the dense model, for every block alike; of an expert those of the tokens that were given to it. Experts that met
 * no token are pruned by magnitude, and the result says so. One-shot pruning costs much quality; fine-tuning under the mask is what
 * recovers it.
 *
 * <p>Time and memory: a pass over the text, one in all for Wanda. SparseGPT needs one for each run of matrices whose Gram matrices, of
 * {@code 8 columns^2} bytes for each distinct input, fit into {@link #withMemory} together; {@code columns^2 / 2} multiplications for each
 * token and input, {@code columns^3 / 3} on one processor to factor each, and {@code columns^2 / 4} for each row that is pruned.
 *
 * <p>Immutable; any thread may {@link #run} it. Weights are streamed.
 *
 * <pre>{@code
 * Sparsifier.of(in).withType(GgmlType.S24_Q4).withMethod(Method.SPARSEGPT, Calibration.of(text)).run(out);
 * }</pre>
 */
public final class Sparsifier {
    /** What decides which weights stay. */
    public enum Method {
        /** The largest. */
        MAGNITUDE,
        /** Those with the largest product of size and norm of the input (Sun et al., arXiv 2306.11695). */
        WANDA,
        /** Those that are hardest to make up for; the others are made up for (Frantar and Alistarh, arXiv 2301.00774). */
        SPARSEGPT
    }

    /**
     * What was written.
     *
     * @param sparse matrices in the sparse type
     * @param dense  matrices that stayed dense against expectation, with the reason; not embedding, output, norms and what was named
     * @param notes  sparse matrices that were pruned in another way than was asked for, with the reason
     * @param bytes  of the file
     */
    public record Result(List<String> sparse, Map<String, String> dense, Map<String, String> notes, long bytes) {
        public Result {
            sparse = List.copyOf(sparse);
            dense = Collections.unmodifiableMap(new LinkedHashMap<>(dense));
            notes = Collections.unmodifiableMap(new LinkedHashMap<>(notes));
        }
    }

    /** Metadata of a sparse model: the method in lower case. */
    public static final String METHOD = "general.sparsity.method";
    /** Metadata of a sparse model: tokens of the calibration text; not there without one. */
    public static final String TOKENS = "general.sparsity.calibration_tokens";

    /** The sparse types. */
    public static final Set<GgmlType> TYPES = EnumSet.of(GgmlType.S24_Q4, GgmlType.S24_Q8, GgmlType.S24_T);

    private static final Set<GgmlType> FLOATS = EnumSet.of(GgmlType.F32, GgmlType.F16, GgmlType.BF16);
    private static final Pattern MATRIX = Pattern.compile("blk\\.\\d+\\..*weight");
    private static final Set<String> ENDS = Set.of("token_embd.weight", "output.weight");
    /** Of llama.cpp's tensor_allows_quantization (src/llama-quant.cpp): what isn't only multiplied, or is small. */
    private static final Pattern SPECIAL = Pattern.compile("_norm\\.weight|ffn_gate_inp|ffn_gate_tid2eid|altup|laurel|per_layer_model_proj"
            + "|ssm_conv1d|shortconv\\.conv|indexer\\.[kq]_proj|attn_rel_b|\\.rel_pos|\\.position_embd"
            + "|time_mix_(first|w[0-2]|v[0-2]|a[0-2]|g[12]|decay_w[12]|lerp_fused)\\.weight");
    /** GGML_QNT_VERSION */
    private static final int QUANTIZATION_VERSION = 2;
    /** Elements that one task prunes, about. */
    private static final int TASK_ELEMENTS = 1 << 16;
    /** Tasks between two writes: bounds memory at about 60 MB. */
    private static final int TASKS = 64;

    private record Source(GgufFile file, GgufTensor tensor) {
        int columns() {
            return Math.toIntExact(tensor.shape().getFirst());
        }

        long rows() {
            return tensor.elementCount() / tensor.shape().getFirst();
        }
    }

    private final List<GgufFile> parts;
    private final GgmlType type;
    private final Method method;
    private final Calibration calibration;
    private final List<Pattern> dense;
    private final boolean pure;
    private final boolean overwrite;
    private final boolean requantize;
    private final int threads;
    private final long memory;
    private final Progress progress;

    private Sparsifier(List<GgufFile> parts, GgmlType type, Method method, Calibration calibration, List<Pattern> dense, boolean pure,
            boolean overwrite, boolean requantize, int threads, long memory, Progress progress) {
        this.parts = parts;
        this.type = type;
        this.method = method;
        this.calibration = calibration;
        this.dense = dense;
        this.pure = pure;
        this.overwrite = overwrite;
        this.requantize = requantize;
        this.threads = threads;
        this.memory = memory;
        this.progress = progress;
    }

    /**
     * To S24_Q4, by magnitude.
     *
     * @param model a GGUF file; of a split model the first part
     * @throws io.github.panamallama.runtime.gguf.GgufException if it is missing or broken
     * @throws LlamaException if it is no model
     */
    public static Sparsifier of(Path model) {
        var parts = GgufFile.readParts(model);
        var kind = parts.getFirst().metadata().string("general.type").orElse("model");
        if (!kind.equals("model")) {
            throw new LlamaException(model + ": general.type is \"" + kind + "\"; only the matrices of a model can be made sparse");
        }
        return new Sparsifier(parts, GgmlType.S24_Q4, Method.MAGNITUDE, null, List.of(), false, false, false, 0,
                Runtime.getRuntime().maxMemory() / 2, Progress.NONE);
    }

    /** @param type one of {@link #TYPES} */
    public Sparsifier withType(GgmlType type) {
        if (!TYPES.contains(type)) {
            throw new IllegalArgumentException(type.label() + " is no sparse type; s24_q4, s24_q8 and s24_t are");
        }
        return new Sparsifier(parts, type, method, calibration, dense, pure, overwrite, requantize, threads, memory, progress);
    }

    /** @param calibration a text; null without one, which only {@link Method#MAGNITUDE} allows */
    public Sparsifier withMethod(Method method, Calibration calibration) {
        if (method != Method.MAGNITUDE && calibration == null) {
            throw new IllegalArgumentException(method + " needs a calibration text");
        }
        return new Sparsifier(parts, type, method, calibration, dense, pure, overwrite, requantize, threads, memory, progress);
    }

    /** Matrices that stay dense, besides those that always do: whose names contain a match of one of these. */
    public Sparsifier withDense(List<Pattern> patterns) {
        return new Sparsifier(parts, type, method, calibration, List.copyOf(patterns), pure, overwrite, requantize, threads, memory,
                progress);
    }

    /** Whether embedding and output matrices become sparse too, by magnitude. */
    public Sparsifier withPure(boolean pure) {
        return new Sparsifier(parts, type, method, calibration, dense, pure, overwrite, requantize, threads, memory, progress);
    }

    /** Whether an existing output file is replaced. */
    public Sparsifier withOverwrite(boolean overwrite) {
        return new Sparsifier(parts, type, method, calibration, dense, pure, overwrite, requantize, threads, memory, progress);
    }

    /** Whether matrices that are quantised already may be made sparse, which costs quality. */
    public Sparsifier withRequantize(boolean requantize) {
        return new Sparsifier(parts, type, method, calibration, dense, pure, overwrite, requantize, threads, memory, progress);
    }

    /** @param threads CPU threads that evaluate the text, 0 for all cores */
    public Sparsifier withThreads(int threads) {
        return new Sparsifier(parts, type, method, calibration, dense, pure, overwrite, requantize, threads, memory, progress);
    }

    /** @param bytes that Gram matrices may take together; at least one is held. Without it: half of the Java heap */
    public Sparsifier withMemory(long bytes) {
        return new Sparsifier(parts, type, method, calibration, dense, pure, overwrite, requantize, threads, bytes, progress);
    }

    public Sparsifier withProgress(Progress progress) {
        return new Sparsifier(parts, type, method, calibration, dense, pure, overwrite, requantize, threads, memory, progress);
    }

    /**
     * Writes the model. It appears under its name only when it is complete. Blocks until it is done; all processors compute.
     *
     * @throws LlamaException if a pattern matches no tensor, nothing is left to be made sparse, a matrix is quantised already or has
     *                        weights that aren't finite, the calibration text is too short or the model's inputs can't be read,
     *                        {@code out} is an input, or exists and is not to be overwritten, or its folder is missing or too full
     */
    public Result run(Path out) {
        checkOutput(out);
        var sources = new LinkedHashMap<String, Source>();
        parts.forEach(part -> part.tensors().forEach(tensor -> sources.put(tensor.name(), new Source(part, tensor))));
        var reasons = new LinkedHashMap<String, String>();
        var chosen = choose(sources, reasons);
        if (calibration == null) {
            return write(out, sources, chosen, reasons, null);
        }
        var columns = new LinkedHashMap<String, Integer>();
        chosen.stream().filter(name -> !ENDS.contains(name)).forEach(name -> columns.put(name, sources.get(name).columns()));
        try (var model = Model.load(parts.getFirst().path(), ModelOptions.defaults());
                var activations = Activations.open(model, columns, calibration, threads, progress)) {
            for (var name : columns.keySet()) {
                if (!activations.readable(name)) {
                    chosen.remove(name);
                    reasons.put(name, "what it is multiplied by can't be read; by magnitude it could be pruned");
                }
            }
            return write(out, sources, chosen, reasons, new Inputs(activations, chosen, sources));
        }
    }

    private void checkOutput(Path out) {
        try {
            if (Files.isDirectory(out)) {
                throw new LlamaException(out + " is a directory; name the file to write");
            }
            for (var part : parts) {
                if (Files.exists(out) && Files.isSameFile(part.path(), out)) {
                    throw new LlamaException(out + " is the input itself; name another file");
                }
            }
            if (Files.exists(out) && !overwrite) {
                throw new LlamaException(out + " exists; ask for overwriting or name another file");
            }
            var folder = out.toAbsolutePath().getParent();
            if (folder == null || !Files.isDirectory(folder)) {
                throw new LlamaException("no such folder for the output: " + folder);
            }
        } catch (IOException e) {
            throw new LlamaException("can't write " + out + ": " + e, e);
        }
    }

    /** The matrices that shall be sparse, in the file's order. */
    private Set<String> choose(Map<String, Source> sources, Map<String, String> reasons) {
        for (var pattern : dense) {
            if (sources.keySet().stream().noneMatch(pattern.asPredicate())) {
                throw new LlamaException("no tensor of " + parts.getFirst().path() + " matches '" + pattern + "'; its tensors are called "
                        + "blk.0.ffn_down.weight and the like");
            }
        }
        Predicate<String> named = name -> dense.stream().anyMatch(pattern -> pattern.asPredicate().test(name));
        var chosen = new LinkedHashSet<String>();
        sources.forEach((name, source) -> {
            boolean matrix = MATRIX.matcher(name).matches() && !SPECIAL.matcher(name).find() || pure && ENDS.contains(name);
            if (!matrix || source.tensor.shape().size() < 2 || named.test(name)) {
                return;
            }
            if (source.columns() % type.blockSize() != 0) {
                reasons.put(name, "its rows of " + source.columns() + " are no multiple of " + type.blockSize());
                return;
            }
            var from = source.tensor.type();
            if (!FLOATS.contains(from) && !requantize) {
                throw new LlamaException("\"" + name + "\" in " + source.file.path() + " is of type " + from.label()
                        + " already; sparsify a model in f32, f16 or bf16, or allow requantizing");
            }
            if (!Dequantizer.supports(from)) {
                throw new LlamaException("\"" + name + "\" in " + source.file.path() + " is of type " + from.label()
                        + ", which can't be converted to floats");
            }
            chosen.add(name);
        });
        if (chosen.isEmpty()) {
            throw new LlamaException("no matrix of " + parts.getFirst().path() + " can be made sparse"
                    + (reasons.isEmpty() ? "" : ": \"" + reasons.keySet().iterator().next() + "\" stays dense, because "
                    + reasons.values().iterator().next()));
        }
        return chosen;
    }

    private Result write(Path out, Map<String, Source> sources, Set<String> chosen, Map<String, String> reasons, Inputs inputs) {
        var writer = new GgufWriter();
        var metadata = parts.getFirst().metadata();
        for (var key : metadata.keys()) {
            if (!key.startsWith("split.")) {
                writer.put(key, metadata);
            }
        }
        // llama.cpp's number of a file's type is here the number of the tensors' type
        writer.putU32("general.file_type", type.id()).putU32("general.quantization_version", QUANTIZATION_VERSION);
        writer.put(METHOD, method.name().toLowerCase(Locale.ROOT));
        if (inputs != null) {
            writer.putU64(TOKENS, inputs.activations.tokens());
        }
        var done = new int[1];
        var unused = new LinkedHashMap<String, Integer>();
        sources.forEach((name, source) -> {
            boolean sparse = chosen.contains(name);
            writer.tensor(name, sparse ? type : source.tensor.type(), source.tensor.shape(), to -> {
                if (sparse) {
                    int without = sparsify(source, inputs == null || ENDS.contains(name) ? null : inputs, to);
                    if (without > 0) {
                        unused.put(name, without);
                    }
                } else {
                    copy(source, to);
                }
                progress.update(name, ++done[0], sources.size());
            });
        });
        long bytes = writer.fileSize();
        try {
            var folder = out.toAbsolutePath().getParent();
            long free = Files.getFileStore(folder).getUsableSpace();
            if (free < bytes) {
                throw new LlamaException("not enough disk space for " + out + ": it takes " + bytes + " bytes, " + free + " are free in "
                        + folder);
            }
        } catch (IOException e) {
            throw new LlamaException("can't write " + out + ": " + e, e);
        }
        writer.write(out);
        var notes = new LinkedHashMap<String, String>();
        unused.forEach((name, without) -> notes.put(name, without + " of its " + inputs.activations.matrices(name)
                + " experts were given no token of the text and are pruned by magnitude"));
        return new Result(List.copyOf(chosen), reasons, notes, bytes);
    }

    private static void copy(Source source, GgufWriter.Output to) throws IOException {
        try (var arena = Arena.ofConfined()) {
            to.write(source.file.map(source.tensor, arena));
        }
    }

    /**
     * What one matrix is pruned with.
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

    /** Prunes each matrix; returns how many of them met no token of the text. */
    private int sparsify(Source source, Inputs inputs, GgufWriter.Output to) throws IOException {
        int matrices = inputs == null ? 1 : inputs.activations.matrices(source.tensor.name());
        long rows = source.rows() / matrices;
        int unused = 0;
        for (int i = 0; i < matrices; i++) {
            var pruner = inputs == null ? Pruner.BY_MAGNITUDE : inputs.pruner(new Activations.Matrix(source.tensor.name(), i));
            unused += inputs != null && pruner == Pruner.BY_MAGNITUDE ? 1 : 0;
            sparsify(source, pruner, i * rows, (i + 1) * rows, to);
        }
        return unused;
    }

    private void sparsify(Source source, Pruner pruner, long begin, long end, GgufWriter.Output to) throws IOException {
        int columns = source.columns();
        int taskRows = Math.max(SparseGpt.ROWS, TASK_ELEMENTS / columns);
        try (var arena = Arena.ofShared()) {
            var data = source.file.map(source.tensor, arena);
            var blocks = arena.allocate(type.bytes(Math.min(end - begin, (long) TASKS * taskRows) * columns), 32);
            for (long first = begin; first < end; first += (long) TASKS * taskRows) {
                long start = first;
                long count = Math.min(end - start, (long) TASKS * taskRows);
                IntStream.range(0, Math.toIntExact(Math.ceilDiv(count, taskRows))).parallel().forEach(task -> {
                    long from = (long) task * taskRows;
                    int own = (int) Math.min(taskRows, count - from);
                    sparsifyRows(source, data, pruner, start + from, own,
                            blocks.asSlice(type.bytes(from * columns), type.bytes((long) own * columns)));
                });
                to.write(blocks.asSlice(0, type.bytes(count * columns)));
            }
        }
    }

    private void sparsifyRows(Source source, MemorySegment data, Pruner pruner, long first, int rows, MemorySegment to) {
        int columns = source.columns();
        var from = source.tensor.type();
        var weights = new float[rows * columns];
        Dequantizer.toFloats(from, data.asSlice(from.bytes(first * columns), from.bytes(weights.length)), weights, weights.length);
        requireFinite(source, first, weights, "is");
        pruner.prune(weights, rows, columns);
        requireFinite(source, first, weights, "became");
        BlockQuantizer.toBlocks(type, weights, rows, columns, pruner.importance, to);
        Dequantizer.toFloats(type, to, weights, weights.length);
        int fault = TwoOfFour.firstFault(weights, weights.length);
        if (fault >= 0) {
            throw new LlamaException(at(source, first, fault * TwoOfFour.GROUP) + " begins a group of 4 with more than 2 weights; "
                    + "the quantiser of " + type.label() + " is broken");
        }
    }

    private static void requireFinite(Source source, long first, float[] weights, String verb) {
        for (int i = 0; i < weights.length; i++) {
            if (!Float.isFinite(weights[i])) {
                throw new LlamaException(at(source, first, i) + " " + verb + " " + weights[i] + "; the model or its calibration is broken");
            }
        }
    }

    private static String at(Source source, long first, int i) {
        return source.file.path() + ": \"" + source.tensor.name() + "\" row " + (first + i / source.columns())
                + " column " + i % source.columns();
    }

    /** What was gathered on the text: for Wanda of all matrices at once; for SparseGPT of as many as memory allows. */
    private final class Inputs {
        final Activations activations;
        private final List<Activations.Matrix> order;
        private final Map<String, Source> sources;
        private Map<String, List<ColumnSquares>> squares;
        private Map<Activations.Matrix, GramMatrix> grams = Map.of();
        /** For SparseGPT, of equal inputs once. */
        private final Map<Activations.Matrix, Pruner> factored = new HashMap<>();

        Inputs(Activations activations, Set<String> chosen, Map<String, Source> sources) {
            this.activations = activations;
            this.sources = sources;
            order = chosen.stream().filter(activations::readable).flatMap(name -> IntStream.range(0, activations.matrices(name))
                    .mapToObj(i -> new Activations.Matrix(name, i))).toList();
        }

        /** {@link Pruner#BY_MAGNITUDE} itself where there was no token. */
        Pruner pruner(Activations.Matrix matrix) {
            if (method == Method.SPARSEGPT) {
                return factored(matrix);
            }
            if (squares == null) {
                squares = activations.squares(order.stream().map(Activations.Matrix::weight).distinct().toList());
            }
            var own = squares.get(matrix.weight()).get(matrix.index());
            return own.tokens() == 0 ? Pruner.BY_MAGNITUDE
                    : new Pruner(method == Method.WANDA ? own.norms() : null, null, own.importance());
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

        /** This matrix and those behind it in the file, while memory allows. */
        private List<Activations.Matrix> run(Activations.Matrix matrix) {
            var run = new ArrayList<Activations.Matrix>();
            var inputs = new LinkedHashSet<Activations.Matrix>();
            long bytes = 0;
            for (var next : order.subList(order.indexOf(matrix), order.size())) {
                if (inputs.add(source(next))) {
                    bytes += GramMatrix.bytes(sources.get(next.weight()).columns());
                }
                if (bytes > memory && !run.isEmpty()) {
                    break;
                }
                run.add(next);
            }
            return run;
        }
    }
}
