package io.github.panamallama.adapters;

import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.Dequantizer;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.Quantizer;
import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * Writes a model into which adapters have been merged for good: every adapted matrix becomes
 * {@code W + sum of scale * (alpha / rank) * B A}, summed in double and rounded once. All other tensors are copied bit for bit, and so is
 * the metadata but for the name, and for {@value #MERGED}, which lists what was merged. Parts of a split model become one file.
 *
 * <p>Merged matrices keep the type of the base where that is F32, F16 or BF16, and become F16 where it is quantised: quantising again
 * would round most of an update away. {@link #withMatrixType} says otherwise; {@link #withQuantization} quantises the whole file
 * afterwards.
 *
 * <p>An adapter of token embeddings acts where they are looked up, as in Hugging Face PEFT. A model that uses the same matrix for its
 * output (tied embeddings) gets an {@code output.weight} of the unchanged values, if llama.cpp can load that for its architecture.
 *
 * <p>Immutable; any thread may {@link #run} it. The weights of the adapters are in memory, those of the model are streamed.
 *
 * <pre>{@code
 * AdapterMerger.of(base).with(adapter, 0.8f).run(out);
 * }</pre>
 */
public final class AdapterMerger {
    /** Metadata of a merged model: strings, one per adapter, in the order in which they were merged. */
    public static final String MERGED = "general.merged_adapters";

    /** Told after each tensor, in the thread that merges. */
    @FunctionalInterface
    public interface Progress {
        /** @param done of {@code total} tensors */
        void update(String tensor, int done, int total);
    }

    private static final Set<GgmlType> FLOATS = EnumSet.of(GgmlType.F32, GgmlType.F16, GgmlType.BF16);
    private static final String OUTPUT = "output.weight";
    /** Elements that one task computes, about: enough to make the task's cost vanish, few enough for a core's second cache. */
    private static final int TASK_ELEMENTS = 1 << 16;
    /** Tasks between two writes: bounds memory at 2 to 16 MB, and keeps up to 64 cores busy. */
    private static final int TASKS = 64;

    /** @param file null for an adapter that is only in memory */
    private record Term(LoraWeights adapter, float scale, Path file) {
    }

    /** The part that the adapter has in one matrix. */
    private record Update(LoraWeights.Target target, double factor) {
    }

    private record Located(GgufFile file, GgufTensor tensor) {
    }

    private final List<GgufFile> base;
    private final List<Term> terms;
    private final GgmlType matrixType;
    private final Quantizer.Type quantization;
    private final boolean overwrite;
    private final Progress progress;

    private AdapterMerger(List<GgufFile> base, List<Term> terms, GgmlType matrixType, Quantizer.Type quantization, boolean overwrite,
            Progress progress) {
        this.base = base;
        this.terms = terms;
        this.matrixType = matrixType;
        this.quantization = quantization;
        this.overwrite = overwrite;
        this.progress = progress;
    }

    /**
     * A merger into this model.
     *
     * @param base a GGUF file; of a split model the first part
     * @throws io.github.panamallama.runtime.gguf.GgufException if it is missing or broken
     * @throws AdapterException if it is no model
     */
    public static AdapterMerger of(Path base) {
        var parts = GgufFile.readParts(base);
        var type = parts.getFirst().metadata().string("general.type").orElse("model");
        if (!type.equals("model")) {
            throw new AdapterException(base + ": general.type is \"" + type + "\"; adapters are merged into a model");
        }
        return new AdapterMerger(parts, List.of(), null, null, false, (tensor, done, total) -> { });
    }

    /**
     * One more adapter, LoRA or NOLA, from a file.
     *
     * @param scale any finite number
     * @throws io.github.panamallama.runtime.gguf.GgufException if the file is missing or broken
     * @throws AdapterException if it is no adapter for this model, or can't be merged
     */
    public AdapterMerger with(Path adapter, float scale) {
        return with(LoraWeights.read(adapter, base), scale, adapter);
    }

    /**
     * One more adapter.
     *
     * @param scale any finite number
     * @throws AdapterException if it is for another architecture or a matrix that the model hasn't in this shape, acts after some tokens
     *                          only (aLoRA), or the scale isn't finite
     */
    public AdapterMerger with(LoraWeights adapter, float scale) {
        return with(adapter, scale, null);
    }

    private AdapterMerger with(LoraWeights adapter, float scale, Path file) {
        if (!Float.isFinite(scale)) {
            throw new AdapterException("the scale of \"" + adapter.name() + "\" is " + scale + "; it must be finite");
        }
        if (adapter.invocationTokens().length > 0) {
            throw new AdapterException("\"" + adapter.name()
                    + "\" acts only after its invocation tokens (aLoRA); merged it would always act");
        }
        adapter.check(base);
        var more = new ArrayList<>(terms);
        more.add(new Term(adapter, scale, file));
        return new AdapterMerger(base, List.copyOf(more), matrixType, quantization, overwrite, progress);
    }

    /**
     * The type of the merged matrices.
     *
     * @param type F32, F16 or BF16
     */
    public AdapterMerger withMatrixType(GgmlType type) {
        if (!FLOATS.contains(type)) {
            throw new IllegalArgumentException("merged matrices can be f32, f16 or bf16, not " + type.label() + "; quantise the file");
        }
        return new AdapterMerger(base, terms, type, quantization, overwrite, progress);
    }

    /**
     * Quantises the merged model by llama.cpp's own rules. The merged matrices go through F32 on the way, which takes space on the disk.
     * Matrices of the base that are quantised already are quantised again, which costs quality: a base in floats is better.
     */
    public AdapterMerger withQuantization(Quantizer.Type type) {
        return new AdapterMerger(base, terms, matrixType, type, overwrite, progress);
    }

    /** Whether an existing output file is replaced. */
    public AdapterMerger withOverwrite(boolean overwrite) {
        return new AdapterMerger(base, terms, matrixType, quantization, overwrite, progress);
    }

    public AdapterMerger withProgress(Progress progress) {
        return new AdapterMerger(base, terms, matrixType, quantization, overwrite, progress);
    }

    /**
     * Writes the merged model. Blocks until it is done; all processors compute.
     *
     * @throws AdapterException if no adapter was given, a matrix is of a type that can't be converted, a sum is too large for the type of
     *                          its matrix, or llama.cpp can't load the output matrix that a tied model needs
     * @throws LlamaException   if {@code out} is one of the inputs, or exists and is not to be overwritten, or can't be written
     */
    public void run(Path out) {
        if (terms.isEmpty()) {
            throw new AdapterException("there are no adapters to merge");
        }
        var folder = checkOutput(out);
        var updates = updates();
        boolean untied = updates.containsKey(AdapterFile.EMBEDDING) && base.stream().allMatch(part -> part.tensor(OUTPUT).isEmpty());
        var merged = folder.resolve("." + out.getFileName() + "." + ProcessHandle.current().pid() + ".merged");
        merged.toFile().deleteOnExit();     // also after Ctrl-C
        try {
            try {
                try {
                    writer(updates, untied).write(merged);
                } catch (GgufException e) {
                    if (e.path().equals(merged) && e.getCause() instanceof IOException cause) {
                        throw cause;        // which names the file that was asked for, below
                    }
                    throw e;
                }
                if (untied) {
                    requireLoadable(merged);
                }
                if (quantization == null) {
                    move(merged, out);
                } else {
                    boolean again = base.stream().flatMap(part -> part.tensors().stream()).anyMatch(tensor -> tensor.type().isQuantized());
                    Quantizer.to(quantization).withOverwrite(overwrite).withRequantize(again).run(merged, out);
                }
            } finally {
                Files.deleteIfExists(merged);
            }
        } catch (IOException e) {
            throw new LlamaException("can't write " + out + ": " + LlamaException.reason(e), e);
        }
    }

    private Path checkOutput(Path out) {
        try {
            if (Files.isDirectory(out)) {
                throw new LlamaException(out + " is a directory; name the file to write");
            }
            if (Files.exists(out)) {
                var inputs = new ArrayList<Path>();
                base.forEach(part -> inputs.add(part.path()));
                terms.stream().map(Term::file).filter(file -> file != null).forEach(inputs::add);
                for (var input : inputs) {
                    if (Files.isSameFile(input, out)) {
                        throw new LlamaException(out + " is an input, " + input + "; name another file");
                    }
                }
                if (!overwrite) {
                    throw new LlamaException(out + " exists; name another file, or overwrite it (--force on the command line)");
                }
            }
            var folder = out.toAbsolutePath().getParent();
            if (folder == null || !Files.isDirectory(folder)) {
                throw new LlamaException("no such folder for the output: " + folder);
            }
            return folder;
        } catch (IOException e) {
            throw new LlamaException("can't write " + out + ": " + LlamaException.reason(e), e);
        }
    }

    private Map<String, List<Update>> updates() {
        var updates = new HashMap<String, List<Update>>();
        for (var term : terms) {
            for (var target : term.adapter.targets()) {
                updates.computeIfAbsent(target.name(), name -> new ArrayList<>())
                        .add(new Update(target, (double) term.scale * target.scale(term.adapter.alpha())));
            }
        }
        return updates;
    }

    private GgufWriter writer(Map<String, List<Update>> updates, boolean untied) {
        var located = new LinkedHashMap<String, Located>();
        base.forEach(part -> part.tensors().forEach(tensor -> located.put(tensor.name(), new Located(part, tensor))));
        int total = located.size() + (untied ? 1 : 0);
        var done = new int[1];

        var writer = new GgufWriter();
        metadata(writer);
        located.forEach((name, source) -> {
            var tensor = source.tensor;
            var update = updates.get(name);
            var type = update == null ? tensor.type() : mergedType(source);
            writer.tensor(name, type, tensor.shape(), to -> {
                if (update == null) {
                    copy(source, to);
                } else {
                    merge(source, update, type, to);
                }
                progress.update(name, ++done[0], total);
            });
            if (untied && name.equals(AdapterFile.EMBEDDING)) {
                writer.tensor(OUTPUT, tensor.type(), tensor.shape(), to -> {
                    copy(source, to);
                    progress.update(OUTPUT, ++done[0], total);
                });
            }
        });
        return writer;
    }

    private void metadata(GgufWriter writer) {
        var metadata = base.getFirst().metadata();
        for (var key : metadata.keys()) {
            if (!key.startsWith("split.")) {
                writer.put(key, metadata);
            }
        }
        var merged = new ArrayList<String>(metadata.strings(MERGED).orElse(List.of()));
        terms.forEach(term -> merged.add(label(term)));
        writer.putStrings(MERGED, merged);
        metadata.string("general.name").ifPresent(name ->
                writer.put("general.name", name + " + " + String.join(" + ", terms.stream().map(AdapterMerger::label).toList())));
    }

    private static String label(Term term) {
        return term.scale == 1 ? term.adapter.name() : term.scale + " * " + term.adapter.name();
    }

    private GgmlType mergedType(Located source) {
        var type = source.tensor.type();
        if (!Dequantizer.supports(type)) {
            throw new AdapterException("\"" + source.tensor.name() + "\" in " + source.file.path() + " is of type " + type.label()
                    + ", which can't be converted to floats; merge into a model in f16 or another type");
        }
        if (quantization != null) {
            return GgmlType.F32;
        }
        if (matrixType != null) {
            return matrixType;
        }
        return FLOATS.contains(type) ? type : GgmlType.F16;
    }

    private static void copy(Located source, GgufWriter.Output to) throws IOException {
        try (var arena = Arena.ofConfined()) {
            to.write(source.file.map(source.tensor, arena));
        }
    }

    private static void merge(Located source, List<Update> updates, GgmlType type, GgufWriter.Output to) throws IOException {
        var tensor = source.tensor;
        int inputs = updates.getFirst().target.inputs();
        long rows = tensor.elementCount() / inputs;
        int taskRows = Math.max(1, TASK_ELEMENTS / inputs);
        try (var arena = Arena.ofShared()) {
            var data = source.file.map(tensor, arena);
            var merged = arena.allocate(type.bytes(Math.min(rows, (long) TASKS * taskRows) * inputs), 32);
            for (long first = 0; first < rows; first += (long) TASKS * taskRows) {
                long start = first;
                long count = Math.min(rows - start, (long) TASKS * taskRows);
                IntStream.range(0, Math.toIntExact(Math.ceilDiv(count, taskRows))).parallel().forEach(task -> {
                    long from = (long) task * taskRows;
                    int own = (int) Math.min(taskRows, count - from);
                    mergeRows(tensor, data, updates, start + from, own, type, merged, type.bytes(from * inputs));
                });
                to.write(merged.asSlice(0, type.bytes(count * inputs)));
            }
        }
    }

    /** Rows {@code first} to {@code first + count} of all experts' rows. */
    private static void mergeRows(GgufTensor tensor, MemorySegment data, List<Update> updates, long first, int count, GgmlType type,
            MemorySegment to, long at) {
        int inputs = updates.getFirst().target.inputs();
        int outputs = updates.getFirst().target.outputs();
        var values = new float[count * inputs];
        long bytes = tensor.type().bytes(values.length);
        Dequantizer.toFloats(tensor.type(), data.asSlice(tensor.type().bytes(first * inputs), bytes), values, values.length);
        var sum = new double[inputs];
        for (int i = 0; i < count; i++) {
            for (int column = 0; column < inputs; column++) {
                sum[column] = values[i * inputs + column];
            }
            long row = first + i;
            int expert = (int) (row / outputs);
            for (var update : updates) {
                add(update, (int) row, expert, sum);
            }
            for (int column = 0; column < inputs; column++) {
                float value = (float) sum[column];
                if (!Float.isFinite(value)) {
                    throw new AdapterException("\"" + tensor.name() + "\" row " + row + " column " + column + " is " + value
                            + " with the adapters, " + values[i * inputs + column] + " without; check their scales and the base");
                }
                values[i * inputs + column] = value;
            }
        }
        for (int i = 0; i < values.length; i++) {
            TensorValues.block(tensor.name(), type, values, i, to, at + (long) i * type.blockBytes());
        }
    }

    private static void add(Update update, int row, int expert, double[] sum) {
        var target = update.target;
        int rank = target.rank();
        for (int r = 0; r < rank; r++) {
            double factor = update.factor * target.b()[row * rank + r];
            int at = (expert * rank + r) * sum.length;
            for (int column = 0; column < sum.length; column++) {
                sum[column] += factor * target.a()[at + column];
            }
        }
    }

    /** Some architectures take no output matrix but the embeddings'; only llama.cpp's loader knows which. */
    private void requireLoadable(Path merged) {
        try {
            Model.load(merged, ModelOptions.defaults().withGpuLayers(0).withRepack(false)).close();
        } catch (LlamaException e) {
            throw new AdapterException("the adapters change the token embeddings of " + base.getFirst().path()
                    + ", which are its output matrix as well; llama.cpp doesn't load that model with an output matrix of its own: "
                    + e.getMessage(), e);
        }
    }

    private static void move(Path from, Path to) throws IOException {
        try {
            Files.move(from, to, StandardCopyOption.ATOMIC_MOVE);   // replaces
        } catch (AtomicMoveNotSupportedException e) {
            Files.move(from, to, StandardCopyOption.REPLACE_EXISTING);
        }
    }
}
