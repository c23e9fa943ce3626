package io.github.panamallama.quantization;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.quantization.Sparsifier.Method;
import io.github.panamallama.quantization.TypePlan.Found;
import io.github.panamallama.quantization.TypePlan.Text;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalLong;
import java.util.function.Function;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Files of plans, and plans that don't fit a model. */
class TypePlanTest {
    private static final Found BY_HAND = new Found("by hand", 4.5, OptionalLong.empty(), OptionalDouble.empty());

    @TempDir
    Path folder;
    private Path file;
    private Path model;

    @BeforeEach
    void make() {
        file = folder.resolve("plan.json");
        model = TestModels.random(Architecture.LLAMA, folder);
    }

    /** All matrices in one type. */
    static TypePlan uniform(Path model, GgmlType type, Optional<Text> text) {
        return plan(model, tensor -> type, text);
    }

    private static TypePlan plan(Path model, Function<GgufTensor, GgmlType> types, Optional<Text> text) {
        var source = GgufFile.read(model);
        var all = new LinkedHashMap<String, GgmlType>();
        source.tensors().stream().filter(tensor -> tensor.shape().size() > 1)
                .forEach(tensor -> all.put(tensor.name(), types.apply(tensor)));
        return new TypePlan(GgufFile.fingerprint(List.of(source)), "random", Method.SPARSEGPT, text, BY_HAND, all);
    }

    @Test
    void isReadAsItWasWritten() {
        var calibration = Calibration.of("int i = 0;").withWindow(64);
        var searched = new Found("TypeSearch", 0.1 + 0.2, OptionalLong.of(-7), OptionalDouble.of(1e-9));
        for (var text : List.of(Optional.<Text>empty(), Optional.of(Text.of(Path.of("a.txt"), calibration)),
                Optional.of(Text.of(Path.of("a.txt"), calibration.withWindows(9))))) {
            for (var found : List.of(BY_HAND, searched)) {
                var types = Map.of("blk.0.ffn_up.weight", GgmlType.S24_Q4, "output.weight", GgmlType.Q6_K);
                var written = new TypePlan("ab", "a model", Method.WANDA, text, found, types);
                written.write(file);
                assertEquals(written, TypePlan.read(file));
            }
        }
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '`', textBlock = """
            "format" : 1                     | "format" : 2                    | is of format 2; this version reads format 1
            "format" : 1                     | "format" : "1"                  | "format" must be an integer, it is "1"
            "model" :                        | "modell" :                      | "model" must be a string, it is null
            "method" : "sparsegpt"           | "method" : "luck"               | there are magnitude, wanda, sparsegpt
            "window" : 64                    | "window" : 0                    | "window" is 0; it must be at least 1
            "window" : 64                    | "window" : 15                   | at least one, of at least 16 tokens
            "bits_per_weight" : 4.5          | "bits_per_weight" : "4.5"       | "bits_per_weight" must be a number
            "types" : {                      | "types" : 3, "x" : {            | "types" must be an object, it is 3
            "output.weight" : "q4_K"         | "output.weight" : "q4_X"        | "output.weight" has the type q4_X, which there is not
            "output.weight" : "q4_K"         | "output.weight" : 12            | "output.weight" must be a string, it is 12
            "output.weight" : "q4_K"         | "token_embd.weight" : "q4_K"    | broken JSON
            "rounding" : {                   | "rounding" : [{                 | broken JSON
            """)
    void whatIsNoPlanIsRefused(String part, String instead, String because) throws IOException {
        uniform(model, GgmlType.Q4_K, Optional.of(Text.of(file, Calibration.of("text").withWindow(64)))).write(file);
        var text = Files.readString(file);
        assertTrue(text.contains(part), part + " in " + text);
        Files.writeString(file, text.replace(part, instead));
        var refused = assertThrows(LlamaException.class, () -> TypePlan.read(file));
        assertTrue(refused.getMessage().startsWith(file.toString()) && refused.getMessage().contains(because), refused.getMessage());
    }

    @Test
    void filesThatAreNoJsonOrNotThereAreRefused() throws IOException {
        assertTrue(assertThrows(LlamaException.class, () -> TypePlan.read(file)).getMessage().contains("can't be read"));
        for (var text : List.of("", "[]", "{", "{} {}")) {
            Files.writeString(file, text);
            assertThrows(LlamaException.class, () -> TypePlan.read(file));
        }
    }

    private void assertRefused(TypePlan plan, String because) {
        var refused = assertThrows(LlamaException.class, () -> PlannedQuantizer.of(model, plan));
        assertTrue(refused.getMessage().contains(because), refused.getMessage());
    }

