package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_model_imatrix_data;
import io.github.panamallama.bindings.llama_model_quantize_params;
import io.github.panamallama.bindings.pl_error;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.natives.Natives;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/**
 * Writes a model with its weights in another type, by llama.cpp's own rules about which matrix gets which. Immutable; any thread may
 * {@link #run} it. The output appears under its name only when it is complete.
 */
public final class Quantizer {
    /**
     * What a whole file is quantised to: a type, or a mix of types around one ({@code enum llama_ftype}). Types below about 2.5 bits
     * (IQ1, IQ2_XXS, IQ2_XS, Q2_K_S) need an importance matrix ({@link #withImportance}); llama.cpp refuses them without one. The S24
     * types keep the 2 largest of every 4 consecutive weights, which costs much quality in a model that wasn't trained for it; embedding
     * and output matrices stay dense unless {@link #withPure} asks otherwise.
     */
    public enum Type {
        F32(0, 32), F16(1, 16), BF16(32, 16),
        Q8_0(7, 8.5), Q6_K(18, 6.56), Q5_K_M(17, 5.5), Q5_K_S(16, 5.5), Q5_1(9, 6), Q5_0(8, 5.5),
        Q4_K_M(15, 4.5), Q4_K_S(14, 4.5), Q4_1(3, 5), Q4_0(2, 4.5), IQ4_NL(25, 4.5), IQ4_XS(30, 4.25), MXFP4_MOE(38, 4.25), NVFP4(39, 4.5),
        Q3_K_L(13, 3.44), Q3_K_M(12, 3.44), Q3_K_S(11, 3.44), IQ3_M(27, 3.44), IQ3_S(26, 3.44), IQ3_XS(22, 3.06), IQ3_XXS(23, 3.06),
        Q2_K(10, 2.63), Q2_K_S(21, 2.63), IQ2_M(29, 2.5), IQ2_S(28, 2.5), IQ2_XS(20, 2.31), IQ2_XXS(19, 2.06),
        IQ1_M(31, 1.75), IQ1_S(24, 1.56), TQ2_0(37, 2.06), TQ1_0(36, 1.69), Q2_0(41, 2.25), Q1_0(40, 1.125),
        S24_Q8(201, 5.25), S24_Q4(200, 3.25), S24_T(202, 1.6875);

        private final int id;
        private final double bitsPerWeight;

        Type(int id, double bitsPerWeight) {
            this.id = id;
            this.bitsPerWeight = bitsPerWeight;
        }

        /** llama.cpp's number of this type. */
        public int id() {
            return id;
        }

        /** Bits per weight of most matrices; a mix keeps some in a larger type. */
        public double bitsPerWeight() {
            return bitsPerWeight;
        }

        /** The type with this name in any case; {@code Q4_K} means {@code Q4_K_M}, {@code Q3_K} and {@code Q5_K} likewise. */
        public static Optional<Type> byName(String name) {
            var wanted = name.toUpperCase(Locale.ROOT);
            for (var type : values()) {
                if (type.name().equals(wanted) || type.name().equals(wanted + "_M") && wanted.matches("Q[345]_K")) {
                    return Optional.of(type);
                }
            }
            return Optional.empty();
        }
    }

    private final Type type;
    private final int threads;
    private final boolean overwrite;
    private final boolean requantize;
    private final boolean pure;
    private final boolean outputTensor;
    private final Map<String, float[]> importance;

    private Quantizer(Type type, int threads, boolean overwrite, boolean requantize, boolean pure, boolean outputTensor,
            Map<String, float[]> importance) {
        this.type = type;
        this.threads = threads;
        this.overwrite = overwrite;
        this.requantize = requantize;
        this.pure = pure;
        this.outputTensor = outputTensor;
        this.importance = importance;
    }

    /** A quantizer to this type, with all processors, that overwrites nothing. */
    public static Quantizer to(Type type) {
        return new Quantizer(type, 0, false, false, false, true, Map.of());
    }

    /** @param threads CPU threads, 0 for all */
    public Quantizer withThreads(int threads) {
        if (threads < 0) {
            throw new IllegalArgumentException("threads is " + threads + "; it must be 0 (all) or more");
        }
        return new Quantizer(type, threads, overwrite, requantize, pure, outputTensor, importance);
    }

    /** Whether an existing output file is replaced. */
    public Quantizer withOverwrite(boolean overwrite) {
        return new Quantizer(type, threads, overwrite, requantize, pure, outputTensor, importance);
    }

    /** Whether tensors that are quantised already are quantised again, which costs quality. */
    public Quantizer withRequantize(boolean requantize) {
        return new Quantizer(type, threads, overwrite, requantize, pure, outputTensor, importance);
    }

    /** Whether all matrices get the same type, instead of larger ones for those that matter most. */
    public Quantizer withPure(boolean pure) {
        return new Quantizer(type, threads, overwrite, requantize, pure, outputTensor, importance);
    }

    /** Whether the output matrix is quantised too. */
    public Quantizer withOutputTensor(boolean outputTensor) {
        return new Quantizer(type, threads, overwrite, requantize, pure, outputTensor, importance);
    }

