package io.github.panamallama.adapters;

import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufMetadata;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A LoRA adapter in memory, as floats: what the tools of this package read, make and write. Arrays are shared, not copied; who
 * changes one changes the adapter.
 *
 * <p>There is one convention for all matrices, embeddings included: the adapted matrix has {@code outputs} rows of {@code inputs}
 * values, row-major, as its data lies in a GGUF file, and the adapter adds {@code scale * B * A} to it. (Files have the two of
 * embeddings the other way round; {@link #read} and {@link #write} see to that.)
 *
 * @param architecture     of the base model, for instance {@code llama}
 * @param name             for people
 * @param alpha            finite, at least 0; B * A counts {@code alpha / rank} times, or once if this is 0
 * @param invocationTokens of an activated LoRA (aLoRA); empty for others
 * @param metadata         other metadata: values are String, Boolean, Long, Float, {@code List<String>}, int[] or float[]
 * @param targets          at least one, with different names
 */
public record LoraWeights(
        String architecture, String name, float alpha, int[] invocationTokens, Map<String, Object> metadata, List<Target> targets) {

    /** The types that adapters are read and written in. */
    public static final Set<GgmlType> TYPES = Collections.unmodifiableSet(TensorValues.TYPES);

    /**
     * The two factors of one matrix.
     *
     * @param name    of the matrix in the model, for instance {@code blk.0.attn_q.weight}
     * @param rank    columns of B and rows of A
     * @param inputs  row length of the adapted matrix
     * @param outputs rows of the adapted matrix
     * @param experts slices of the adapted matrix; 1 where it has none
     * @param a       {@code [experts][rank][inputs]}, finite
     * @param b       {@code [experts][outputs][rank]}, finite
     */
    public record Target(String name, int rank, int inputs, int outputs, int experts, float[] a, float[] b) {
        public Target {
            if (rank < 1 || inputs < 1 || outputs < 1 || experts < 1) {
                throw new AdapterException("\"" + name + "\" has rank " + rank + ", " + inputs + " inputs, " + outputs + " outputs and "
                        + experts
                        + " experts; each must be at least 1");
            }
            if (a.length != (long) experts * rank * inputs || b.length != (long) experts * outputs * rank) {
                throw new AdapterException("\"" + name + "\" of rank " + rank + " with " + inputs + " inputs, " + outputs + " outputs and "
                        + experts
                        + " experts has " + a.length + " values in A and " + b.length + " in B");
            }
            TensorValues.requireFinite("A of \"" + name + "\"", a);
            TensorValues.requireFinite("B of \"" + name + "\"", b);
        }

        /** Whether this is the matrix of token embeddings. */
        public boolean embedding() {
            return name.equals(AdapterFile.EMBEDDING);
        }

        /** What B * A is multiplied with: {@code alpha / rank}, or 1 if {@code alpha} is 0. */
        public float scale(float alpha) {
            return alpha != 0 ? alpha / rank : 1;
        }
    }

    public LoraWeights {
        metadata = Collections.unmodifiableMap(new LinkedHashMap<>(metadata));
        targets = List.copyOf(targets);
        if (!Float.isFinite(alpha) || alpha < 0) {
            throw new AdapterException("alpha of \"" + name + "\" is " + alpha + "; it must be a finite number of at least 0");
        }
        if (targets.isEmpty()) {
            throw new AdapterException("\"" + name + "\" adapts nothing; at least one matrix is needed");
        }
        var names = new HashSet<String>();
        for (var target : targets) {
            if (!names.add(target.name)) {
                throw new AdapterException("\"" + name + "\" adapts \"" + target.name + "\" twice");
            }
        }
    }

    public LoraWeights withName(String name) {
        return new LoraWeights(architecture, name, alpha, invocationTokens, metadata, targets);
    }

    /** Another alpha, which changes how strongly the adapter acts. */
    public LoraWeights withAlpha(float alpha) {
        return new LoraWeights(architecture, name, alpha, invocationTokens, metadata, targets);
    }

    public LoraWeights withMetadata(Map<String, Object> metadata) {
        return new LoraWeights(architecture, name, alpha, invocationTokens, metadata, targets);
    }

    public LoraWeights withTargets(List<Target> targets) {
        return new LoraWeights(architecture, name, alpha, invocationTokens, metadata, targets);
    }

    /**
     * Reads an adapter file of either kind, LoRA or NOLA; the latter is expanded.
     *
     * @throws io.github.panamallama.runtime.gguf.GgufException if there is no such file, or it breaks a rule of GGUF
     * @throws AdapterException if it is no adapter, or can't be read as {@link #read(AdapterFile)} and {@link NolaAdapter#read} say
     */
    public static LoraWeights read(Path path) {
        return NolaAdapter.isNola(GgufFile.read(path)) ? NolaAdapter.read(path).expand() : read(AdapterFile.read(path));
    }

    /**
     * Reads an adapter file of either kind, if it is for a model.
     *
     * @param base the parts of the model, as {@link GgufFile#readParts} gives them
     * @throws io.github.panamallama.runtime.gguf.GgufException if there is no such file, or it breaks a rule of GGUF
     * @throws AdapterException if it is no adapter, or not for this model
     */
    public static LoraWeights read(Path path, List<GgufFile> base) {
        if (NolaAdapter.isNola(GgufFile.read(path))) {
            var nola = NolaAdapter.read(path);
            nola.check(base);
            return nola.expand();
        }
        var file = AdapterFile.read(path);
        file.check(base);
        return read(file);
    }

    /**
     * Checks that every matrix is one of a model, in this shape. What a file declares beyond that {@link AdapterFile#check} compares.
     *
     * @param base the parts of the model, as {@link GgufFile#readParts} gives them
     * @throws AdapterException if the architecture, a name or a shape differs; the message has both values
     */
    public void check(List<GgufFile> base) {
        requireArchitecture(name, architecture, base);
        targets.forEach(target -> requireMatrix(name, base, target.name, target.inputs, target.outputs, target.experts));
    }

    static void requireArchitecture(String adapter, String architecture, List<GgufFile> base) {
        var model = base.getFirst();
        var theirs = model.metadata().string("general.architecture").orElse("");
        if (!theirs.equals(architecture)) {
            throw new AdapterException("\"" + adapter + "\" is for architecture \"" + architecture + "\", but " + model.path() + " is \""
                    + theirs + "\"; use the model it was trained on");
        }
    }

    static void requireMatrix(String adapter, List<GgufFile> base, String matrix, long inputs, long outputs, long experts) {
        var model = base.getFirst();
        var tensor = base.stream().flatMap(part -> part.tensor(matrix).stream()).findFirst()
                .orElseThrow(() -> new AdapterException("\"" + adapter
                + "\" adapts \"" + matrix + "\", which " + model.path() + " has not; use the model it was trained on"));
        var found = new ArrayList<>(tensor.shape());
        while (found.size() < 3) {
            found.add(1L);
        }
        if (!found.equals(List.of(inputs, outputs, experts))) {
            throw new AdapterException("\"" + adapter + "\" adapts \"" + matrix + "\" as " + inputs + " x " + outputs + " x " + experts
                    + " (row length, rows, experts), but in " + model.path() + " it is " + tensor.shape()
                    + "; use the model it was trained on");
        }
    }

    /**
     * Reads the weights of an adapter.
     *
     * @throws AdapterException if a value is NaN or infinite, or a tensor of a type other than f32, f16, bf16, q8_0 and q4_0
     */
    public static LoraWeights read(AdapterFile file) {
        var targets = new ArrayList<Target>();
        for (var target : file.targets()) {
            var a = TensorValues.read(file.gguf(), target.a());
            var b = TensorValues.read(file.gguf(), target.b());
            int rank = target.rank();
            int experts = target.experts();
            if (target.embedding()) {
                var looked = a;     // [outputs][rank], one row per token
                a = TensorValues.transpose(b, 1, target.inputs(), rank);
                b = looked;
            } else if (target.transposed()) {
                b = TensorValues.transpose(b, experts, rank, target.outputs());
            }
            targets.add(new Target(target.name(), rank, target.inputs(), target.outputs(), experts, a, b));
        }
        var metadata = new LinkedHashMap<String, Object>();
        for (var key : file.gguf().metadata().keys()) {
            if (!isOwn(key)) {
                metadata.put(key, value(file.gguf(), key));
            }
        }
        return new LoraWeights(file.architecture(), file.name(), file.alpha(), file.invocationTokens(), metadata, targets);
    }

    /**
     * Writes this adapter as a GGUF file. Quantised types have their blocks along the inputs in A and along the outputs in B, which
     * is stored transposed ({@link AdapterFile}); a factor that isn't a whole number of blocks, and those of embeddings, become F16.
     *
     * @param type F32, F16, BF16, Q8_0 or Q4_0
     * @throws AdapterException if the type is another one or can't hold a value
     * @throws io.github.panamallama.runtime.gguf.GgufException if the file can't be written
     */
    public void write(Path path, GgmlType type) {
        TensorValues.requireWritable(type);
        var writer = new GgufWriter()
                .put("general.architecture", architecture)
                .put("general.type", "adapter")
                .put("general.name", name);
        metadata.forEach((key, value) -> put(writer, key, value));
        writer.put("adapter.type", "lora").putF32("adapter.lora.alpha", alpha);
        if (invocationTokens.length > 0) {
            writer.putU32s("adapter.alora.invocation_tokens", invocationTokens);
        }
        for (var target : targets) {
            declare(writer, target, type);
        }
        writer.write(path);
    }

    private static void declare(GgufWriter writer, Target target, GgmlType type) {
        var smaller = type.isQuantized() ? GgmlType.F16 : type;
        int experts = target.experts;
        if (target.embedding()) {
            TensorValues.declare(writer, target.name + ".lora_a", smaller, shape(target.rank, target.outputs, 1), target.b);
            TensorValues.declare(writer, target.name + ".lora_b", smaller, shape(target.rank, target.inputs, 1),
                    TensorValues.transpose(target.a, 1, target.rank, target.inputs));
            return;
        }
        TensorValues.declare(writer, target.name + ".lora_a", target.inputs % type.blockSize() == 0 ? type : smaller,
                shape(target.inputs, target.rank, experts), target.a);
        if (type.isQuantized() && target.outputs % type.blockSize() == 0) {
            TensorValues.declare(writer, target.name + ".lora_bt", type, shape(target.outputs, target.rank, experts),
                    TensorValues.transpose(target.b, experts, target.outputs, target.rank));
        } else {
            TensorValues.declare(writer, target.name + ".lora_b", smaller, shape(target.rank, target.outputs, experts), target.b);
        }
    }

    private static List<Long> shape(long columns, long rows, long slices) {
        return slices == 1 ? List.of(columns, rows) : List.of(columns, rows, slices);
    }

    /** Whether {@link #write} sets this key itself, or it is about the file that was read and not about the adapter. */
    private static boolean isOwn(String key) {
        return switch (key) {
            case "general.architecture", "general.type", "general.name", "general.alignment", "general.file_type",
                    "general.quantization_version", "adapter.type", "adapter.lora.alpha", "adapter.alora.invocation_tokens" -> true;
            default -> false;
        };
    }

    private static Object value(GgufFile file, String key) {
        GgufMetadata metadata = file.metadata();
        return switch (metadata.type(key).orElseThrow()) {
            case STRING -> metadata.string(key).orElseThrow();
            case BOOL -> metadata.bool(key).orElseThrow();
            case FLOAT32, FLOAT64 -> (float) metadata.number(key).orElseThrow();
            case ARRAY -> switch (metadata.elementType(key).orElseThrow()) {
                case STRING -> List.copyOf(metadata.strings(key).orElseThrow());
                case FLOAT32 -> metadata.floats(key).orElseThrow();
                case UINT8, INT8, UINT16, INT16, UINT32, INT32, UINT64, INT64 -> {
                    var values = metadata.integers(key).orElseThrow();
                    var ints = new int[values.length];
                    for (int i = 0; i < ints.length; i++) {
                        ints[i] = (int) values[i];
                        if (ints[i] != values[i]) {
                            throw new AdapterException(file.path() + ": " + key + "[" + i + "] is " + values[i]
                                    + ", beyond 32 bits; remove the key");
                        }
                    }
                    yield ints;
                }
                default -> throw new AdapterException(file.path() + ": " + key + " is an " + metadata.text(key).orElseThrow()
                        + ", which can't be carried over; remove the key");
            };
            default -> metadata.integer(key).orElseThrow();
        };
    }

    private static void put(GgufWriter writer, String key, Object value) {
        switch (value) {
            case String text -> writer.put(key, text);
            case Boolean flag -> writer.put(key, flag);
            case Float number -> writer.putF32(key, number);
            case Long count when count >= 0 && count <= 0xFFFF_FFFFL -> writer.putU32(key, count);
            case Long number when number == number.intValue() -> writer.putI32(key, number.intValue());
            case Long large when large > 0 -> writer.putU64(key, large);
            case int[] numbers -> writer.putI32s(key, numbers);
            case float[] numbers -> writer.putF32s(key, numbers);
            case List<?> texts -> writer.putStrings(key, texts.stream().map(String.class::cast).toList());
            default -> throw new AdapterException("metadata " + key + " is " + value + " (" + value.getClass().getSimpleName()
                    + "), which can't be written; see LoraWeights.metadata");
        }
    }
}
