package io.github.panamallama.quantization;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.quantization.Sparsifier.Method;
import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.BlockQuantizer;
import io.github.panamallama.runtime.Dequantizer;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.Quantizer;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

class SparsifierTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(256).withThreads(1);
    private static final String TEXT = "public static int sum(int[] values) { return java.util.Arrays.stream(values).sum(); }\n".repeat(40);
    private static final Calibration CALIBRATION = Calibration.of(TEXT).withWindow(128).withWindows(6);

    @TempDir
    Path folder;

    private static Sparsifier sparsifier(Path model, Method method, GgmlType type) {
        return Sparsifier.of(model).withType(type).withThreads(1).withMethod(method, method == Method.MAGNITUDE ? null : CALIBRATION);
    }

    private static float[] values(GgufFile file, GgufTensor tensor) {
        var values = new float[(int) tensor.elementCount()];
        try (var arena = Arena.ofConfined()) {
            Dequantizer.toFloats(tensor.type(), file.map(tensor, arena), values, values.length);
        }
        return values;
    }

    static Stream<Arguments> methodsAndTypes() {
        return Arrays.stream(Method.values()).flatMap(method -> Sparsifier.TYPES.stream().map(type -> Arguments.of(method, type)));
    }

    /** Beyond the rounding of activations: a k-quant of the same model, whose activations are rounded alike, sets the measure. */
    @ParameterizedTest
    @MethodSource("methodsAndTypes")
    void aSparseModelComputesWhatItsDequantisedTwinComputes(Method method, GgmlType type) {
        var path = TestModels.random(Architecture.LLAMA, folder);
        var out = folder.resolve("sparse.gguf");
        var progress = new ArrayList<Integer>();
        var result = sparsifier(path, method, type).withProgress((what, done, total) -> progress.add(done)).run(out);
        assertEquals(14, result.sparse().size());
        assertTrue(result.dense().isEmpty(), result.dense().toString());

        var file = GgufFile.read(out);
        assertEquals(Files.exists(out) ? out.toFile().length() : -1, result.bytes());
        assertEquals(type.id(), file.metadata().integer("general.file_type").orElseThrow());
        assertEquals(method.name().toLowerCase(Locale.ROOT), file.metadata().string(Sparsifier.METHOD).orElseThrow());
        assertEquals(method != Method.MAGNITUDE, file.metadata().contains(Sparsifier.TOKENS));
        assertEquals(file.tensors().size(), progress.getLast());
        for (var tensor : file.tensors()) {
            assertEquals(result.sparse().contains(tensor.name()) ? type : GgmlType.F32, tensor.type(), tensor.name());
            if (tensor.type() == type) {
                var values = values(file, tensor);
                int used = 0;
                for (float value : values) {
                    used += value != 0 ? 1 : 0;
                }
                assertEquals(-1, TwoOfFour.firstFault(values, values.length), tensor.name());
                assertTrue(used > 0.3 * values.length, tensor.name() + ": " + used + " of " + values.length);
            }
        }
        var q4k = folder.resolve("q4_k.gguf");
        Quantizer.to(Quantizer.Type.Q4_K_S).run(path, q4k);
        double usual = distanceToTwin(q4k);
        double distance = distanceToTwin(out);
        System.out.printf("%s %s: %.4f, q4_K %.4f%n", method, type.label(), distance, usual);
        assertTrue(distance <= 3 * usual + 0.005, distance + " of the rms, q4_K " + usual);
    }

    /** Its activations are not those of random weights. */
    @ParameterizedTest
    @EnumSource(value = GgmlType.class, names = {"S24_Q4", "S24_Q8", "S24_T"})
    void theShippedModelMadeSparseComputesWhatItsDequantisedTwinComputes(GgmlType type) {
        var out = folder.resolve("sparse.gguf");
        sparsifier(TestModels.SHIPPED, Method.MAGNITUDE, type).run(out);
        var usual = folder.resolve("q4_0.gguf");
        Quantizer.to(Quantizer.Type.Q4_0).run(TestModels.SHIPPED, usual);
        double distance = distanceToTwin(out);
        double measure = distanceToTwin(usual);
        System.out.printf("shipped, %s: %.4f, q4_0 %.4f%n", type.label(), distance, measure);
        assertTrue(distance <= 3 * measure + 0.005, distance + " of the rms, q4_0 " + measure);
    }

    private double distanceToTwin(Path path) {
        var file = GgufFile.read(path);
        var twin = folder.resolve("twin.gguf");
        var writer = new GgufWriter().putAll(file.metadata());
        for (var tensor : file.tensors()) {
            writer.tensor(tensor.name(), GgmlType.F32, tensor.shape(), to -> to.write(MemorySegment.ofArray(values(file, tensor))));
        }
        writer.write(twin);
        float[] wanted = logits(twin);
        float[] got = logits(path);
        double square = 0;
        double largest = 0;
        for (int i = 0; i < wanted.length; i++) {
            square += wanted[i] * wanted[i];
            largest = Math.max(largest, Math.abs(wanted[i] - got[i]));
        }
        return largest / Math.sqrt(square / wanted.length);
    }

    private static float[] logits(Path path) {
        try (var model = Model.load(path, ModelOptions.defaults().withCheckTensors(true)); var engine = Engine.open(model, OPTIONS);
                var sequence = engine.newSequence()) {
            var row = engine.newRow();
            sequence.append(model.vocabulary().tokenize(TEXT.substring(0, 60), true, false), row);
            return row.toArray();
        }
    }

    /** The quantiser chooses 2 of 4 itself: of rows that have no more, it takes those, whatever else weighs. */
    @ParameterizedTest
    @EnumSource(value = GgmlType.class, names = {"S24_Q4", "S24_Q8"})
    void rowsThatAreSparseAlreadyKeepTheirWeights(GgmlType type) {
        long seed = new SplittableRandom().nextLong();
        System.out.println("seed " + seed);
        var random = new SplittableRandom(seed);
        int rows = 8;
        int columns = 512;
        var weights = new float[rows * columns];
        var sums = new double[columns];
        for (int i = 0; i < weights.length; i++) {
            // some so small that they are rounded to 0
            weights[i] = (float) (random.nextGaussian() * Math.exp(random.nextDouble(-4, 0)));
        }
        for (int i = 0; i < columns; i++) {
            sums[i] = random.nextInt(4) == 0 ? 0 : Math.exp(random.nextDouble(-12, 6));
        }
        var keep = new double[columns];
        Arrays.setAll(keep, i -> random.nextDouble());     // not the largest
        TwoOfFour.prune(weights, rows, columns, keep);
        for (var importance : Arrays.asList(null, new ColumnSquares(sums, 100).importance())) {
            var read = new float[weights.length];
            try (var arena = Arena.ofConfined()) {
                var blocks = arena.allocate(type.bytes(weights.length), 32);
                BlockQuantizer.toBlocks(type, weights, rows, columns, importance, blocks);
                Dequantizer.toFloats(type, blocks, read, read.length);
            }
            for (int scaled = 0; scaled < weights.length; scaled += 64) {
                double step = 0;    // at least that between two values of these 64
                for (int i = scaled; i < scaled + 64; i++) {
                    step = Math.max(step, Math.abs(read[i]) / (type == GgmlType.S24_Q4 ? 4 : 100));
                }
                for (int i = scaled; i < scaled + 64; i++) {
                    assertTrue(weights[i] != 0 || read[i] == 0, "weight " + i + " was 0 and is " + read[i]);
                    assertTrue(Math.abs(weights[i]) <= step || read[i] * weights[i] > 0,
                            "weight " + i + " was " + weights[i] + " and is " + read[i]);
                }
            }
        }
    }

    /** The sparse type of matrices that memory makes SparseGPT gather one by one is the same as of all at once. */
    @Test
    void memoryOfGramMatricesDoesNotChangeTheResult() throws IOException {
        var path = TestModels.random(Architecture.LLAMA, folder);
        var together = folder.resolve("together.gguf");
        var singly = folder.resolve("singly.gguf");
        var passes = new ArrayList<String>();
        sparsifier(path, Method.SPARSEGPT, GgmlType.S24_Q8).run(together);
        sparsifier(path, Method.SPARSEGPT, GgmlType.S24_Q8).withMemory(1).withProgress((what, done, total) -> {
            if (what.startsWith("products") && done == 1) {
                passes.add(what);
            }
        }).run(singly);
        assertTrue(passes.size() >= 8, "passes: " + passes.size());
        assertEquals(-1, Files.mismatch(together, singly));
    }

    /** Of a model that knows Java, on Java. Held-out text is that of another module. */
    @Test
    void errorCompensationLosesLeastOfTheShippedModel() throws IOException {
        var calibration = Calibration.of(TestModels.sources("runtime")).withWindow(256).withWindows(64);
        var heldOut = TestModels.sources("adapters");
        var known = new EnumMap<Method, Double>(Method.class);
        System.out.printf("dense: %.3f calibration, %.3f held out%n", perplexity(TestModels.SHIPPED, calibration.text()),
                perplexity(TestModels.SHIPPED, heldOut));
        for (var method : Method.values()) {
            var out = folder.resolve(method + ".gguf");
            var result = Sparsifier.of(TestModels.SHIPPED).withType(GgmlType.S24_Q8).withMethod(method, calibration).run(out);
            assertEquals(7 * 8, result.sparse().size());
            known.put(method, perplexity(out, calibration.text()));
            double unknown = perplexity(out, heldOut);
            System.out.printf("%s: %.3f calibration, %.3f held out%n", method, known.get(method), unknown);
            assertTrue(Double.isFinite(known.get(method)) && Double.isFinite(unknown));
        }
        assertTrue(known.get(Method.SPARSEGPT) <= known.get(Method.MAGNITUDE), known.toString());
    }

    private static double perplexity(Path path, String text) {
        int window = 256;
        int windows = 24;
        try (var model = Model.load(path); var engine = Engine.open(model, EngineOptions.defaults().withContextSize(window))) {
            int[] tokens = model.vocabulary().tokenize(text, true, false);
            var rows = new Row[window];
            Arrays.setAll(rows, i -> engine.newRow());
            double nats = 0;
            for (int w = 0; w < windows; w++) {
                int[] part = Arrays.copyOfRange(tokens, w * window, (w + 1) * window);
                try (var sequence = engine.newSequence()) {
                    engine.decode(Append.all(sequence, part, rows));
                }
                for (int i = 0; i < window - 1; i++) {
                    nats += RowMath.logSumExp(rows[i]) - rows[i].get(part[i + 1]);
                }
            }
            return Math.exp(nats / (windows * (window - 1)));
        }
    }

    @ParameterizedTest
    @EnumSource(value = Architecture.class, names = {"QWEN3MOE", "PHI3", "GPT2", "GEMMA3", "MAMBA", "JAMBA"})
    void otherArchitecturesLoadAndRun(Architecture architecture) {
        var path = TestModels.random(architecture, folder);
        var out = folder.resolve("sparse.gguf");
        var result = sparsifier(path, Method.MAGNITUDE, GgmlType.S24_Q4).run(out);
        assertFalse(result.sparse().isEmpty());
        for (float logit : logits(out)) {
            assertTrue(Float.isFinite(logit));
        }
    }

    /** Of four experts the router of this model uses two. */
    private Path withIdleExperts() {
        var source = GgufFile.read(TestModels.random(Architecture.QWEN3MOE, folder));
        var writer = new GgufWriter().putAll(source.metadata()).putU32("qwen3moe.expert_used_count", 1);
        for (var tensor : source.tensors()) {
            var values = values(source, tensor);
            if (tensor.name().endsWith("ffn_gate_inp.weight")) {
                int columns = values.length / 4;
                for (int i = 0; i < columns; i++) {
                    values[columns + i] = -values[i];    // one of the two is above 0
                }
                Arrays.fill(values, 2 * columns, 4 * columns, 0);
            }
            writer.tensor(tensor.name(), GgmlType.F32, tensor.shape(), to -> to.write(MemorySegment.ofArray(values)));
        }
        var path = folder.resolve("idle.gguf");
        writer.write(path);
        return path;
    }

    @ParameterizedTest
    @EnumSource(value = Method.class, names = {"WANDA", "SPARSEGPT"})
    void expertsArePrunedByTheirOwnInputsAndIdleOnesByMagnitude(Method method) {
        var path = withIdleExperts();
        var out = folder.resolve("sparse.gguf");
        var result = sparsifier(path, method, GgmlType.S24_Q8).withMemory(3 * GramMatrix.bytes(512)).run(out);
        assertEquals(8 + 6, result.sparse().size());
        assertTrue(result.dense().isEmpty(), result.dense().toString());
        assertEquals(6, result.notes().size());
        assertEquals("2 of its 4 experts were given no token of the text and are pruned by magnitude",
                result.notes().get("blk.1.ffn_down_exps.weight"));
        assertTrue(Float.isFinite(logits(out)[0]));

        var name = "blk.1.ffn_down_exps.weight";
        List<ColumnSquares> squares;
        List<float[]> wanted = new ArrayList<>();
        var file = GgufFile.read(path);
        var all = values(file, file.tensor(name).orElseThrow());
        int size = 256 * 512;
        try (var model = Model.load(path); var activations = Activations.open(model, Map.of(name, 512), CALIBRATION, 1, Progress.NONE)) {
            squares = activations.squares(List.of(name)).get(name);
            for (int expert = 0; expert < 4; expert++) {
                var weights = Arrays.copyOfRange(all, expert * size, (expert + 1) * size);
                boolean idle = squares.get(expert).tokens() == 0;
                assertEquals(expert >= 2, idle);
                if (method == Method.SPARSEGPT && !idle) {
                    var matrix = new Activations.Matrix(name, expert);
                    new SparseGpt(activations.grams(List.of(matrix)).get(matrix)).prune(weights, 256);
                } else {
                    TwoOfFour.prune(weights, 256, 512, idle ? null : squares.get(expert).norms());
                }
                wanted.add(weights);
            }
        }
        var sparse = GgufFile.read(out);
        var got = values(sparse, sparse.tensor(name).orElseThrow());
        for (int i = 0; i < got.length; i++) {
            float own = wanted.get(i / size)[i % size];
            assertEquals(own, got[i], 0.01 * largest(wanted.get(i / size), i % size), "expert " + i / size + " value " + i % size);
        }
        // the test would see it if one expert were pruned by the inputs of the other
        var other = Arrays.copyOfRange(all, 0, size);
        TwoOfFour.prune(other, 256, 512, squares.get(1).norms());
        assertFalse(Arrays.equals(other, wanted.get(0)));
    }

    /** Of the 64 that share a scale. */
    private static float largest(float[] weights, int at) {
        float largest = 0;
        for (int i = at / 64 * 64; i < at / 64 * 64 + 64; i++) {
            largest = Math.max(largest, Math.abs(weights[i]));
        }
        return largest;
    }

    @Test
    void whatIsNamedStaysDenseAndPureTakesTheEndsToo() {
        var path = TestModels.random(Architecture.LLAMA, folder);
        var out = folder.resolve("sparse.gguf");
        var result = sparsifier(path, Method.MAGNITUDE, GgmlType.S24_Q4).withPure(true)
                .withDense(List.of(Pattern.compile("attn_v"), Pattern.compile("^blk\\.0\\."))).run(out);
        var wanted = new HashSet<String>(List.of("token_embd.weight", "output.weight"));
        for (var name : List.of("attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_up", "ffn_down")) {
            wanted.add("blk.1." + name + ".weight");
        }
        assertEquals(wanted, new HashSet<>(result.sparse()));
        assertTrue(Float.isFinite(logits(out)[0]));
    }

    @Test
    void rowsThatAreNoWholeBlocksStayDenseAndTheResultSaysSo() {
        var path = folder.resolve("odd.gguf");
        RandomModel.tiny(Architecture.LLAMA).withLayers(1).withWidth(256).withHeads(4, 2, 64).withFeedForward(320)
                .withType(GgmlType.F16).write(path);
        var out = folder.resolve("sparse.gguf");
        var result = sparsifier(path, Method.MAGNITUDE, GgmlType.S24_Q4).run(out);
        assertEquals("its rows of 320 are no multiple of 256", result.dense().get("blk.0.ffn_down.weight"));
        assertEquals(GgmlType.F16, GgufFile.read(out).tensor("blk.0.ffn_down.weight").orElseThrow().type());
        assertEquals(6, result.sparse().size());

        var tiny = folder.resolve("tiny.gguf");
        RandomModel.tiny(Architecture.LLAMA).write(tiny);
        assertRefused("can be made sparse", sparsifier(tiny, Method.MAGNITUDE, GgmlType.S24_Q4), folder.resolve("none.gguf"));
    }

    private void assertRefused(String because, Sparsifier sparsifier, Path out) {
        boolean there = Files.exists(out);
        var refused = assertThrows(LlamaException.class, () -> sparsifier.run(out));
        assertTrue(refused.getMessage().contains(because), refused.getMessage());
        assertEquals(there, Files.exists(out), "nothing is left behind");
        try (var files = Files.list(folder)) {
            assertTrue(files.noneMatch(file -> file.getFileName().toString().startsWith(".")), "nothing is left behind");
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    @Test
    void badInputIsRefused() throws IOException {
        var path = TestModels.random(Architecture.LLAMA, folder);
        var out = folder.resolve("out.gguf");
        var magnitude = sparsifier(path, Method.MAGNITUDE, GgmlType.S24_Q4);
        assertRefused("matches 'atn_v'", magnitude.withDense(List.of(Pattern.compile("atn_v"))), out);
        assertRefused("two windows", magnitude.withMethod(Method.WANDA, Calibration.of("short")), out);
        assertThrows(IllegalArgumentException.class, () -> magnitude.withMethod(Method.SPARSEGPT, null));
        assertThrows(IllegalArgumentException.class, () -> magnitude.withType(GgmlType.Q4_K));
        assertThrows(GgufException.class, () -> Sparsifier.of(folder.resolve("none.gguf")));
        assertRefused("no such folder", magnitude, folder.resolve("none").resolve("out.gguf"));
        assertRefused("is a directory", magnitude, folder);
        assertRefused("is the input itself", magnitude.withOverwrite(true), path);
        var there = Files.writeString(folder.resolve("there.gguf"), "mine");
        assertRefused("exists", magnitude, there);
        assertEquals("mine", Files.readString(there));
        magnitude.withOverwrite(true).run(there);
        assertTrue(GgufFile.read(there).tensors().size() > 14);

        var quantized = folder.resolve("q8.gguf");
        Quantizer.to(Quantizer.Type.Q8_0).run(path, quantized);
        var again = sparsifier(quantized, Method.MAGNITUDE, GgmlType.S24_Q4);
        assertRefused("is of type q8_0 already", again, out);
        assertEquals(14, again.withRequantize(true).run(out).sparse().size());
    }

    @Test
    void weightsThatAreNotFiniteAreNamed() {
        var path = TestModels.random(Architecture.LLAMA, folder);
        var source = GgufFile.read(path);
        var writer = new GgufWriter().putAll(source.metadata());
        for (var tensor : source.tensors()) {
            var values = values(source, tensor);
            if (tensor.name().equals("blk.1.ffn_up.weight")) {
                values[3 * 256 + 17] = Float.POSITIVE_INFINITY;
            }
            writer.tensor(tensor.name(), GgmlType.F32, tensor.shape(), to -> to.write(MemorySegment.ofArray(values)));
        }
        var broken = folder.resolve("broken.gguf");
        writer.write(broken);
        assertRefused("\"blk.1.ffn_up.weight\" row 3 column 17 is Infinity", sparsifier(broken, Method.MAGNITUDE, GgmlType.S24_T),
                folder.resolve("out.gguf"));
    }

    /** What a full disk looks like to the writer, and a folder without permission. */
    @Test
    void aFailureInTheMiddleLeavesNothingBehind() throws IOException {
        var path = TestModels.random(Architecture.LLAMA, folder);
        var out = Files.createDirectory(folder.resolve("into")).resolve("out.gguf");
        var full = new IllegalStateException("no space left");
        var thrown = assertThrows(IllegalStateException.class, () -> sparsifier(path, Method.MAGNITUDE, GgmlType.S24_Q4)
                .withProgress((what, done, total) -> {
                    if (done == 5) {
                        throw full;
                    }
                }).run(out));
        assertEquals(full, thrown);
        try (var left = Files.list(out.getParent())) {
            assertArrayEquals(new Object[0], left.toArray());
        }
    }
}