    private static TypePlan with(TypePlan plan, String name, GgmlType type) {
        var types = new LinkedHashMap<>(plan.types());
        if (type == null) {
            types.remove(name);
        } else {
            types.put(name, type);
        }
        return new TypePlan(plan.model(), plan.description(), plan.method(), plan.text(), plan.found(), types);
    }

    @Test
    void plansThatDoNotFitAreRefused() {
        var plan = uniform(model, GgmlType.Q4_K, Optional.empty());
        var other = TestModels.random(Architecture.QWEN3, folder);
        var wrong = assertThrows(LlamaException.class, () -> PlannedQuantizer.of(other, plan));
        assertTrue(wrong.getMessage().contains("is for random with fingerprint " + plan.model()), wrong.getMessage());

        assertRefused(with(plan, "blk.9.ffn_up.weight", GgmlType.Q4_K), "\"blk.9.ffn_up.weight\"; " + model + " has no such tensor");
        assertRefused(with(plan, "blk.1.ffn_up.weight", null), "has no type for \"blk.1.ffn_up.weight\"");
        assertRefused(with(plan, "token_embd.weight", null), "has no type for \"token_embd.weight\"");
        assertRefused(with(plan, "blk.0.attn_norm.weight", GgmlType.Q8_0), "which is no matrix that can be quantised");
        assertRefused(with(plan, "blk.0.ffn_up.weight", GgmlType.IQ2_XS), "names no text");
        assertRefused(with(plan, "blk.0.ffn_up.weight", GgmlType.I32), "which nothing can be quantised to");

        model = folder.resolve("odd.gguf");
        RandomModel.tiny(Architecture.LLAMA).withWidth(256).withHeads(4, 2, 64).withFeedForward(320).withType(GgmlType.F16).write(model);
        assertRefused(uniform(model, GgmlType.S24_Q4, Optional.empty()),
                "\"blk.0.ffn_down.weight\", whose rows of 320 are no multiple of 256");
    }

    @Test
    void onlyTheTextOfThePlanWillDo() {
        var out = folder.resolve("out.gguf");
        var calibration = Calibration.of("int a = 1;\n".repeat(200)).withWindow(32).withWindows(4);
        var quantizer = PlannedQuantizer.of(model, uniform(model, GgmlType.S24_Q4, Optional.of(Text.of(file, calibration))));
        var none = assertThrows(LlamaException.class, () -> quantizer.run(null, out));
        assertTrue(none.getMessage().contains("by what they are multiplied by on " + file), none.getMessage());
        var other = assertThrows(LlamaException.class, () -> quantizer.run("int b = 1;\n".repeat(200), out));
        assertTrue(other.getMessage().contains("another text"), other.getMessage());
        assertTrue(Files.notExists(out));
        assertTrue(quantizer.run(calibration.text(), out) > 0);
        assertEquals(GgmlType.S24_Q4, GgufFile.read(out).tensor("token_embd.weight").orElseThrow().type());
    }

    /** Without a text a plan with one sparse type prunes as {@link Sparsifier} does. */
    @Test
    void aUniformSparsePlanWritesWhatTheSparsifierWrites() throws IOException {
        var planned = folder.resolve("planned.gguf");
        var sparsified = folder.resolve("sparsified.gguf");
        var source = GgufFile.read(model);
        var plan = plan(model, tensor -> tensor.name().startsWith("blk.") ? GgmlType.S24_Q8 : tensor.type(), Optional.empty());
        PlannedQuantizer.of(model, plan).run(null, planned);
        Sparsifier.of(model).withType(GgmlType.S24_Q8).run(sparsified);
        var left = GgufFile.read(planned);
        var right = GgufFile.read(sparsified);
        for (var tensor : source.tensors()) {
            var one = left.tensor(tensor.name()).orElseThrow();
            var two = right.tensor(tensor.name()).orElseThrow();
            assertEquals(two.type(), one.type(), tensor.name());
            try (var arena = Arena.ofConfined()) {
                assertEquals(-1, left.map(one, arena).mismatch(right.map(two, arena)), tensor.name());
            }
        }
        for (var written : List.of(left, right)) {
            assertEquals(GgmlType.S24_VERSION, written.metadata().integer(GgmlType.S24_VERSION_KEY).orElseThrow());
        }
        assertEquals(GgmlType.S24_Q8.id(), left.metadata().integer("general.file_type").orElseThrow());
    }
}
