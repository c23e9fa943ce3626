package io.github.panamallama.quantization;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Quantizer;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ImportanceMatrixTest {
    private static final Calibration CALIBRATION = Calibration.of("int sum = values.length + other.length;\n".repeat(30))
            .withWindow(32).withWindows(4);

    @TempDir
    Path folder;

    @Test
    void whatIsWrittenIsReadAgainAndQuantisesTypesThatNeedIt() {
        var path = TestModels.random(Architecture.LLAMA, folder);
        var weights = List.of("blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.0.attn_output.weight",
                "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight", "blk.1.attn_q.weight", "blk.1.attn_k.weight",
                "blk.1.attn_v.weight", "blk.1.attn_output.weight", "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight", "blk.1.ffn_down.weight");
        ImportanceMatrix matrix;
        Map<String, List<ColumnSquares>> squares;
        var columns = new HashMap<String, Integer>();
        weights.forEach(name -> columns.put(name, name.contains("down") ? 512 : 256));
        try (var model = Model.load(path); var activations = Activations.open(model, columns, CALIBRATION, 1, Progress.NONE)) {
            matrix = ImportanceMatrix.gather(activations, weights, "a text");
            squares = activations.squares(weights);
        }
        var file = folder.resolve("imatrix.gguf");
        matrix.write(file, false);
        assertTrue(assertThrows(LlamaException.class, () -> matrix.write(file, false)).getMessage().contains("exists"));
        matrix.write(file, true);
        var read = ImportanceMatrix.read(file);
        assertEquals(weights.stream().sorted().toList(), read.weights());
        assertEquals(List.of("a text"), read.datasets());
        assertEquals(4, read.chunks());
        assertEquals(32, read.chunkSize());
        for (var name : weights) {
            float[] mean = read.means().get(name);
            assertEquals(columns.get(name), mean.length);
            for (int i = 0; i < mean.length; i++) {
                double wanted = squares.get(name).getFirst().sums()[i] / (4 * 32);
                assertEquals(wanted, mean[i], 1e-5 * wanted);
            }
        }

        var out = folder.resolve("iq1.gguf");
        var without = assertThrows(LlamaException.class, () -> Quantizer.to(Quantizer.Type.IQ2_XXS).run(path, out));
        assertTrue(without.getMessage().contains("importance matrix"), without.getMessage());
        Quantizer.to(Quantizer.Type.IQ2_XXS).withImportance(read.means()).run(path, out);
        assertEquals(GgmlType.IQ2_XXS, GgufFile.read(out).tensor("blk.1.ffn_up.weight").orElseThrow().type());
    }

    @Test
    void expertsHaveOneMatrixEachAndThoseThatNoTokenCameToCountAlike() {
        var file = write("imatrix", new float[] {2, 4, 6, 0, 0, 0}, new float[] {2, 0}, 3);
        assertArrayEquals(new float[] {1, 2, 3, 1, 1, 1}, ImportanceMatrix.read(file).means().get("blk.0.x.weight"));
    }

    private Path write(String kind, float[] sums, float[] counts, long columns) {
        var file = folder.resolve("made.gguf");
        var writer = new GgufWriter().put("general.type", kind).putU32("imatrix.chunk_count", 1).putU32("imatrix.chunk_size", 32);
        writer.tensor("blk.0.x.weight.in_sum2", GgmlType.F32, List.of(columns, sums.length / columns),
                to -> to.write(MemorySegment.ofArray(sums)));
        if (counts != null) {
            writer.tensor("blk.0.x.weight.counts", GgmlType.F32, List.of(1L, (long) counts.length),
                    to -> to.write(MemorySegment.ofArray(counts)));
        }
        writer.write(file);
        return file;
    }

    @Test
    void damagedFilesAreRefused() throws IOException {
        assertRefused("general.type is \"model\"", write("model", new float[4], new float[] {1}, 4));
        assertRefused("blk.0.x.weight.counts is missing", write("imatrix", new float[4], null, 4));
        assertRefused("blk.0.x.weight.in_sum2 value 2 is NaN", write("imatrix", new float[] {1, 2, Float.NaN, 3}, new float[] {1}, 4));
        assertRefused("value 0 is -1.0", write("imatrix", new float[] {1, 2, 3, 4}, new float[] {-1}, 4));
        assertRefused("not divided", write("imatrix", new float[4], new float[] {1, 1, 1}, 4));
        var dat = Files.write(folder.resolve("imatrix.dat"), new byte[] {1, 0, 0, 0, 3, 0, 0, 0, 'b', 'l', 'k'});
        assertThrows(GgufException.class, () -> ImportanceMatrix.read(dat));
    }

    private static void assertRefused(String because, Path file) {
        var refused = assertThrows(LlamaException.class, () -> ImportanceMatrix.read(file));
        assertTrue(refused.getMessage().contains(because), refused.getMessage());
    }
}
