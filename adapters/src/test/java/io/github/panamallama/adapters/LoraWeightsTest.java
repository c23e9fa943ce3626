package io.github.panamallama.adapters;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.natives.Natives;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class LoraWeightsTest {
    private static final Path JAVA_TINY = Path.of("..", "models", "java-tiny-f16.gguf");
    private static final Path GUAVA = Path.of("..", "..", "shared", "models", "java-tiny-guava-lora.gguf");
    private static final long SEED = 20261129;

    @TempDir
    Path folder;

    @Test
    void theRealAdapterComesBackTensorByTensor() {
        assumeTrue(Files.exists(GUAVA), GUAVA.toAbsolutePath().normalize() + " is missing: it lies beside the checkout, not in it");
        var original = AdapterFile.read(GUAVA);
        var weights = LoraWeights.read(original);
        var path = folder.resolve("again.gguf");
        weights.write(path, GgmlType.F32);
        var again = AdapterFile.read(path);
        again.check(GgufFile.readParts(JAVA_TINY));
        assertEquals(original.alpha(), again.alpha());
        assertEquals(original.name(), again.name());
        assertEquals(original.gguf().metadata().string("general.license"), again.gguf().metadata().string("general.license"));
        assertEquals(original.targets().size(), again.targets().size());
        try (var arena = Arena.ofConfined()) {
            for (int i = 0; i < original.targets().size(); i++) {
                var left = original.targets().get(i);
                var right = again.targets().get(i);
                assertEquals(left.name(), right.name());
                assertEquals(-1, original.gguf().map(left.a(), arena).mismatch(again.gguf().map(right.a(), arena)), left.name());
                assertEquals(-1, original.gguf().map(left.b(), arena).mismatch(again.gguf().map(right.b(), arena)), left.name());
            }
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"F32", "F16", "BF16", "Q8_0", "Q4_0"})
    void everyTypeKeepsTheWeightsWithinItsPrecision(GgmlType type) {
        var weights = sample();
        var path = folder.resolve("adapter.gguf");
        weights.write(path, type);
        var again = LoraWeights.read(AdapterFile.read(path));
        // relative to the largest value of a block: half of the last bit, or half a step of the scale; -8 to 7 cuts at one end
        double precision = switch (type) {
            case F32 -> 0;
            case F16 -> 0x1p-11;
            case BF16 -> 0x1p-8;
            case Q8_0 -> 0.5 / 127 + 0x1p-10;
            default -> 1.0 / 8 + 0x1p-9;
        };
        assertEquals(weights.targets().size(), again.targets().size());
        for (int i = 0; i < weights.targets().size(); i++) {
            var left = weights.targets().get(i);
            var right = again.targets().get(i);
            assertEquals(List.of(left.name(), left.rank(), left.inputs(), left.outputs(), left.experts()),
                    List.of(right.name(), right.rank(), right.inputs(), right.outputs(), right.experts()));
            assertClose(left.a(), right.a(), precision, left.name() + " A as " + type);
            assertClose(left.b(), right.b(), precision, left.name() + " B as " + type);
        }
        assertArrayEquals(weights.invocationTokens(), again.invocationTokens());
    }

    @Test
    void quantisedFactorsAreStoredAlongTheLongSide() {
        var path = folder.resolve("adapter.gguf");
        sample().write(path, GgmlType.Q4_0);
        var file = AdapterFile.read(path);
        var query = file.targets().get(0);
        assertTrue(query.transposed());
        assertEquals(List.of(64L, 4L), query.a().shape());
        assertEquals(List.of(96L, 4L), query.b().shape());
        assertEquals(GgmlType.Q4_0, query.a().type());
        assertEquals(GgmlType.Q4_0, query.b().type());
        assertEquals((64 + 96) * 4 * 18 / 32, query.byteSize());
        var odd = file.targets().get(1);
        assertFalse(odd.transposed());
        assertEquals(List.of(GgmlType.F16, GgmlType.F16), List.of(odd.a().type(), odd.b().type()));
        var embedding = file.targets().get(3);
        assertEquals(List.of(List.of(4L, 40L), List.of(4L, 64L)), List.of(embedding.a().shape(), embedding.b().shape()));
    }

    @ParameterizedTest
    @EnumSource(names = {"Q8_0", "Q4_0"})
    void quantisingGivesTheBitsOfGgml(GgmlType type) {
        Natives.load();
        System.out.println("seed " + SEED);
        var random = new Random(SEED);
        int columns = 256;
        int rows = 500;
        var values = new float[columns * rows];
        for (int i = 0; i < values.length; i++) {
            double size = Math.pow(10, random.nextInt(-6, 3));
            values[i] = i / 32 % 7 == 0 ? random.nextInt(-4, 5) : (float) (random.nextGaussian() * size);
        }
        var path = folder.resolve("tensor.gguf");
        var writer = new GgufWriter();
        TensorValues.declare(writer, "t", type, List.of((long) columns, (long) rows), values);
        writer.write(path);
        var file = GgufFile.read(path);
        try (var arena = Arena.ofConfined()) {
            var ours = file.map(file.tensor("t").orElseThrow(), arena);
            var source = arena.allocateFrom(ValueLayout.JAVA_FLOAT, values);
            var theirs = arena.allocate(ours.byteSize(), 8);
            assertEquals(ours.byteSize(), LlamaH.ggml_quantize_chunk(type.id(), source, theirs, 0, rows, columns, MemorySegment.NULL));
            assertEquals(-1, ours.mismatch(theirs));
        }
    }

    @Test
    void metadataIsCarriedOver() {
        var weights = sample().withMetadata(Map.of("general.description", "x", "llama.block_count", 4L, "training.rate", 0.5f,
                "training.steps", -3L, "general.tags", List.of("a", "b"), "training.seeds", new int[] {1, -2}, "training.done", true));
        var path = folder.resolve("adapter.gguf");
        weights.write(path, GgmlType.F32);
        var again = LoraWeights.read(AdapterFile.read(path));
        assertEquals(weights.metadata().keySet(), again.metadata().keySet());
        weights.metadata().forEach((key, value) -> {
            if (value instanceof int[] numbers) {
                assertArrayEquals(numbers, (int[]) again.metadata().get(key));
            } else {
                assertEquals(value, again.metadata().get(key));
            }
        });
        assertThrows(AdapterException.class, () -> sample().withMetadata(Map.of("x", new Object())).write(path, GgmlType.F32));
    }

    @ParameterizedTest
    @EnumSource(names = {"F32", "F16", "BF16"})
    void damagedWeightsAreRefusedByTensorAndIndex(GgmlType type) throws IOException {
        var path = folder.resolve("adapter.gguf");
        sample().write(path, type);
        var file = AdapterFile.read(path);
        long at = file.gguf().position(file.targets().get(2).b()) + 5L * type.blockBytes();
        var bytes = Files.readAllBytes(path);
        for (int i = 0; i < type.blockBytes(); i++) {
            bytes[(int) at + i] = (byte) 0xFF;
        }
        Files.write(path, bytes);
        var e = assertThrows(AdapterException.class, () -> LoraWeights.read(AdapterFile.read(path)));
        assertTrue(e.getMessage().contains("tensor \"blk.0.ffn_up_exps.weight.lora_b\": value 5 of 1152 is NaN"), e.getMessage());
    }

    @Test
    void aValueThatTheTypeCannotHoldIsRefusedAndLeavesNoFile() throws IOException {
        var target = new LoraWeights.Target("blk.0.attn_q.weight", 1, 32, 32, 1, constant(32, 1e6f), constant(32, 1));
        var weights = new LoraWeights("llama", "large", 1, new int[0], Map.of(), List.of(target));
        var path = folder.resolve("large.gguf");
        var e = assertThrows(AdapterException.class, () -> weights.write(path, GgmlType.F16));
        assertTrue(e.getMessage().contains("1000000.0, which f16 can't hold"), e.getMessage());
        try (var files = Files.list(folder)) {
            assertEquals(List.of(), files.toList());
        }
    }

    @Test
    void whatMakesNoAdapterIsRefused() {
        var good = new LoraWeights.Target("x", 2, 3, 4, 1, new float[6], new float[8]);
        assertThrows(AdapterException.class, () -> new LoraWeights("llama", "n", 1, new int[0], Map.of(), List.of()));
        assertThrows(AdapterException.class, () -> new LoraWeights("llama", "n", 1, new int[0], Map.of(), List.of(good, good)));
        assertThrows(AdapterException.class, () -> new LoraWeights("llama", "n", Float.NaN, new int[0], Map.of(), List.of(good)));
        assertThrows(AdapterException.class, () -> new LoraWeights.Target("x", 0, 3, 4, 1, new float[0], new float[0]));
        assertThrows(AdapterException.class, () -> new LoraWeights.Target("x", 2, 3, 4, 1, new float[6], new float[7]));
        assertThrows(AdapterException.class, () -> new LoraWeights.Target("x", 2, 3, 4, 1, constant(6, Float.NaN), new float[8]));
        var e = assertThrows(AdapterException.class,
                () -> new LoraWeights("llama", "n", 1, new int[0], Map.of(), List.of(good)).write(folder.resolve("x.gguf"), GgmlType.Q4_K));
        assertTrue(e.getMessage().contains("q4_K"), e.getMessage());
    }

    /** An ordinary matrix, one of odd sizes, one with three experts, and embeddings. */
    private static LoraWeights sample() {
        var random = new Random(SEED);
        return new LoraWeights("llama", "sample", 8, new int[] {3, 1, 4}, Map.of(), List.of(
                target(random, "blk.0.attn_q.weight", 4, 64, 96, 1),
                target(random, "blk.0.attn_k.weight", 3, 50, 20, 1),
                target(random, "blk.0.ffn_up_exps.weight", 4, 64, 96, 3),
                target(random, "token_embd.weight", 4, 64, 40, 1)));
    }

    private static LoraWeights.Target target(Random random, String name, int rank, int inputs, int outputs, int experts) {
        return new LoraWeights.Target(name, rank, inputs, outputs, experts, normal(random, experts * rank * inputs),
                normal(random, experts * outputs * rank));
    }

    private static float[] normal(Random random, int size) {
        var values = new float[size];
        for (int i = 0; i < size; i++) {
            values[i] = (float) random.nextGaussian();
        }
        return values;
    }

    private static float[] constant(int size, float value) {
        var values = new float[size];
        Arrays.fill(values, value);
        return values;
    }

    private static void assertClose(float[] expected, float[] actual, double precision, String what) {
        double largest = 0;
        for (float value : expected) {
            largest = Math.max(largest, Math.abs(value));
        }
        assertEquals(expected.length, actual.length, what);
        for (int i = 0; i < expected.length; i++) {
            assertEquals(expected[i], actual[i], precision * largest, what + " [" + i + "] (seed " + SEED + ")");
        }
    }
}
