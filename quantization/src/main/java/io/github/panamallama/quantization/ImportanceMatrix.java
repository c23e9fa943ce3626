package io.github.panamallama.quantization;

import io.github.panamallama.runtime.Dequantizer;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * How much each column of each weight matters to a model on a text: the sum of squares of what it is multiplied by. Read and written in the
 * GGUF layout of llama.cpp's {@code llama-imatrix} (tools/imatrix/imatrix.cpp): for each weight {@code <name>.in_sum2}
 * {@code [matrices][columns]} and {@code <name>.counts} {@code [matrices][1]}, in F32, where experts have one matrix each. Immutable.
 */
public final class ImportanceMatrix {
    private static final String SUMS = ".in_sum2";
    private static final String COUNTS = ".counts";
    private static final String DATASETS = "imatrix.datasets";
    private static final String CHUNKS = "imatrix.chunk_count";
    private static final String CHUNK_SIZE = "imatrix.chunk_size";

    /**
     * @param sums   {@code [matrices][columns]}
     * @param counts tokens that each matrix was multiplied by, {@code [matrices]}
     */
    private record Entry(float[] sums, float[] counts) {
    }

    private final Map<String, Entry> entries;
    private final List<String> datasets;
    private final long chunks;
    private final long chunkSize;

    private ImportanceMatrix(Map<String, Entry> entries, List<String> datasets, long chunks, long chunkSize) {
        this.entries = entries;
        this.datasets = List.copyOf(datasets);
        this.chunks = chunks;
        this.chunkSize = chunkSize;
    }

    /**
     * Gathers the inputs of all weights that can be read.
     *
     * @param weights by name, for instance all matrices in blocks
     * @param dataset the name of the text
     */
    public static ImportanceMatrix gather(Activations activations, List<String> weights, String dataset) {
        var entries = new TreeMap<String, Entry>();
        activations.squares(weights.stream().filter(activations::readable).toList())
                .forEach((weight, squares) -> entries.put(weight, entry(weight, squares)));
        return new ImportanceMatrix(entries, List.of(dataset), activations.windows(), activations.tokens() / activations.windows());
    }

    private static Entry entry(String weight, List<ColumnSquares> squares) {
        int columns = squares.getFirst().sums().length;
        var sums = new float[squares.size() * columns];
        var counts = new float[squares.size()];
        for (int i = 0; i < sums.length; i++) {
            var own = squares.get(i / columns);
            counts[i / columns] = own.tokens();
            sums[i] = (float) own.sums()[i % columns];
            if (!Float.isFinite(sums[i])) {
                throw new LlamaException("the input of \"" + weight + "\" is not finite in column " + i % columns
                        + "; the model is broken");
            }
        }
        return new Entry(sums, counts);
    }

    /**
     * Reads a file of {@code llama-imatrix} or {@link #write}.
     *
     * @throws io.github.panamallama.runtime.gguf.GgufException if it is missing or no sound GGUF file, as those of llama.cpp's older
     *                        layout (.dat) are not
     * @throws LlamaException if it is no importance matrix, lacks a part of one, or holds values that make no sense
     */
    public static ImportanceMatrix read(Path path) {
        var file = GgufFile.read(path);
        var metadata = file.metadata();
        var kind = metadata.string("general.type").orElse("");
        if (!kind.equals("imatrix")) {
            throw new LlamaException(path + ": general.type is \"" + kind + "\"; an importance matrix says \"imatrix\"");
        }
        long chunks = metadata.integer(CHUNKS).orElseThrow(() -> new LlamaException(path + ": " + CHUNKS + " is missing"));
        long chunkSize = metadata.integer(CHUNK_SIZE).orElseThrow(() -> new LlamaException(path + ": " + CHUNK_SIZE + " is missing"));
        var entries = new TreeMap<String, Entry>();
        for (var tensor : file.tensors()) {
            if (!tensor.name().endsWith(SUMS)) {
                continue;
            }
            var name = tensor.name().substring(0, tensor.name().length() - SUMS.length());
            var counted = file.tensor(name + COUNTS).orElseThrow(() -> new LlamaException(path + ": " + name + COUNTS + " is missing"));
            var entry = new Entry(values(file, tensor), values(file, counted));
            if (entry.sums.length % entry.counts.length != 0) {
                throw new LlamaException(path + ": " + tensor.name() + " has " + entry.sums.length + " values, which are not divided by"
                        + " the " + entry.counts.length + " of " + counted.name());
            }
            entries.put(name, entry);
        }
        if (entries.isEmpty()) {
            throw new LlamaException(path + ": no tensor is called <weight>" + SUMS + "; the importance matrix is empty");
        }
        return new ImportanceMatrix(entries, metadata.strings(DATASETS).orElse(List.of()), chunks, chunkSize);
    }

