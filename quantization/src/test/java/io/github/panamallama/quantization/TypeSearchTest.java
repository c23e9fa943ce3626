package io.github.panamallama.quantization;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.quantization.Sparsifier.Method;
import io.github.panamallama.quantization.TypeSearch.Resources;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.Quantizer;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import io.github.panamallama.runtime.search.Divergence;
import io.github.panamallama.runtime.search.Slice;
import io.github.panamallama.runtime.search.Stage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class TypeSearchTest {
    private static final String TEXT = "class A { int a(int b) { return b + 1; } }\n".repeat(300);
    private static final Calibration CALIBRATION = Calibration.of(TEXT).withWindow(64).withWindows(16);
    private static final Path TEXT_FILE = Path.of("text.txt");
    private static final List<GgmlType> TYPES = List.of(GgmlType.S24_T, GgmlType.Q2_K, GgmlType.S24_Q4, GgmlType.Q4_K, GgmlType.Q8_0);

    @TempDir
    Path folder;

    private Resources resources() {
        try {
            return new Resources(1, 1 << 28, 1 << 28, Files.createDirectories(folder.resolve("scratch")), Progress.NONE);
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    private static TypeSearch small(double bits) {
        return TypeSearch.to(bits).withTypes(TYPES).withGenerations(3).withOffspring(4).withInitial(4)
                .withStages(new Stage(2, 64), new Stage(1, 256));
    }

    private static double bitsPerWeight(GgufFile file) {
        return 8.0 * file.tensorBytes() / file.tensors().stream().mapToLong(tensor -> tensor.elementCount()).sum();
    }

    /** On the last two windows of sixteen, which a search holds out. */
    private static double heldOut(Path original, Path variant, Calibration calibration) {
        int window = calibration.window();
        var options = EngineOptions.defaults().withContextSize(256).withMaxSequences(1).withThreads(1);
        var loading = ModelOptions.defaults().withRepack(false);
        Divergence divergence;
        try (var model = Model.load(original, loading); var engine = Engine.open(model, options)) {
            divergence = new Divergence(calibration.cut(model.vocabulary()).subList(14, 16), model.vocabulary().size(), 1 << 28);
            for (int i = 0; i < 2; i++) {
                try (var sequence = engine.newSequence()) {
                    divergence.refer(i, sequence);
                }
            }
        }
        try (var model = Model.load(variant, loading); var engine = Engine.open(model, options)) {
            double sum = 0;
            for (int i = 0; i < 2; i++) {
                try (var sequence = engine.newSequence()) {
                    sum += divergence.sum(sequence, new Slice(i, window));
                }
            }
            return sum / (2 * window);
        }
    }

    /** What was judged is what is written: the same size, and the same divergence to the last bit. */
    @ParameterizedTest
    @EnumSource(Method.class)
    void theModelThatThePlanWritesIsTheOneThatWasJudged(Method method) throws IOException {
        var path = TestModels.random(Architecture.LLAMA, folder);
        var search = small(3.6).withMethod(method);
        var found = search.run(path, TEXT_FILE, CALIBRATION, resources());
        assertEquals(found, search.run(path, TEXT_FILE, CALIBRATION, resources()), "the same seed finds the same");
        var read = folder.resolve("plan.json");
        found.plan().write(read);
        var out = folder.resolve("out.gguf");
        PlannedQuantizer.of(path, TypePlan.read(read)).withThreads(1).run(TEXT, out);

        var written = GgufFile.read(out);
        System.out.printf(Locale.ROOT, "%s: %.3f bits per weight, %s%n", method, bitsPerWeight(written), found.plan().types().values());
        assertEquals(found.plan().found().bitsPerWeight(), bitsPerWeight(written), 1e-9);
        assertTrue(bitsPerWeight(written) <= 3.6 && bitsPerWeight(written) > 3.5, "close below the target: " + bitsPerWeight(written));
        found.plan().types().forEach((name, type) -> assertEquals(type, written.tensor(name).orElseThrow().type(), name));
        assertEquals(found.heldOut(), heldOut(path, out, CALIBRATION));
        assertTrue(Double.isFinite(found.divergence()) && found.heldOut() > 0);
        try (var left = Files.list(folder.resolve("scratch"))) {
            assertEquals(List.of(), left.toList());
        }
    }

    @ParameterizedTest
    @EnumSource(value = Architecture.class, names = {"QWEN3MOE", "PHI3", "GEMMA3", "GPT2"})
    void otherArchitectures(Architecture architecture) {
        var path = TestModels.random(architecture, folder);
        var found = small(6).withMethod(Method.WANDA).withGenerations(1).run(path, TEXT_FILE, CALIBRATION, resources());
        var out = folder.resolve("out.gguf");
        PlannedQuantizer.of(path, found.plan()).withThreads(1).run(TEXT, out);
        assertTrue(bitsPerWeight(GgufFile.read(out)) <= 6);
        assertEquals(found.heldOut(), heldOut(path, out, CALIBRATION));
    }

    /** Of a model that knows Java, on Java: room for some steps above a type is worth more than steps are on average. */
    @Test
    void beatsOneTypeForAllMatricesOfTheShippedModel() throws IOException {
        var calibration = Calibration.of(TestModels.sources("runtime")).withWindow(256).withWindows(32);
        var search = TypeSearch.to(3.2).withGenerations(6).withOffspring(10).withInitial(12)
                .withTypes(List.of(GgmlType.Q2_K, GgmlType.IQ3_XXS, GgmlType.S24_Q4, GgmlType.Q3_K, GgmlType.Q4_K, GgmlType.Q6_K))
                .withStages(new Stage(2, 256), new Stage(1, 1024));
        var found = search.run(TestModels.SHIPPED, TEXT_FILE, calibration, resources());
        var text = Optional.of(TypePlan.Text.of(TEXT_FILE, calibration));
        var plan = TypePlanTest.uniform(TestModels.SHIPPED, GgmlType.IQ3_XXS, text);
        var uniform = folder.resolve("uniform.gguf");
        PlannedQuantizer.of(TestModels.SHIPPED, plan).run(calibration.text(), uniform);
        var mixed = folder.resolve("mixed.gguf");
        PlannedQuantizer.of(TestModels.SHIPPED, found.plan()).run(calibration.text(), mixed);
        double alike = bitsPerWeight(GgufFile.read(uniform));
        double size = bitsPerWeight(GgufFile.read(mixed));
        var unseen = Calibration.of(TestModels.sources("adapters")).withWindow(256).withWindows(16);
        double usual = heldOut(TestModels.SHIPPED, uniform, unseen);
        double better = heldOut(TestModels.SHIPPED, mixed, unseen);
        System.out.printf(Locale.ROOT,
                "iq3_xxs: %.3f bits, divergence %.4f; found: %.3f bits, %.4f (%.4f on its own held-out text)%n", alike, usual,
                size, better, found.heldOut());
        assertTrue(size <= 3.2 && found.notFinite() == 0);
        assertTrue(better < usual, better + ", uniform " + usual);
    }

    /** A search among one sparse type and the matrices as they are. */
    @Test
    void findsWhichMatricesStayAsTheyAre() {
        var path = TestModels.random(Architecture.LLAMA, folder);
        var found = small(20).withTypes(List.of(GgmlType.S24_Q4)).withOwn(true).withEnds(false)
                .run(path, TEXT_FILE, CALIBRATION, resources());
        var types = found.plan().types();
        assertEquals(GgmlType.F32, types.get("output.weight"));
        long sparse = types.values().stream().filter(type -> type == GgmlType.S24_Q4).count();
        assertTrue(sparse > 0 && sparse < 14, types.toString());
        assertTrue(types.values().stream().allMatch(type -> type == GgmlType.S24_Q4 || type == GgmlType.F32), types.toString());
    }

    @Test
    void rowsThatFitNoTypeStayAndTheResultSaysSo() {
        var path = folder.resolve("odd.gguf");
        RandomModel.tiny(Architecture.LLAMA).withWidth(256).withHeads(4, 2, 64).withFeedForward(320).withType(GgmlType.F16).write(path);
        var found = small(7).withTypes(List.of(GgmlType.Q2_K, GgmlType.Q6_K)).withGenerations(1)
                .run(path, TEXT_FILE, CALIBRATION, resources());
        assertEquals("its rows of 320 fit none of the types", found.fixed().get("blk.0.ffn_down.weight"));
        assertEquals(GgmlType.F16, found.plan().types().get("blk.0.ffn_down.weight"));
        assertFalse(found.fixed().containsKey("blk.0.ffn_up.weight"));
    }

    private void assertRefused(String because, TypeSearch search, Path model, Calibration calibration) throws IOException {
        var resources = resources();
        var refused = assertThrows(LlamaException.class, () -> search.run(model, TEXT_FILE, calibration, resources));
        assertTrue(refused.getMessage().contains(because), refused.getMessage());
        try (var left = Files.list(resources.folder())) {
            assertEquals(List.of(), left.toList(), "nothing is left behind");
        }
    }

    @Test
    void badInputIsRefused() throws IOException {
        var path = TestModels.random(Architecture.LLAMA, folder);
        for (double bits : new double[] {0.9, 8.6}) {
            assertRefused("can have 1.7", small(bits), path, CALIBRATION);      // norms stay in f32
            assertRefused(" to 8.5", small(bits), path, CALIBRATION);
        }
        assertRefused("two windows", small(4), path, Calibration.of("short"));
        var quantized = folder.resolve("q8.gguf");
        Quantizer.to(Quantizer.Type.Q8_0).run(path, quantized);
        assertRefused("is of type q8_0 already", small(4), quantized, CALIBRATION);
        for (double bits : new double[] {0, -1, Double.NaN, 64}) {
            assertThrows(IllegalArgumentException.class, () -> TypeSearch.to(bits));
        }
        assertThrows(IllegalArgumentException.class, () -> TypeSearch.to(4).withTypes(List.of()));
        assertThrows(IllegalArgumentException.class, () -> TypeSearch.to(4).withTypes(List.of(GgmlType.I32)));
        assertThrows(IllegalArgumentException.class, () -> TypeSearch.to(4).withStages());
        var tight = new Resources(1, 1 << 28, 64 * 512 * 4, resources().folder(), Progress.NONE);
        var refused = assertThrows(LlamaException.class, () -> small(4).run(path, TEXT_FILE, CALIBRATION, tight));
        assertTrue(refused.getMessage().contains("the logits of two windows"), refused.getMessage());
    }

    @Test
    void anInterruptedSearchLeavesNothingBehind() throws IOException {
        var path = TestModels.random(Architecture.LLAMA, folder);
        var usual = resources();
        for (var when : List.of("blk.1.ffn_up.weight as q4_K", "generation 2 of 3")) {
            var cancel = new IllegalStateException("enough");
            var resources = new Resources(1, usual.gramMemory(), usual.logitMemory(), usual.folder(), (what, done, total) -> {
                if (what.equals(when)) {
                    throw cancel;
                }
            });
            assertEquals(cancel, assertThrows(IllegalStateException.class,
                    () -> small(4).run(path, TEXT_FILE, CALIBRATION, resources)));
            try (var left = Files.list(usual.folder())) {
                assertEquals(List.of(), left.toList());
            }
        }
    }
}
