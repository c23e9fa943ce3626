package io.github.panamallama.quantization;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Dequantizer;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ActivationsTest {
    private static final String TEXT = "public static int sum(int[] values) { return java.util.Arrays.stream(values).sum(); }\n".repeat(20);
    private static final Calibration CALIBRATION = Calibration.of(TEXT).withWindow(48).withWindows(3);

    @TempDir
    Path folder;

    private static Map<String, Integer> matrices(Path model) {
        var columns = new LinkedHashMap<String, Integer>();
        for (var tensor : GgufFile.read(model).tensors()) {
            if (tensor.name().startsWith("blk.") && tensor.shape().size() > 1) {
                columns.put(tensor.name(), Math.toIntExact(tensor.shape().getFirst()));
            }
        }
        return columns;
    }

    private static float[] values(GgufFile file, String name) {
        var tensor = file.tensor(name).orElseThrow();
        var values = new float[(int) tensor.elementCount()];
        try (var arena = Arena.ofConfined()) {
            Dequantizer.toFloats(tensor.type(), file.map(tensor, arena), values, values.length);
        }
        return values;
    }

    /** The input of the first block's attention can be computed by hand: normalised embeddings. */
    @Test
    void squaresAreThoseOfTheNormalisedEmbeddings() {
        var path = TestModels.random(Architecture.LLAMA, folder);
        var file = GgufFile.read(path);
        var embedding = values(file, "token_embd.weight");
        var norm = values(file, "blk.0.attn_norm.weight");
        double epsilon = file.metadata().number("llama.attention.layer_norm_rms_epsilon").orElseThrow();
        try (var model = Model.load(path); var activations = Activations.open(model, matrices(path), CALIBRATION, 1, Progress.NONE)) {
            var wanted = new double[norm.length];
            var windows = CALIBRATION.cut(model.vocabulary());
            assertEquals(3, windows.size());
            for (int[] window : windows) {
                assertEquals(48, window.length);
                for (int token : window) {
                    double square = 0;
                    for (int i = 0; i < norm.length; i++) {
                        square += Math.pow(embedding[token * norm.length + i], 2) / norm.length;
                    }
                    for (int i = 0; i < norm.length; i++) {
                        wanted[i] += Math.pow(embedding[token * norm.length + i] * norm[i], 2) / (square + epsilon);
                    }
                }
            }
            var squares = activations.squares(List.of("blk.0.attn_k.weight")).get("blk.0.attn_k.weight");
            assertEquals(3 * 48, squares.tokens());
            for (int i = 0; i < norm.length; i++) {
                assertEquals(wanted[i], squares.sums()[i], 1e-4 * wanted[i], "column " + i);
            }
        }
    }

    @Test
    void sevenProductsOfABlockReadFourInputs() {
        var path = TestModels.random(Architecture.LLAMA, folder);
        var matrices = matrices(path);
        assertEquals(14, matrices.size());
        try (var model = Model.load(path); var activations = Activations.open(model, matrices, CALIBRATION, 1, Progress.NONE)) {
            assertEquals(8, matrices.keySet().stream().map(activations::source).distinct().count());
            for (int block = 0; block < 2; block++) {
                var name = "blk." + block + ".";
                assertEquals(activations.source(name + "attn_q.weight"), activations.source(name + "attn_v.weight"));
                assertEquals(activations.source(name + "ffn_up.weight"), activations.source(name + "ffn_gate.weight"));
                assertNotEquals(activations.source(name + "attn_q.weight"), activations.source(name + "ffn_up.weight"));
            }
            var grams = activations.grams(List.of("blk.1.ffn_up.weight", "blk.1.ffn_gate.weight", "blk.1.ffn_down.weight"));
            assertSame(grams.get("blk.1.ffn_up.weight"), grams.get("blk.1.ffn_gate.weight"));
            var squares = activations.squares(matrices.keySet());
            for (var name : grams.keySet()) {
                for (int i = 0; i < grams.get(name).columns; i++) {
                    double sum = squares.get(name).sums()[i];
                    assertEquals(sum, grams.get(name).squares().sums()[i], 1e-6 * sum, name);
                }
            }
        }
    }

    /** Attention and feed-forward part of command-r stand beside each other behind one norm. */
    @Test
    void equalInputsAreFoundWhateverTheArchitecture() {
        var path = TestModels.random(Architecture.COMMAND_R, folder);
        try (var model = Model.load(path); var activations = Activations.open(model, matrices(path), CALIBRATION, 1, Progress.NONE)) {
            assertEquals(activations.source("blk.1.attn_q.weight"), activations.source("blk.1.ffn_up.weight"));
        }
    }

    @Test
    void expertsAreNotReadAndTheOthersAre() {
        var path = TestModels.random(Architecture.QWEN3MOE, folder);
        try (var model = Model.load(path); var activations = Activations.open(model, matrices(path), CALIBRATION, 1, Progress.NONE)) {
            assertTrue(activations.readable("blk.0.attn_output.weight"));
            assertFalse(activations.readable("blk.0.ffn_up_exps.weight"));
        }
    }

    @Test
    void shortTextsAndModelsThatCannotBeReadAreRefused() throws IOException {
        var path = TestModels.random(Architecture.LLAMA, folder);
        try (var model = Model.load(path)) {
            var refused = assertThrows(LlamaException.class,
                    () -> Activations.open(model, matrices(path), Calibration.of("int x = 1;"), 1, Progress.NONE));
            assertTrue(refused.getMessage().contains("at least 1024"), refused.getMessage());
        }
        var recurrent = TestModels.random(Architecture.MAMBA, folder);
        try (var model = Model.load(recurrent)) {
            var refused = assertThrows(LlamaException.class,
                    () -> Activations.open(model, matrices(recurrent), CALIBRATION, 1, Progress.NONE));
            assertTrue(refused.getMessage().contains("no input of a weight can be read"), refused.getMessage());
        }
        assertThrows(IllegalArgumentException.class, () -> Calibration.of(TEXT).withWindow(8));
        assertThrows(IllegalArgumentException.class, () -> Calibration.of(TEXT).withWindows(0));
    }
}
