package io.github.panamallama.quantization;

import io.github.panamallama.runtime.Dequantizer;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;
import java.util.regex.Pattern;

/** A model that is to be written with matrices in other types; parts of a split model become one file. Immutable. */
final class SourceModel {
    /** Embedding and output matrix: what they are multiplied by is not gathered. */
    static final Set<String> ENDS = Set.of("token_embd.weight", "output.weight");

    private static final Set<GgmlType> FLOATS = EnumSet.of(GgmlType.F32, GgmlType.F16, GgmlType.BF16);
    private static final Pattern MATRIX = Pattern.compile("blk\\.\\d+\\..*weight");
    /** Of llama.cpp's tensor_allows_quantization (src/llama-quant.cpp): what isn't only multiplied, or is small. */
    private static final Pattern SPECIAL = Pattern.compile("_norm\\.weight|ffn_gate_inp|ffn_gate_tid2eid|altup|laurel|per_layer_model_proj"
            + "|ssm_conv1d|shortconv\\.conv|indexer\\.[kq]_proj|attn_rel_b|\\.rel_pos|\\.position_embd"
            + "|time_mix_(first|w[0-2]|v[0-2]|a[0-2]|g[12]|decay_w[12]|lerp_fused)\\.weight");
    /** GGML_QNT_VERSION */
    private static final int QUANTIZATION_VERSION = 2;

    /** A tensor and the file that it is in. */
    record Tensor(GgufFile file, GgufTensor info) {
        String name() {
            return info.name();
        }

        int columns() {
            return Math.toIntExact(info.shape().getFirst());
        }

        long rows() {
            return info.elementCount() / info.shape().getFirst();
        }

        /** Whether it is one of the matrices in blocks that llama.cpp quantises. */
        boolean isBlockMatrix() {
            return info.shape().size() > 1 && MATRIX.matcher(name()).matches() && !SPECIAL.matcher(name()).find();
        }

        /** Whether it is a matrix before the first block or behind the last. */
        boolean isEnd() {
            return info.shape().size() > 1 && ENDS.contains(name());
        }

        /** Whether rows are whole blocks of this type. */
        boolean fits(GgmlType type) {
            return columns() % type.blockSize() == 0;
        }

        /** @throws LlamaException if its values can't be taken, or only after a first rounding that is not allowed */
        void requireFloats(boolean requantize) {
            var type = info.type();
            if (!FLOATS.contains(type) && !requantize) {
                throw new LlamaException("\"" + name() + "\" in " + file.path() + " is of type " + type.label()
                        + " already; start from a model in f32, f16 or bf16, or allow requantizing");
            }
            if (!Dequantizer.supports(type)) {
                throw new LlamaException("\"" + name() + "\" in " + file.path() + " is of type " + type.label()
                        + ", which can't be converted to floats");
            }
        }
    }

    private final List<GgufFile> parts;
    private final Map<String, Tensor> tensors;

    private SourceModel(List<GgufFile> parts) {
        this.parts = parts;
        var all = new LinkedHashMap<String, Tensor>();
        parts.forEach(part -> part.tensors().forEach(tensor -> all.put(tensor.name(), new Tensor(part, tensor))));
        tensors = Collections.unmodifiableMap(all);
    }

    /**
     * Reads the header of a model.
     *
     * @param path a GGUF file; of a split model the first part
     * @throws io.github.panamallama.runtime.gguf.GgufException if it is missing or broken
     * @throws LlamaException if it is no model
     */
    static SourceModel read(Path path) {
        var parts = GgufFile.readParts(path);
        var kind = parts.getFirst().metadata().string("general.type").orElse("model");
        if (!kind.equals("model")) {
            throw new LlamaException(path + ": general.type is \"" + kind + "\"; only a model's matrices can be written in other types");
        }
        return new SourceModel(parts);
    }

    Path path() {
        return parts.getFirst().path();
    }

    String fingerprint() {
        return GgufFile.fingerprint(parts);
    }

    /** By name, in the order of the files. */
    Map<String, Tensor> tensors() {
        return tensors;
    }

    /** Before long work. */
    void checkOutput(Path out, boolean overwrite) {
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
                throw new LlamaException(out + " exists; name another file, or overwrite it (--force on the command line)");
            }
            var folder = out.toAbsolutePath().getParent();
            if (folder == null || !Files.isDirectory(folder)) {
                throw new LlamaException("no such folder for the output: " + folder);
            }
        } catch (IOException e) {
            throw new LlamaException("can't write " + out + ": " + LlamaException.reason(e), e);
        }
    }

    /** @throws LlamaException if a folder hasn't room for so many bytes */
    static void requireSpace(Path folder, long bytes, String what) {
        try {
            long free = Files.getFileStore(folder).getUsableSpace();
            if (free < bytes) {
                throw new LlamaException("not enough disk space for " + what + ": it takes " + bytes + " bytes, " + free + " are free in "
                        + folder);
            }
        } catch (IOException e) {
            throw new LlamaException("can't write to " + folder + ": " + LlamaException.reason(e), e);
        }
    }

    /** Fills in one tensor. */
    @FunctionalInterface
    interface Rows {
        void write(Tensor tensor, GgmlType type, GgufWriter.Output to) throws IOException;
    }

    /**
     * Writes the model. It appears under its name only when it is complete.
     *
     * @param fileType {@code general.file_type}, llama.cpp's number; negative to leave it out
     * @param extra    more metadata
     * @param types    of each tensor
     * @param rows     called for tensors that change their type; others are copied
     * @return bytes of the file
     */
    long write(Path out, int fileType, Map<String, Object> extra, Function<Tensor, GgmlType> types, Rows rows, Progress progress) {
        var writer = new GgufWriter();
        var metadata = parts.getFirst().metadata();
        for (var key : metadata.keys()) {
            if (!key.startsWith("split.")) {
                writer.put(key, metadata);
            }
        }
        writer.remove("general.file_type").putU32("general.quantization_version", QUANTIZATION_VERSION);
        if (fileType >= 0) {
            writer.putU32("general.file_type", fileType);
        }
        extra.forEach((key, value) -> {
            switch (value) {
                case String text -> writer.put(key, text);
                case Long number -> writer.putU64(key, number);
                default -> throw new IllegalArgumentException(key + " is a " + value.getClass());
            }
        });
        writer.remove(GgmlType.S24_VERSION_KEY);
        if (tensors.values().stream().anyMatch(tensor -> types.apply(tensor).isSparse())) {
            writer.putU32(GgmlType.S24_VERSION_KEY, GgmlType.S24_VERSION);
        }
        var done = new int[1];
        tensors.forEach((name, tensor) -> {
            var type = types.apply(tensor);
            writer.tensor(name, type, tensor.info.shape(), to -> {
                if (type == tensor.info.type()) {
                    copy(tensor, to);
                } else {
                    rows.write(tensor, type, to);
                }
                progress.update(name, ++done[0], tensors.size());
            });
        });
        long bytes = writer.fileSize();
        requireSpace(out.toAbsolutePath().getParent(), bytes, out.toString());
        writer.write(out);
        return bytes;
    }

    private static void copy(Tensor tensor, GgufWriter.Output to) throws IOException {
        try (var arena = Arena.ofConfined()) {
            to.write(tensor.file.map(tensor.info, arena));
        }
    }
}
