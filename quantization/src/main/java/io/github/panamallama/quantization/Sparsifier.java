package io.github.panamallama.quantization;

import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.GgmlType;
import java.nio.file.Path;
import java.util.Collections;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.Predicate;
import java.util.regex.Pattern;

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
 * {@code 4 columns^2} bytes for each distinct input, fit into {@link #withMemory} together; {@code columns^2 / 2} multiplications for each
 * token and input, {@code columns^3 / 3} to factor each, and {@code columns^2 / 4} for each row that is pruned.
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

    private final SourceModel source;
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

    private Sparsifier(SourceModel source, GgmlType type, Method method, Calibration calibration, List<Pattern> dense, boolean pure,
            boolean overwrite, boolean requantize, int threads, long memory, Progress progress) {
        this.source = source;
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
        return new Sparsifier(SourceModel.read(model), GgmlType.S24_Q4, Method.MAGNITUDE, null, List.of(), false, false, false, 0,
                Runtime.getRuntime().maxMemory() / 2, Progress.NONE);
    }

    /** @param type one of {@link #TYPES} */
    public Sparsifier withType(GgmlType type) {
        if (!TYPES.contains(type)) {
            throw new IllegalArgumentException(type.label() + " is no sparse type; s24_q4, s24_q8 and s24_t are");
        }
        return new Sparsifier(source, type, method, calibration, dense, pure, overwrite, requantize, threads, memory, progress);
    }

    /** @param calibration a text; null without one, which only {@link Method#MAGNITUDE} allows */
    public Sparsifier withMethod(Method method, Calibration calibration) {
        if (method != Method.MAGNITUDE && calibration == null) {
            throw new IllegalArgumentException(method + " needs a calibration text");
        }
        return new Sparsifier(source, type, method, calibration, dense, pure, overwrite, requantize, threads, memory, progress);
    }

    /** Matrices that stay dense, besides those that always do: whose names contain a match of one of these. */
    public Sparsifier withDense(List<Pattern> patterns) {
        return new Sparsifier(source, type, method, calibration, List.copyOf(patterns), pure, overwrite, requantize, threads, memory,
                progress);
    }

    /** Whether embedding and output matrices become sparse too, by magnitude. */
    public Sparsifier withPure(boolean pure) {
        return new Sparsifier(source, type, method, calibration, dense, pure, overwrite, requantize, threads, memory, progress);
    }

    /** Whether an existing output file is replaced. */
    public Sparsifier withOverwrite(boolean overwrite) {
        return new Sparsifier(source, type, method, calibration, dense, pure, overwrite, requantize, threads, memory, progress);
    }

    /** Whether matrices that are quantised already may be made sparse, which costs quality. */
    public Sparsifier withRequantize(boolean requantize) {
        return new Sparsifier(source, type, method, calibration, dense, pure, overwrite, requantize, threads, memory, progress);
    }

    /** @param threads CPU threads that evaluate the text, 0 for all cores */
    public Sparsifier withThreads(int threads) {
        return new Sparsifier(source, type, method, calibration, dense, pure, overwrite, requantize, threads, memory, progress);
    }

    /** @param bytes that Gram matrices may take together; at least one is held. Without it: half of the Java heap */
    public Sparsifier withMemory(long bytes) {
        return new Sparsifier(source, type, method, calibration, dense, pure, overwrite, requantize, threads, bytes, progress);
    }

    public Sparsifier withProgress(Progress progress) {
        return new Sparsifier(source, type, method, calibration, dense, pure, overwrite, requantize, threads, memory, progress);
    }

    /**
     * Writes the model. It appears under its name only when it is complete. Blocks until it is done; all processors compute.
     *
     * @throws LlamaException if a pattern matches no tensor, nothing is left to be made sparse, a matrix is quantised already or has
     *                        weights that aren't finite, the calibration text is too short or the model's inputs can't be read,
     *                        {@code out} is an input, or exists and is not to be overwritten, or its folder is missing or too full
     */
    public Result run(Path out) {
        source.checkOutput(out, overwrite);
        var reasons = new LinkedHashMap<String, String>();
        var chosen = choose(reasons);
        if (calibration == null) {
            return write(out, chosen, reasons, null);
        }
        var columns = new LinkedHashMap<String, Integer>();
        chosen.values().stream().filter(matrix -> !matrix.isEnd()).forEach(matrix -> columns.put(matrix.name(), matrix.columns()));
        try (var model = Model.load(source.path());
                var activations = Activations.open(model, columns, calibration, threads, progress)) {
            for (var name : columns.keySet()) {
                if (!activations.readable(name)) {
                    chosen.remove(name);
                    reasons.put(name, "what it is multiplied by can't be read; by magnitude it could be pruned");
                }
            }
            return write(out, chosen, reasons, activations);
        }
    }

    /** The matrices that shall be sparse, in the file's order. */
    private Map<String, SourceModel.Tensor> choose(Map<String, String> reasons) {
        for (var pattern : dense) {
            if (source.tensors().keySet().stream().noneMatch(pattern.asPredicate())) {
                throw new LlamaException("no tensor of " + source.path() + " matches '" + pattern + "'; its tensors are called "
                        + "blk.0.ffn_down.weight and the like");
            }
        }
        Predicate<String> named = name -> dense.stream().anyMatch(pattern -> pattern.asPredicate().test(name));
        var chosen = new LinkedHashMap<String, SourceModel.Tensor>();
        source.tensors().forEach((name, tensor) -> {
            if (!tensor.isBlockMatrix() && !(pure && tensor.isEnd()) || named.test(name)) {
                return;
            }
            if (!tensor.fits(type)) {
                reasons.put(name, "its rows of " + tensor.columns() + " are no multiple of " + type.blockSize());
                return;
            }
            tensor.requireFloats(requantize);
            chosen.put(name, tensor);
        });
        if (chosen.isEmpty()) {
            throw new LlamaException("no matrix of " + source.path() + " can be made sparse"
                    + (reasons.isEmpty() ? "" : ": \"" + reasons.keySet().iterator().next() + "\" stays dense, because "
                    + reasons.values().iterator().next()));
        }
        return chosen;
    }

    private Result write(Path out, Map<String, SourceModel.Tensor> chosen, Map<String, String> reasons, Activations activations) {
        var rounding = new Rounding(method, activations, chosen.values(), chosen.values(), memory);
        // llama.cpp's number of a file's type is here the number of the tensors' type
        long bytes = source.write(out, type.id(), metadata(method, activations),
                tensor -> chosen.containsKey(tensor.name()) ? type : tensor.info().type(), rounding::write, progress);
        var notes = new LinkedHashMap<String, String>();
        rounding.unused().forEach((name, without) -> notes.put(name, without + " of its " + activations.matrices(name)
                + " experts were given no token of the text and are pruned by magnitude"));
        return new Result(List.copyOf(chosen.keySet()), reasons, notes, bytes);
    }

    /** What a sparse model says of its pruning. */
    static Map<String, Object> metadata(Method method, Activations activations) {
        var metadata = new LinkedHashMap<String, Object>();
        metadata.put(METHOD, method.name().toLowerCase(Locale.ROOT));
        if (activations != null) {
            metadata.put(TOKENS, activations.tokens());
        }
        return metadata;
    }
}