    private static float[] values(GgufFile file, GgufTensor tensor) {
        if (tensor.type() != GgmlType.F32) {
            throw new LlamaException(file.path() + ": " + tensor.name() + " is of type " + tensor.type().label() + "; it must be f32");
        }
        var values = new float[Math.toIntExact(tensor.elementCount())];
        try (var arena = Arena.ofConfined()) {
            Dequantizer.toFloats(GgmlType.F32, file.map(tensor, arena), values, values.length);
        }
        for (int i = 0; i < values.length; i++) {
            if (!(values[i] >= 0 && values[i] < Float.POSITIVE_INFINITY)) {
                throw new LlamaException(file.path() + ": " + tensor.name() + " value " + i + " is " + values[i]
                        + "; sums of squares and counts are finite and not negative");
            }
        }
        return values;
    }

    /**
     * Writes the file. It appears under its name only when it is complete.
     *
     * @throws LlamaException if it exists
     * @throws io.github.panamallama.runtime.gguf.GgufException if it can't be written
     */
    public void write(Path path, boolean overwrite) {
        if (Files.exists(path) && !overwrite) {
            throw new LlamaException(path + " exists; name another file, or overwrite it (--force on the command line)");
        }
        var writer = new GgufWriter().put("general.type", "imatrix").putStrings(DATASETS, datasets).putU32(CHUNKS, chunks)
                .putU32(CHUNK_SIZE, chunkSize);
        entries.forEach((name, entry) -> {
            long matrices = entry.counts.length;
            writer.tensor(name + SUMS, GgmlType.F32, shape(entry.sums.length / matrices, matrices),
                    to -> to.write(MemorySegment.ofArray(entry.sums)));
            writer.tensor(name + COUNTS, GgmlType.F32, shape(1, matrices), to -> to.write(MemorySegment.ofArray(entry.counts)));
        });
        writer.write(path);
    }

    /** ggml doesn't write a last dimension of 1. */
    private static List<Long> shape(long columns, long matrices) {
        return matrices == 1 ? List.of(columns) : List.of(columns, matrices);
    }

    /** The weights, in alphabetical order. */
    public List<String> weights() {
        return new ArrayList<>(entries.keySet());
    }

    /** The texts that it was gathered on. */
    public List<String> datasets() {
        return datasets;
    }

    /** Windows of the text. */
    public long chunks() {
        return chunks;
    }

    /** Tokens of a window. */
    public long chunkSize() {
        return chunkSize;
    }

    /**
     * The mean square of each column, by weight, for {@link io.github.panamallama.runtime.Quantizer#withImportance}. Experts that no token
     * came to get 1, as llama.cpp has it.
     */
    public Map<String, float[]> means() {
        var means = new HashMap<String, float[]>();
        entries.forEach((name, entry) -> {
            var mean = new float[entry.sums.length];
            int columns = mean.length / entry.counts.length;
            for (int i = 0; i < mean.length; i++) {
                float count = entry.counts[i / columns];
                mean[i] = count > 0 ? entry.sums[i] / count : 1;
            }
            means.put(name, mean);
        });
        return means;
    }
}
