package io.github.panamallama.runtime;

import static io.github.panamallama.runtime.Evaluation.assertClose;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomEncoder;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(120)
class ControlVectorTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(256).withThreads(1);
    private static final int WIDTH = 64;
    private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    @TempDir
    Path folder;

    private Model load(GgufWriter writer, String name) {
        var path = folder.resolve(name);
        writer.write(path);
        return Model.load(path);
    }

    private Model load(Architecture architecture) {
        return load(RandomModel.tiny(architecture).writer(), architecture + ".gguf");
    }

    private static float[] random(int size, long seed) {
        var random = new SplittableRandom(seed);
        var values = new float[size];
        for (int i = 0; i < size; i++) {
            values[i] = (float) random.nextDouble(-1, 1);
        }
        return values;
    }

    private static GgufWriter writer(String hint) {
        return new GgufWriter().put("general.architecture", "controlvector").put("controlvector.model_hint", hint);
    }

    private static GgufWriter add(GgufWriter writer, String name, float... values) {
        return writer.tensor(name, GgmlType.F32, List.of((long) values.length), out -> {
            var bytes = MemorySegment.ofArray(new byte[4 * values.length]);
            MemorySegment.copy(values, 0, bytes, FLOAT, 0, values.length);
            out.write(bytes);
        });
    }

    private Path write(GgufWriter writer) {
        var path = folder.resolve("control.gguf");
        writer.write(path);
        return path;
    }

    private static float[] logits(Model model, ControlVector control, int... tokens) {
        try (var engine = Engine.open(model, OPTIONS, control); var sequence = engine.newSequence()) {
            var row = engine.newRow();
            sequence.append(tokens, row);
            return row.toArray();
        }
    }

    /** A bias of the feed-forward part is added at the same place as the direction of its block. */
    @Test
    void aDirectionActsAsABiasOfItsBlockDoes() {
        var direction = random(WIDTH, 1);
        try (var model = load(Architecture.STARCODER2)) {
            var biased = folder.resolve("biased.gguf");
            var file = GgufFile.read(model.path());
            var writer = new GgufWriter().putAll(file.metadata());
            for (var tensor : file.tensors()) {
                writer.tensor(tensor.name(), tensor.type(), tensor.shape(), out -> {
                    try (var arena = Arena.ofConfined()) {
                        var bytes = arena.allocate(tensor.byteSize()).copyFrom(file.map(tensor, arena));
                        for (int i = 0; tensor.name().equals("blk.2.ffn_down.bias") && i < WIDTH; i++) {
                            bytes.setAtIndex(FLOAT, i, bytes.getAtIndex(FLOAT, i) + 0.5f * direction[i]);
                        }
                        out.write(bytes);
                    }
                });
            }
            writer.write(biased);
            var control = ControlVector.load(model, write(add(writer("starcoder2"), "direction.2", direction))).times(0.5f);
            var tokens = Evaluation.tokens(model, 30, 2);
            try (var reference = Model.load(biased); var engine = Engine.open(model, OPTIONS,
                    control); var sequence = engine.newSequence()) {
                var row = engine.newRow();
                sequence.append(tokens, row);
                var expected = logits(reference, null, tokens);
                assertClose(expected, row, Evaluation.tolerance(model, OPTIONS, tokens), "against the bias");
                assertTrue(Evaluation.largestDifference(logits(model, null, tokens), expected) > 0.1, "the bias does nothing");
                assertEquals(control, engine.control());
            }
        }
    }

    @Test
    void directionsAreScaledSummedAndLimitedToLayers() {
        try (var model = load(Architecture.LLAMA)) {
            var one = random(WIDTH, 3);
            var two = random(WIDTH, 4);
            var vector = ControlVector.load(model, write(add(add(writer("llama"), "direction.1", one), "direction.3", two)));
            assertArrayEquals(one, vector.direction(1));
            assertEquals(0, vector.direction(2).length);
            var tokens = Evaluation.tokens(model, 20, 5);
            var plain = logits(model, null, tokens);
            assertArrayEquals(plain, logits(model, vector.times(0), tokens), "a scale of 0");
            assertArrayEquals(plain, logits(model, vector.plus(vector.times(-1)), tokens), "one and its opposite");
            var both = logits(model, vector, tokens);
            assertTrue(Evaluation.largestDifference(plain, both) > 0.1);
            assertArrayEquals(both, logits(model, vector.withLayers(1, 1).plus(vector.withLayers(2, 3)), tokens), "layer by layer");
            assertTrue(Evaluation.largestDifference(both, logits(model, vector.withLayers(1, 1), tokens)) > 0.01);
            for (int[] range : new int[][] {{0, 1}, {2, 1}, {1, 4}}) {
                assertThrows(IllegalArgumentException.class, () -> vector.withLayers(range[0], range[1]));
            }
            assertThrows(IllegalArgumentException.class, () -> vector.times(Float.NaN));
            assertThrows(AdapterException.class, () -> vector.times(Float.MAX_VALUE).times(Float.MAX_VALUE));
        }
    }

    @Test
    void whatIsSavedUnderAControlVectorIsRestoredUnderItAlone() throws IOException {
        try (var model = load(Architecture.LLAMA)) {
            var vector = ControlVector.load(model, write(add(writer("llama"), "direction.1", random(WIDTH, 6))));
            var out = new ByteArrayOutputStream();
            try (var engine = Engine.open(model, OPTIONS, vector); var sequence = engine.newSequence()) {
                sequence.append(Evaluation.tokens(model, 20, 7), null);
                sequence.save(out);
            }
            var all = LayerPlan.all(4);
            try (var same = Engine.open(model, OPTIONS, vector); var other = Engine.open(model, OPTIONS, vector.times(2));
                    var none = Engine.open(model, OPTIONS)) {
                same.restore(new ByteArrayInputStream(out.toByteArray()), AdapterSet.none(), all).close();
                for (var engine : List.of(other, none)) {
                    var refusal = assertThrows(StateException.class,
                            () -> engine.restore(new ByteArrayInputStream(out.toByteArray()), AdapterSet.none(), all));
                    assertTrue(refusal.getMessage().contains("control vector"), refusal.getMessage());
                }
            }
        }
    }

    @Test
    void filesThatDontFitAreRefused() throws IOException {
        try (var model = load(Architecture.LLAMA); var other = load(RandomModel.tiny(Architecture.LLAMA).withSeed(2).writer(),
                "other.gguf")) {
            var direction = random(WIDTH, 8);
            refused(model, "is for models of the architecture qwen2", add(writer("qwen2"), "direction.1", direction));
            refused(model, "is no control vector", add(new GgufWriter().put("general.architecture", "llama"), "direction.1", direction));
            refused(model, "is no control vector", add(new GgufWriter(), "direction.1", direction));
            refused(model, "has a direction for block 4", add(writer("llama"), "direction.4", direction));
            refused(model, "has a tensor \"direction.0\"", add(writer("llama"), "direction.0", direction));
            refused(model, "has a tensor \"direction.1x\"", add(writer("llama"), "direction.1x", direction));
            refused(model, "has a tensor \"direction.99999999999\"", add(writer("llama"), "direction.99999999999", direction));
            refused(model, "needs f32[64]", add(writer("llama"), "direction.1", random(WIDTH + 1, 8)));
            refused(model, "needs f32[64]", writer("llama").tensor("direction.1", GgmlType.F32, List.of(64L, 2L),
                    out -> out.write(MemorySegment.ofArray(new byte[512]))));
            refused(model, "needs f32[64]", writer("llama").tensor("direction.1", GgmlType.F16, List.of(64L),
                    out -> out.write(MemorySegment.ofArray(new byte[128]))));
            refused(model, "has no directions", writer("llama"));
            for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY}) {
                var broken = direction.clone();
                broken[63] = bad;
                refused(model, "no number to add", add(writer("llama"), "direction.1", broken));
            }
            var whole = Files.readAllBytes(write(add(writer("llama"), "direction.1", direction)));
            for (int length = 0; length < whole.length; length += 7) {
                var cut = Files.write(folder.resolve("cut.gguf"), Arrays.copyOf(whole, length));
                assertThrows(GgufException.class, () -> ControlVector.load(model, cut), "cut at " + length);
            }
            assertThrows(GgufException.class, () -> ControlVector.load(model, folder.resolve("none.gguf")));
            var vector = ControlVector.load(model, folder.resolve("control.gguf"));
            assertThrows(IllegalArgumentException.class, () -> Engine.open(other, OPTIONS, vector));
            assertThrows(IllegalArgumentException.class, () -> vector.plus(ControlVector.load(other, folder.resolve("control.gguf"))));
        }
    }

    private void refused(Model model, String message, GgufWriter writer) {
        var refusal = assertThrows(AdapterException.class, () -> ControlVector.load(model, write(writer)));
        assertTrue(refusal.getMessage().contains(message), refusal.getMessage());
    }

    @Test
    void architecturesWithoutPlaceForThemAreRefused() {
        try (var model = load(RandomEncoder.tiny(RandomEncoder.Architecture.T5).writer(), "t5.gguf")) {
            var vector = ControlVector.load(model, write(add(writer("t5"), "direction.1", random(WIDTH, 9))));
            assertThrows(AdapterException.class, () -> Engine.open(model, OPTIONS, vector));
        }
        for (var architecture : Architecture.values()) {
            try (var model = load(architecture)) {
                var vector = ControlVector.load(model, write(add(writer(architecture.key()), "direction.1", random(WIDTH, 9))));
                try (var engine = Engine.open(model, OPTIONS, vector)) {
                    assertEquals(vector, engine.control());
                } catch (AdapterException e) {
                    System.out.println(e.getMessage());
                    assertTrue(e.getMessage().contains("has no place for them"), e.getMessage());
                }
            }
        }
    }
}
