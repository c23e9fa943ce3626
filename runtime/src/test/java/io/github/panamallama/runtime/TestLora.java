package io.github.panamallama.runtime;

import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Predicate;

/** A random adapter whose values a test knows, and the same adapter merged into an F32 model by straightforward sums. */
record TestLora(String architecture, float alpha, List<Part> parts) {
    private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

    /** a is [experts][rank][in], b is [experts][out][rank]; of embeddings in is the embedding length, out the tokens. */
    record Part(String name, int rank, int in, int out, int experts, float[] a, float[] b) {
    }

    /** Factors for every matrix that {@code which} accepts, as large as trained ones are beside the base's weights. */
    static TestLora random(GgufFile base, int rank, long seed, Predicate<String> which) {
        var random = new SplittableRandom(seed);
        var parts = new ArrayList<Part>();
        for (var tensor : base.tensors()) {
            if (tensor.shape().size() < 2 || !which.test(tensor.name())) {
                continue;
            }
            int in = Math.toIntExact(tensor.shape().get(0));
            int out = Math.toIntExact(tensor.shape().get(1));
            int experts = tensor.shape().size() > 2 ? Math.toIntExact(tensor.shape().get(2)) : 1;
            double size = 1 / Math.sqrt(in);
            var a = floats(random, experts * rank * in, size);
            var b = floats(random, experts * out * rank, 0.3 / Math.sqrt(rank));
            parts.add(new Part(tensor.name(), rank, in, out, experts, a, b));
        }
        return new TestLora(base.metadata().string("general.architecture").orElseThrow(), rank, parts);
    }

    /** Every matrix of the blocks that a graph multiplies by. */
    static boolean projection(String name) {
        return name.matches("blk\\.\\d+\\.(attn_(q|k|v|output)|ffn_(gate|up|down)(_exps)?|ssm_in|ssm_out)\\.weight");
    }

    private static float[] floats(SplittableRandom random, int count, double deviation) {
        var all = new float[count];
        for (int i = 0; i < count; i++) {
            all[i] = (float) ((random.nextDouble() * 2 - 1) * Math.sqrt(3) * deviation);
        }
        return all;
    }

    TestLora withAlpha(float alpha) {
        return new TestLora(architecture, alpha, parts);
    }

    /** With A multiplied. */
    TestLora times(float factor) {
        return new TestLora(architecture, alpha, parts.stream().map(part -> {
            var a = part.a.clone();
            for (int i = 0; i < a.length; i++) {
                a[i] *= factor;
            }
            return new Part(part.name, part.rank, part.in, part.out, part.experts, a, part.b);
        }).toList());
    }

    Path write(Path path, int... invocation) {
        return write(path, GgmlType.F32, invocation);
    }

    /** @param type F32 or F16 */
    Path write(Path path, GgmlType type, int... invocation) {
        var writer = new GgufWriter().put("general.type", "adapter").put("adapter.type", "lora").put("general.architecture", architecture)
                .putF32("adapter.lora.alpha", alpha).put("general.name", path.getFileName().toString());
        if (invocation.length > 0) {
            writer.putU32s("adapter.alora.invocation_tokens", invocation);
        }
        for (var part : parts) {
            boolean embedding = part.name.equals(AdapterFile.EMBEDDING);
            // a file has the two of embeddings the other way round, each with the rank as its row length
            var a = embedding ? part.b : part.a;
            var b = embedding ? turned(part.a, part.rank, part.in) : part.b;
            var aShape = embedding ? shape(part.rank, part.out, 1) : shape(part.in, part.rank, part.experts);
            var bShape = embedding ? shape(part.rank, part.in, 1) : shape(part.rank, part.out, part.experts);
            writer.tensor(part.name + ".lora_a", type, aShape, out -> out.write(bytes(a, type)));
            writer.tensor(part.name + ".lora_b", type, bShape, out -> out.write(bytes(b, type)));
        }
        writer.write(path);
        return path;
    }

    private static float[] turned(float[] values, int rows, int columns) {
        var result = new float[values.length];
        for (int r = 0; r < rows; r++) {
            for (int c = 0; c < columns; c++) {
                result[c * rows + r] = values[r * columns + c];
            }
        }
        return result;
    }

    private static List<Long> shape(long first, long second, long third) {
        return third == 1 ? List.of(first, second) : List.of(first, second, third);
    }

