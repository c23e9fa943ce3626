package io.github.panamallama.adapters;

import static io.github.panamallama.adapters.RandomAdapters.adapter;
import static io.github.panamallama.adapters.RandomAdapters.norm;
import static io.github.panamallama.adapters.RandomAdapters.target;
import static io.github.panamallama.adapters.RandomAdapters.update;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.Dequantizer;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class AdapterDiffTest {
    private static final Path SHIPPED = Path.of("..", "models", "java-tiny-f16.gguf");
    private static final Path GUAVA = Path.of("..", "..", "shared", "models", "java-tiny-guava-lora.gguf");

    @TempDir
    Path folder;

    private final Random random = new Random(2);
    private final LoraWeights some = adapter("some", 6, target(random, "output.weight", 2, 64, 512, 1),
            target(random, "blk.2.attn_q.weight", 2, 64, 64, 1),
            target(random, "blk.0.ffn_down.weight", 3, 128, 64, 1), target(random, "blk.2.attn_v.weight", 2, 64, 32, 1));

    @Test
    void normsAreThoseOfTheScaledUpdates() {
        var diff = AdapterDiff.of(some, -0.5f);
        for (int i = 0; i < diff.matrices().size(); i++) {
            var matrix = diff.matrices().get(i);
            double wanted = 0.5 * norm(update(some, some.targets().get(i)));
            assertEquals(wanted, matrix.norm(), 1e-6 * wanted, matrix.name());
            assertEquals(some.targets().get(i).rank(), matrix.rank());
            assertEquals(OptionalDouble.empty(), matrix.relative());
        }
    }

    @Test
    void layersAreTheRootOfTheSumOfTheirSquares() {
        var diff = AdapterDiff.of(some, 1);
        var matrices = diff.matrices();
        assertEquals(List.of(OptionalInt.of(0), OptionalInt.of(2), OptionalInt.empty()), diff.layers().stream()
                .map(AdapterDiff.Layer::layer).toList());
        assertEquals(Math.hypot(matrices.get(1).norm(), matrices.get(3).norm()), diff.layers().get(1).norm(), 1e-9);
        assertEquals(2, diff.layers().get(1).matrices());
        assertEquals(norm(matrices.stream().mapToDouble(AdapterDiff.Matrix::norm).toArray()), diff.total().norm(), 1e-9);
        assertEquals(List.of("output", "attn_q", "ffn_down", "attn_v"), matrices.stream().map(AdapterDiff.Matrix::kind).toList());
    }

    @ParameterizedTest
    @EnumSource(names = {"F32", "BF16", "Q8_0", "Q4_0"})
    void normsAreRelativeToThoseOfTheModel(GgmlType type) {
        var base = folder.resolve("base.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withType(type).write(base);
        var parts = GgufFile.readParts(base);
        for (var matrix : AdapterDiff.of(some, 1, parts).matrices()) {
            var tensor = parts.getFirst().tensor(matrix.name()).orElseThrow();
            var values = new float[(int) tensor.elementCount()];
            try (var arena = Arena.ofConfined()) {
                Dequantizer.toFloats(type, parts.getFirst().map(tensor, arena), values, values.length);
            }
            double squares = 0;
            for (float value : values) {
                squares += (double) value * value;
            }
            assertEquals(Math.sqrt(squares), matrix.baseNorm().orElseThrow(), 1e-9 * Math.sqrt(squares));
            assertEquals(matrix.norm() / Math.sqrt(squares), matrix.relative().orElseThrow(), 1e-9);
        }
    }

    @Test
    void theRealAdapterChangesEveryLayerOfTheShippedModelALittle() {
        assumeTrue(Files.exists(GUAVA), "no " + GUAVA.toAbsolutePath().normalize());
        var base = GgufFile.readParts(SHIPPED);
        var diff = AdapterDiff.of(LoraWeights.read(GUAVA, base), 1, base);
        long layers = base.getFirst().metadata().integer("llama.block_count").orElseThrow();
        assertEquals(layers, diff.layers().stream().filter(layer -> layer.layer().isPresent()).count());
        for (var layer : diff.layers()) {
            double relative = layer.relative().orElseThrow();
            assertTrue(relative > 1e-3 && relative < 1, layer + ": " + relative);
        }
    }

    @Test
    void anotherModelOrScaleIsRefused() {
        var base = folder.resolve("base.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withLayers(2).write(base);
        var e = assertThrows(AdapterException.class, () -> AdapterDiff.of(some, 1, GgufFile.readParts(base)));
        assertTrue(e.getMessage().contains("blk.2.attn_q.weight"), e.getMessage());
        e = assertThrows(AdapterException.class, () -> AdapterDiff.of(some, Float.NEGATIVE_INFINITY));
        assertTrue(e.getMessage().contains("-Infinity"), e.getMessage());
    }
}
