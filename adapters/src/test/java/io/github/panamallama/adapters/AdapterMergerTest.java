package io.github.panamallama.adapters;

import static io.github.panamallama.adapters.RandomAdapters.adapter;
import static io.github.panamallama.adapters.RandomAdapters.target;
import static io.github.panamallama.adapters.RandomAdapters.update;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.Dequantizer;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Quantizer;
import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufValueType;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Predicate;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class AdapterMergerTest {
    private static final Path SHIPPED = Path.of("..", "models", "java-tiny-f16.gguf");
    private static final Path GUAVA = Path.of("..", "..", "shared", "models", "java-tiny-guava-lora.gguf");

    @TempDir
    Path folder;

    private final Random random = new Random(8);
    private final LoraWeights one = adapter("one", 8, target(random, "blk.0.attn_q.weight", 4, 64, 64, 1),
            target(random, "blk.3.ffn_down.weight", 4, 128, 64, 1));
    private final LoraWeights two = adapter("two", 0, target(random, "blk.3.ffn_down.weight", 2, 128, 64, 1),
            target(random, "output.weight", 2, 64, 512, 1));

    @ParameterizedTest
    @EnumSource(names = {"F32", "F16", "BF16"})
    void adaptedMatricesAreTheSumsInTheTypeOfTheBaseAndAllElseIsCopied(GgmlType type) throws IOException {
        var base = tiny(type);
        var out = folder.resolve("out.gguf");
        AdapterMerger.of(base).with(one, 0.5f).with(two, -0.25f).run(out);
        check(base, out, List.of(one, two), List.of(0.5, -0.25), type);
        try (var model = Model.load(out)) {
            assertEquals(4, model.layerCount());
        }
    }

    @Test
    void theTypeOfTheMergedMatricesCanBeChosen() throws IOException {
        var base = tiny(GgmlType.F16);
        var out = folder.resolve("out.gguf");
        AdapterMerger.of(base).with(one, 1).withMatrixType(GgmlType.F32).run(out);
        check(base, out, List.of(one), List.of(1.0), GgmlType.F32);
        assertThrows(IllegalArgumentException.class, () -> AdapterMerger.of(base).withMatrixType(GgmlType.Q8_0));
    }

    @ParameterizedTest
    @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
    void quantisedMatricesAreConvertedAndBecomeF16(GgmlType type) throws IOException {
        var base = folder.resolve("base.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withLayers(1).withWidth(256).withFeedForward(256).withHeads(4, 2, 64)
                .withType(type).write(base);
        var adapter = adapter("wide", 4, target(random, "blk.0.ffn_down.weight", 4, 256, 256, 1));
        var out = folder.resolve("out.gguf");
        AdapterMerger.of(base).with(adapter, 0.01f).run(out);
        assertEquals(type, GgufFile.read(out).tensor("blk.0.ffn_up.weight").orElseThrow().type());
        check(base, out, List.of(adapter), List.of((double) 0.01f), GgmlType.F16);
        try (var model = Model.load(out)) {
            assertEquals(1, model.layerCount());
        }
    }

    @Test
    void aScaleOfZeroLeavesEveryTensorAsItIs() throws IOException {
        var base = tiny(GgmlType.BF16);
        var out = folder.resolve("out.gguf");
        AdapterMerger.of(base).with(one, 0).run(out);
        for (var tensor : GgufFile.read(base).tensors()) {
            assertArrayEquals(bytes(base, tensor.name()), bytes(out, tensor.name()), tensor.name());
        }
    }

    @Test
    void metadataSaysWhatWasMerged() throws IOException {
        var base = tiny(GgmlType.F32);
        var out = folder.resolve("out.gguf");
        var again = folder.resolve("again.gguf");
        AdapterMerger.of(base).with(one, 1).run(out);
        AdapterMerger.of(out).with(two, 0.5f).run(again);
        var metadata = GgufFile.read(again).metadata();
        assertEquals(List.of("one", "0.5 * two"), metadata.strings(AdapterMerger.MERGED).orElseThrow());
        assertEquals("random llama 4x64 + one + 0.5 * two", metadata.string("general.name").orElseThrow());
        var source = GgufFile.read(base).metadata();
        for (var key : source.keys()) {
            if (!key.equals("general.name")) {
                assertEquals(source.text(key), metadata.text(key), key);
            }
        }
    }

    @Test
    void expertsAreMergedSliceBySlice() throws IOException {
        var base = folder.resolve("moe.gguf");
        var weights = new float[64 * 32 * 3];
        for (int i = 0; i < weights.length; i++) {
            weights[i] = (float) random.nextGaussian();
        }
        RandomModel.tiny(RandomModel.Architecture.LLAMA).writer()
                .tensor("blk.1.ffn_up_exps.weight", GgmlType.F32, List.of(64L, 32L, 3L), out -> out.write(floats(weights))).write(base);
        var experts = adapter("experts", 6, target(random, "blk.1.ffn_up_exps.weight", 3, 64, 32, 3));
        var out = folder.resolve("out.gguf");
        AdapterMerger.of(base).with(experts, 2).run(out);
        check(base, out, List.of(experts), List.of(2.0), GgmlType.F32);
    }

    @Test
    void anAdapterOfEmbeddingsActsOnTheLookUpOnlyWhereTheyAreTied() throws IOException {
        var base = tied("llama", "llama");
        var embeddings = adapter("embeddings", 2, target(random, AdapterFile.EMBEDDING, 2, 64, 512, 1));
        var out = folder.resolve("out.gguf");
        AdapterMerger.of(base).with(embeddings, 1).run(out);
        check(base, out, List.of(embeddings), List.of(1.0), GgmlType.F32);
        assertArrayEquals(bytes(base, AdapterFile.EMBEDDING), bytes(out, "output.weight"));
        // other adapters leave the model tied
        var tied = folder.resolve("tied.gguf");
        AdapterMerger.of(base).with(one, 1).run(tied);
        assertTrue(GgufFile.read(tied).tensor("output.weight").isEmpty());
    }

    @Test
    void anArchitectureThatIsAlwaysTiedIsRefused() throws IOException {
        var base = tied("llama", "gemma");
        var embeddings = new LoraWeights("gemma", "embeddings", 2, new int[0], Map.of(),
                List.of(target(random, AdapterFile.EMBEDDING, 2, 64, 512, 1)));
        try (var model = Model.load(base)) {
            assertEquals(4, model.layerCount(), "the base itself is sound");
        }
        var out = folder.resolve("out.gguf");
        var e = assertThrows(AdapterException.class, () -> AdapterMerger.of(base).with(embeddings, 1).run(out));
        assertTrue(e.getMessage().contains("token embeddings"), e.getMessage());
        assertOnlyFiles(base);
    }

    @Test
    void partsOfASplitModelBecomeOneFile() throws IOException {
        var whole = GgufFile.read(tiny(GgmlType.F32));
        var parts = List.of(folder.resolve("split-00001-of-00002.gguf"), folder.resolve("split-00002-of-00002.gguf"));
        for (int i = 0; i < 2; i++) {
            int part = i;
            var writer = new GgufWriter();
            if (i == 0) {
                writer.putAll(whole.metadata());
            }
            writer.putU16("split.no", i).putU16("split.count", 2).putI32("split.tensors.count", whole.tensors().size());
            copy(whole, writer, name -> name.startsWith("blk.3") == (part == 1));
            writer.write(parts.get(i));
        }
        var out = folder.resolve("out.gguf");
        AdapterMerger.of(parts.getFirst()).with(one, 1).run(out);
        check(whole.path(), out, List.of(one), List.of(1.0), GgmlType.F32);
        assertFalse(GgufFile.read(out).metadata().contains("split.count"));
        try (var model = Model.load(out)) {
            assertEquals(4, model.layerCount());
        }
    }

    @Test
    void theMergedModelIsQuantisedOnRequest() throws IOException {
        var base = tiny(GgmlType.F32);
        var direct = folder.resolve("direct.gguf");
        var steps = folder.resolve("steps.gguf");
        AdapterMerger.of(base).with(one, 1).withQuantization(Quantizer.Type.Q8_0).run(direct);
        var merged = folder.resolve("merged.gguf");
        AdapterMerger.of(base).with(one, 1).run(merged);
        Quantizer.to(Quantizer.Type.Q8_0).run(merged, steps);
        assertArrayEquals(Files.readAllBytes(steps), Files.readAllBytes(direct));
        assertEquals(GgmlType.Q8_0, GgufFile.read(direct).tensor("blk.0.attn_q.weight").orElseThrow().type());
        // from a quantised base too
        var again = folder.resolve("again.gguf");
        AdapterMerger.of(direct).with(two, 0.1f).withQuantization(Quantizer.Type.Q4_0).run(again);
        assertEquals(GgmlType.Q4_0, GgufFile.read(again).tensor("blk.3.ffn_down.weight").orElseThrow().type());
        assertOnlyFiles(base, direct, steps, merged, again);
    }

    @Test
    void theRealAdapterMergesIntoTheShippedModel() throws IOException {
        assumeTrue(Files.exists(GUAVA), "no " + GUAVA.toAbsolutePath().normalize());
        var out = folder.resolve("guava.gguf");
        var tensors = new ArrayList<String>();
        AdapterMerger.of(SHIPPED).with(GUAVA, 0.7f).withProgress((tensor, done, total) -> {
            tensors.add(tensor);
            assertEquals(tensors.size(), done);
            assertEquals(GgufFile.read(SHIPPED).tensors().size(), total);
        }).run(out);
        assertEquals(GgufFile.read(SHIPPED).tensors().size(), tensors.size());
        check(SHIPPED, out, List.of(LoraWeights.read(GUAVA)), List.of((double) 0.7f), GgmlType.F16);
        try (var model = Model.load(out)) {
            assertTrue(model.parameterCount() > 5_000_000);
        }
    }

    @Test
    void aNolaFileIsExpandedAndItsBaseChecked() throws IOException {
        var base = tiny(GgmlType.F32);
        var file = folder.resolve("nola.gguf");
        float[] coefficients = {1, -1, 0.5f};
        var nola = new NolaAdapter("llama", "nola", NolaAdapter.baseHash(GgufFile.readParts(base)), 4, 4,
                List.of(new NolaAdapter.Target("blk.0.attn_q.weight", 5, 64, 64, coefficients, coefficients)));
        nola.write(file, GgmlType.F32);
        var out = folder.resolve("out.gguf");
        AdapterMerger.of(base).with(file, 1).run(out);
        check(base, out, List.of(nola.expand()), List.of(1.0), GgmlType.F32);
        var e = assertThrows(AdapterException.class, () -> AdapterMerger.of(out).with(file, 1));
        assertTrue(e.getMessage().contains("hash"), e.getMessage());
    }

    @Test
    void adaptersForAnotherModelAreRefused() {
        var merger = AdapterMerger.of(tiny(GgmlType.F32));
        refuses("qwen3", () -> merger.with(new LoraWeights("qwen3", "other", 1, new int[0], Map.of(), one.targets()), 1));
        refuses("blk.4.attn_q.weight", () -> merger.with(adapter("deep", 1, target(random, "blk.4.attn_q.weight", 2, 64, 64, 1)), 1));
        refuses("32 x 64 x 1", () -> merger.with(adapter("narrow", 1, target(random, "blk.0.attn_q.weight", 2, 32, 64, 1)), 1));
        refuses("NaN", () -> merger.with(one, Float.NaN));
        refuses("aLoRA", () -> merger.with(new LoraWeights("llama", "late", 1, new int[] {5}, Map.of(), one.targets()), 1));
        refuses("no adapters", () -> merger.run(folder.resolve("out.gguf")));
        assertThrows(GgufException.class, () -> merger.with(folder.resolve("missing.gguf"), 1));
    }

    @Test
    void anAdapterIsNoBase() {
        var file = folder.resolve("adapter.gguf");
        one.write(file, GgmlType.F32);
        refuses("adapter", () -> AdapterMerger.of(file));
    }

    @Test
    void inputsAreNeverOverwrittenAndOtherFilesOnlyOnRequest() throws IOException {
        var base = tiny(GgmlType.F32);
        var before = Files.readAllBytes(base);
        var file = folder.resolve("adapter.gguf");
        one.write(file, GgmlType.F32);
        var merger = AdapterMerger.of(base).with(file, 1);
        for (var input : List.of(base, file, folder.resolve(".").resolve("base.gguf"))) {
            var e = assertThrows(LlamaException.class, () -> merger.withOverwrite(true).run(input));
            assertTrue(e.getMessage().contains("is an input"), e.getMessage());
        }
        assertArrayEquals(before, Files.readAllBytes(base));
        var out = Files.writeString(folder.resolve("out.gguf"), "mine");
        assertTrue(assertThrows(LlamaException.class, () -> merger.run(out)).getMessage().contains("exists"));
        assertEquals("mine", Files.readString(out));
        merger.withOverwrite(true).run(out);
        assertEquals(GgufFile.read(base).tensors().size(), GgufFile.read(out).tensors().size());
        assertThrows(LlamaException.class, () -> merger.run(folder));
        assertThrows(LlamaException.class, () -> merger.run(folder.resolve("no").resolve("out.gguf")));
    }

    @Test
    void aSumThatItsTypeCanNotHoldIsRefusedAndLeavesNothing() throws IOException {
        var base = tiny(GgmlType.F16);
        var out = folder.resolve("out.gguf");
        var e = refuses("blk.0.attn_q.weight", () -> AdapterMerger.of(base).with(one, 1e6f).run(out));
        assertTrue(e.getMessage().contains("f16"), e.getMessage());
        refuses("row 0 column", () -> AdapterMerger.of(base).with(one, Float.MAX_VALUE).run(out));
        assertOnlyFiles(base);
    }

    @Test
    void aTypeWithoutAConversionIsRefusedByName() throws IOException {
        var base = folder.resolve("odd.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).writer()
                .tensor("odd.weight", GgmlType.I8, List.of(4L, 4L), out -> out.write(MemorySegment.ofArray(new byte[16]))).write(base);
        refuses("i8", () -> AdapterMerger.of(base).with(adapter("odd", 1, target(random, "odd.weight", 1, 4, 4, 1)), 1)
                .run(folder.resolve("out.gguf")));
        assertOnlyFiles(base);
    }

    private Path tiny(GgmlType type) {
        var path = folder.resolve("base.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withType(type).write(path);
        return path;
    }

    /** A model without an output matrix, under the name of another architecture with the same tensors. */
    private Path tied(String from, String to) {
        var source = GgufFile.read(tiny(GgmlType.F32));
        var path = folder.resolve("tied.base.gguf");
        var writer = new GgufWriter();
        for (var key : source.metadata().keys()) {
            writer.put(key, source.metadata());
        }
        if (!from.equals(to)) {
            writer.put("general.architecture", to);
            for (var key : source.metadata().keys()) {
                if (key.startsWith(from + ".")) {
                    var name = to + key.substring(from.length());
                    if (source.metadata().type(key).orElseThrow() == GgufValueType.FLOAT32) {
                        writer.putF32(name, (float) source.metadata().number(key).orElseThrow());
                    } else {
                        writer.putU32(name, source.metadata().integer(key).orElseThrow());
                    }
                    writer.remove(key);
                }
            }
        }
        copy(source, writer, name -> !name.equals("output.weight"));
        writer.write(path);
        try {
            Files.delete(source.path());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return path;
    }

    /** Declares those tensors of a file. Their data is read at once. */
    private static void copy(GgufFile source, GgufWriter writer, Predicate<String> which) {
        for (var tensor : source.tensors()) {
            if (which.test(tensor.name())) {
                var bytes = bytes(source.path(), tensor.name());
                writer.tensor(tensor.name(), tensor.type(), tensor.shape(), out -> out.write(MemorySegment.ofArray(bytes)));
            }
        }
    }

    /** Compares a merged file with its base, tensor by tensor, against sums made in the plainest way. */
    private static void check(Path base, Path out, List<LoraWeights> adapters, List<Double> scales, GgmlType type) {
        var merged = GgufFile.read(out);
        var names = new ArrayList<String>();
        adapters.forEach(adapter -> adapter.targets().forEach(target -> names.add(target.name())));
        for (var tensor : GgufFile.read(base).tensors()) {
            var found = merged.tensor(tensor.name()).orElseThrow();
            assertEquals(tensor.shape(), found.shape());
            if (!names.contains(tensor.name())) {
                assertEquals(tensor.type(), found.type());
                assertArrayEquals(bytes(base, tensor.name()), bytes(out, tensor.name()), tensor.name());
                continue;
            }
            assertEquals(type, found.type(), tensor.name());
            var before = values(base, tensor.name());
            var after = values(out, tensor.name());
            var sum = new double[before.length];
            for (int i = 0; i < sum.length; i++) {
                sum[i] = before[i];
            }
            for (int i = 0; i < adapters.size(); i++) {
                double scale = scales.get(i);
                for (var target : adapters.get(i).targets()) {
                    if (target.name().equals(tensor.name())) {
                        var update = update(adapters.get(i), target);
                        for (int j = 0; j < sum.length; j++) {
                            sum[j] += scale * update[j];
                        }
                    }
                }
            }
            double ulp = switch (type) {
                case F32 -> 0x1p-23;
                case F16 -> 0x1p-10;
                default -> 0x1p-7;
            };
            for (int i = 0; i < sum.length; i++) {
                assertEquals(sum[i], after[i], Math.abs(sum[i]) * ulp * 0.51 + 1e-7, tensor.name() + "[" + i + "]");
            }
            assertFalse(Arrays.equals(before, after), tensor.name() + " has changed");
        }
    }

    private static float[] values(Path file, String name) {
        var gguf = GgufFile.read(file);
        var tensor = gguf.tensor(name).orElseThrow();
        try (var arena = Arena.ofConfined()) {
            var values = new float[(int) tensor.elementCount()];
            Dequantizer.toFloats(tensor.type(), gguf.map(tensor, arena), values, values.length);
            return values;
        }
    }

    private static byte[] bytes(Path file, String name) {
        var gguf = GgufFile.read(file);
        try (var arena = Arena.ofConfined()) {
            return gguf.map(gguf.tensor(name).orElseThrow(), arena).toArray(ValueLayout.JAVA_BYTE);
        }
    }

    private static MemorySegment floats(float[] values) {
        var bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        bytes.asFloatBuffer().put(values);
        return MemorySegment.ofArray(bytes.array());
    }

    private void assertOnlyFiles(Path... files) throws IOException {
        try (var found = Files.list(folder)) {
            assertEquals(Arrays.stream(files).sorted().toList(), found.sorted().toList(), "no unfinished file is left");
        }
    }

    private static AdapterException refuses(String part, Runnable action) {
        var e = assertThrows(AdapterException.class, action::run);
        assertTrue(e.getMessage().contains(part), e.getMessage());
        return e;
    }
}