    static MemorySegment bytes(float[] values, GgmlType type) {
        var bytes = Arena.ofAuto().allocate(type.bytes(values.length), 8);
        for (int i = 0; i < values.length; i++) {
            if (type == GgmlType.F16) {
                bytes.set(ValueLayout.JAVA_SHORT, 2L * i, Float.floatToFloat16(values[i]));
            } else {
                bytes.set(ValueLayout.JAVA_FLOAT, 4L * i, values[i]);
            }
        }
        return bytes;
    }

    static float[] floats(GgufFile file, GgufTensor tensor) {
        try (var arena = Arena.ofConfined()) {
            return file.map(tensor, arena).toArray(FLOAT);
        }
    }

    /** How strongly an adapter is merged. */
    record Scaled(TestLora lora, float scale) {
    }

    /**
     * Writes an F32 model with adapters merged in. Adapted embeddings act on the lookup alone, so that a model that shares them with its
     * output gets an output matrix of its own.
     */
    static Path merge(GgufFile base, Path to, Scaled... adapters) {
        var writer = new GgufWriter().putAll(base.metadata());
        for (var tensor : base.tensors()) {
            var values = floats(base, tensor);
            boolean adapted = Arrays.stream(adapters)
                    .anyMatch(adapter -> adapter.lora.parts.stream().anyMatch(part -> part.name.equals(tensor.name())));
            if (adapted && tensor.name().equals(AdapterFile.EMBEDDING) && base.tensor("output.weight").isEmpty()) {
                var output = values.clone();
                writer.tensor("output.weight", GgmlType.F32, tensor.shape(), out -> out.write(bytes(output, GgmlType.F32)));
            }
            for (var adapter : adapters) {
                for (var part : adapter.lora.parts) {
                    if (part.name.equals(tensor.name())) {
                        add(values, part, adapter.scale * (adapter.lora.alpha == 0 ? 1 : adapter.lora.alpha / part.rank));
                    }
                }
            }
            writer.tensor(tensor.name(), GgmlType.F32, tensor.shape(), out -> out.write(bytes(values, GgmlType.F32)));
        }
        writer.write(to);
        return to;
    }

    private static void add(float[] values, Part part, float scale) {
        for (int e = 0; e < part.experts; e++) {
            for (int o = 0; o < part.out; o++) {
                for (int i = 0; i < part.in; i++) {
                    double sum = 0;
                    for (int r = 0; r < part.rank; r++) {
                        sum += (double) part.b[(e * part.out + o) * part.rank + r] * part.a[(e * part.rank + r) * part.in + i];
                    }
                    values[(e * part.out + o) * part.in + i] += (float) (scale * sum);
                }
            }
        }
    }

    /** The feed-forward blocks of an F32 llama in four experts, of which two are chosen for each token. */
    static Path mixture(GgufFile llama, Path to, long seed) {
        int experts = 4;
        var random = new SplittableRandom(seed);
        var writer = new GgufWriter().putAll(llama.metadata()).putU32("llama.expert_count", experts).putU32("llama.expert_used_count", 2);
        for (var tensor : llama.tensors()) {
            if (!tensor.name().matches(".*\\.ffn_(gate|up|down)\\.weight")) {
                writer.tensor(tensor.name(), tensor.type(), tensor.shape(), out -> out.write(bytes(floats(llama, tensor), GgmlType.F32)));
                continue;
            }
            var shape = List.of(tensor.shape().get(0), tensor.shape().get(1), (long) experts);
            var values = floats(random, Math.toIntExact(tensor.elementCount()) * experts, 1 / Math.sqrt(shape.getFirst()));
            writer.tensor(tensor.name().replace(".weight", "_exps.weight"), GgmlType.F32, shape,
                    out -> out.write(bytes(values, GgmlType.F32)));
            if (tensor.name().endsWith("ffn_gate.weight")) {
                var router = floats(random, Math.toIntExact(shape.getFirst()) * experts, 1);
                writer.tensor(tensor.name().replace("ffn_gate.", "ffn_gate_inp."), GgmlType.F32, List.of(shape.getFirst(), (long) experts),
                        out -> out.write(bytes(router, GgmlType.F32)));
            }
        }
        writer.write(to);
        return to;
    }
}
