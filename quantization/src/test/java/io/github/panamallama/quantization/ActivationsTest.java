package io.github.panamallama.quantization;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.quantization.Activations.Matrix;
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
import java.util.Set;
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
            var squares = activations.squares(List.of("blk.0.attn_k.weight")).get("blk.0.attn_k.weight").getFirst();
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
            var up = new Matrix("blk.1.ffn_up.weight", 0);
            var gate = new Matrix("blk.1.ffn_gate.weight", 0);
            var grams = activations.grams(List.of(up, gate, new Matrix("blk.1.ffn_down.weight", 0)));
            assertSame(grams.get(up), grams.get(gate));
            var squares = activations.squares(matrices.keySet());
            grams.forEach((matrix, gram) -> assertDiagonal(squares.get(matrix.weight()).getFirst(), gram));
        }
    }

    private static void assertDiagonal(ColumnSquares wanted, GramMatrix gram) {
        assertEquals(wanted.tokens(), gram.squares().tokens());
        for (int i = 0; i < gram.columns; i++) {
            double sum = wanted.sums()[i];
            assertEquals(sum, gram.squares().sums()[i], 1e-5 * sum);
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

    /** What the experts read of gate and up together is what the router before them read, twice: each token goes to two. */
    @Test
    void expertsReadTheTokensThatAreGivenToThem() {
        var path = TestModels.random(Architecture.QWEN3MOE, folder);
        try (var model = Model.load(path); var activations = Activations.open(model, matrices(path), CALIBRATION, 1, Progress.NONE)) {
            var names = List.of("blk.1.ffn_gate_inp.weight", "blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight",
                    "blk.1.ffn_down_exps.weight");
            assertEquals(activations.source(names.get(1)), activations.source(names.get(2)));
            var squares = activations.squares(names);
            assertEquals(List.of(1, 4, 4, 4), names.stream().map(name -> squares.get(name).size()).toList());
            var router = squares.get(names.get(0)).getFirst();
            var up = squares.get(names.get(2));
            assertEquals(2 * router.tokens(), up.stream().mapToLong(ColumnSquares::tokens).sum());
            for (int i = 0; i < router.sums().length; i++) {
                int column = i;
                double sum = up.stream().mapToDouble(own -> own.sums()[column]).sum();
                assertEquals(2 * router.sums()[i], sum, 1e-9 * sum);
            }
            // some of the experts, of one weight
            var asked = List.of(new Matrix(names.get(3), 3), new Matrix(names.get(3), 1));
            var grams = activations.grams(asked);
            assertEquals(Set.copyOf(asked), grams.keySet());
            grams.forEach((matrix, gram) -> assertDiagonal(squares.get(names.get(3)).get(matrix.index()), gram));
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