    /**
     * How much an error in each column of a weight counts: an importance matrix.
     *
     * @param importance by name of the weight, {@code [columns]} or, of experts, {@code [experts][columns]}; finite. Empty for none
     */
    public Quantizer withImportance(Map<String, float[]> importance) {
        return new Quantizer(type, threads, overwrite, requantize, pure, outputTensor, Map.copyOf(importance));
    }

    /**
     * Reads {@code in} and writes {@code out}. Blocks until it is done.
     *
     * @throws LlamaException if {@code in} is no sound GGUF file, {@code out} is the same file or exists and is not to be overwritten,
     *                        its folder is missing or too full, or llama.cpp refuses; nothing is left behind then
     */
    public void run(Path in, Path out) {
        long weights = 0;
        for (var part : GgufFile.readParts(in)) {
            for (var tensor : part.tensors()) {
                weights += tensor.elementCount();
            }
        }
        var folder = checkOutput(in, out);
        try {
            long needed = (long) (weights * type.bitsPerWeight / 8);
            long free = Files.getFileStore(folder).getUsableSpace();
            if (free < needed) {
                throw new LlamaException("not enough disk space for " + out + ": " + type + " needs at least " + needed + " bytes, " + free
                        + " are free in " + folder);
            }
            var partial = folder.resolve("." + out.getFileName() + "." + ProcessHandle.current().pid() + ".partial");
            partial.toFile().deleteOnExit();    // also after Ctrl-C
            try {
                quantize(in, partial, out);
                move(partial, out);
            } finally {
                Files.deleteIfExists(partial);
            }
        } catch (IOException e) {
            throw new LlamaException("cannot write " + out + ": " + LlamaException.reason(e), e);
        }
    }

    /** The folder that the output goes to. */
    private Path checkOutput(Path in, Path out) {
        try {
            if (Files.isDirectory(out)) {
                throw new LlamaException(out + " is a directory; name the file to write");
            }
            if (Files.exists(out) && Files.isSameFile(in, out)) {
                throw new LlamaException(out + " is the input itself; name another file");
            }
            if (Files.exists(out) && !overwrite) {
                throw new LlamaException(out + " exists; name another file, or overwrite it (--force on the command line)");
            }
            var folder = out.toAbsolutePath().getParent();
            if (folder == null || !Files.isDirectory(folder)) {
                throw new LlamaException("no such folder for the output: " + folder);
            }
            if (!Files.isWritable(folder)) {
                throw new LlamaException("cannot write " + out + ": permission denied");    // native code would not say so
            }
            return folder;
        } catch (IOException e) {
            throw new LlamaException("cannot write " + out + ": " + LlamaException.reason(e), e);
        }
    }

    /** Puts a whole file in another's place. */
    static void move(Path from, Path to) throws IOException {
        try {
            Files.move(from, to, StandardCopyOption.ATOMIC_MOVE);   // replaces
        } catch (java.nio.file.AtomicMoveNotSupportedException e) {
            Files.move(from, to, StandardCopyOption.REPLACE_EXISTING);
        }
    }

    private void quantize(Path in, Path partial, Path out) {
        Natives.load();
        try (var arena = Arena.ofConfined()) {
            var params = LlamaH.llama_model_quantize_default_params(arena);
            llama_model_quantize_params.nthread(params, threads);
            llama_model_quantize_params.ftype(params, type.id);
            llama_model_quantize_params.allow_requantize(params, requantize);
            llama_model_quantize_params.quantize_output_tensor(params, outputTensor);
            llama_model_quantize_params.pure(params, pure);
            if (!importance.isEmpty()) {
                llama_model_quantize_params.imatrix(params, importance(arena));
            }
            var error = pl_error.allocate(arena);
            int code = LlamaH.pl_model_quantize(arena.allocateFrom(in.toAbsolutePath().toString()),
                    arena.allocateFrom(partial.toAbsolutePath().toString()), params, error);
            if (code != 0) {
                var reason = pl_error.message(error).getString(0);
                // all that C++ says of a write that failed
                throw new LlamaException("llama.cpp could not quantize " + in + " to " + type + " (code " + code + "): " + reason
                        + (reason.contains("iostream") ? "; " + out + " could not be written, the disk may be full" : ""));
            }
        }
    }

    /** As native code reads it: entries up to one without a name. */
    private MemorySegment importance(Arena arena) {
        var entries = llama_model_imatrix_data.allocateArray(importance.size() + 1L, arena);
        int i = 0;
        for (var weight : importance.entrySet()) {
            var entry = llama_model_imatrix_data.asSlice(entries, i++);
            llama_model_imatrix_data.name(entry, arena.allocateFrom(weight.getKey()));
            llama_model_imatrix_data.data(entry, arena.allocateFrom(ValueLayout.JAVA_FLOAT, weight.getValue()));
            llama_model_imatrix_data.size(entry, weight.getValue().length);
        }
        llama_model_imatrix_data.name(llama_model_imatrix_data.asSlice(entries, i), MemorySegment.NULL);
        return entries;
    }
}
