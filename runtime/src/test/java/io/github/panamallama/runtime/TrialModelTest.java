package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class TrialModelTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(256).withThreads(1);
    private static final List<GgmlType> TYPES = List.of(GgmlType.Q4_K, GgmlType.S24_Q4, GgmlType.Q8_0, GgmlType.S24_T, GgmlType.Q5_1);

    @TempDir
    Path folder;

    private Path random(Architecture architecture) {
        var path = folder.resolve(architecture + ".gguf");
        RandomModel.tiny(architecture).withLayers(2).withWidth(256).withHeads(4, 2, 64).withFeedForward(512).withType(GgmlType.F32)
                .write(path);
        return path;
    }

    /** Bit for bit, whatever was in place of the weights before. */
    @ParameterizedTest
    @EnumSource(value = Architecture.class, names = {"LLAMA", "QWEN3", "GEMMA3", "PHI3", "QWEN3MOE", "GPT2"})
    void computesWhatAFileWithTheseWeightsComputes(Architecture architecture) {
        var path = random(architecture);
        var file = GgufFile.read(path);
        var mixed = folder.resolve("mixed.gguf");
        try (var arena = Arena.ofShared()) {
            var writer = new GgufWriter().putAll(file.metadata());
            int matrices = 0;
            for (var tensor : file.tensors()) {
                var type = matrix(tensor) ? TYPES.get(matrices++ % TYPES.size()) : tensor.type();
                writer.tensor(tensor.name(), type, tensor.shape(), to -> to.write(blocks(file, tensor, type, arena)));
            }
            assertTrue(matrices >= 8, matrices + " matrices");
            writer.write(mixed);
            var written = GgufFile.read(mixed);

            int[] tokens;
            float[] original;
            float[] wanted;
            try (var model = Model.load(path, ModelOptions.defaults().withRepack(false))) {
                tokens = Evaluation.tokens(model, 40, 1);
                original = Evaluation.fresh(model, OPTIONS, tokens);
            }
            try (var model = Model.load(mixed, ModelOptions.defaults().withRepack(false))) {
                wanted = Evaluation.fresh(model, OPTIONS, tokens);
            }
            try (var trial = TrialModel.load(path)) {
                assertArrayEquals(original, Evaluation.fresh(trial.model(), OPTIONS, tokens));
                for (int round = 0; round < 2; round++) {
                    for (var tensor : written.tensors()) {
                        if (matrix(tensor)) {
                            trial.replace(tensor.name(), tensor.type(), written.map(tensor, arena));
                        }
                    }
                    assertArrayEquals(wanted, Evaluation.fresh(trial.model(), OPTIONS, tokens));
                    for (var tensor : file.tensors()) {
                        if (matrix(tensor)) {
                            trial.replace(tensor.name(), tensor.type(), file.map(tensor, arena));
                        }
                    }
                    assertArrayEquals(original, Evaluation.fresh(trial.model(), OPTIONS, tokens));
                }
            }
        }
    }

    private static boolean matrix(GgufTensor tensor) {
        return tensor.shape().size() > 1 && !tensor.name().contains("gate_inp") && !tensor.name().contains("position");
    }

    private static MemorySegment blocks(GgufFile file, GgufTensor tensor, GgmlType type, Arena arena) {
        if (!matrix(tensor)) {
            return file.map(tensor, arena);
        }
        int columns = (int) (long) tensor.shape().getFirst();
        int rows = (int) (tensor.elementCount() / columns);
        var values = file.map(tensor, arena).toArray(ValueLayout.JAVA_FLOAT);
        var blocks = arena.allocate(type.bytes(tensor.elementCount()), 32);
        BlockQuantizer.toBlocks(type, values, rows, columns, null, blocks);
        return blocks;
    }

    @Test
    void whatDoesNotFitIsRefusedAndNothingChanges() {
        var path = random(Architecture.LLAMA);
        try (var arena = Arena.ofShared(); var trial = TrialModel.load(path)) {
            int[] tokens = Evaluation.tokens(trial.model(), 20, 2);
            var before = Evaluation.fresh(trial.model(), OPTIONS, tokens);
            var name = "blk.0.ffn_up.weight";
            var blocks = arena.allocate(GgmlType.Q8_0.bytes(256 * 512), 32);
            assertRefused("has no \"blk.9.ffn_up.weight\"", () -> trial.replace("blk.9.ffn_up.weight", GgmlType.Q8_0, blocks));
            assertRefused("takes " + GgmlType.Q4_0.bytes(256 * 512) + " bytes", () -> trial.replace(name, GgmlType.Q4_0, blocks));
            assertRefused("of the heap", () -> trial.replace(name, GgmlType.Q8_0,
                    MemorySegment.ofArray(new byte[(int) blocks.byteSize()])));
            try (var engine = Engine.open(trial.model(), OPTIONS)) {
                var refused = assertThrows(ModelInUseException.class, () -> trial.replace(name, GgmlType.Q8_0, blocks));
                assertEquals(1, refused.engines());
            }
            assertArrayEquals(before, Evaluation.fresh(trial.model(), OPTIONS, tokens));
        }
        var narrow = folder.resolve("narrow.gguf");
        RandomModel.tiny(Architecture.LLAMA).write(narrow);
        try (var arena = Arena.ofShared(); var trial = TrialModel.load(narrow)) {
            assertRefused("needs a multiple of 256", () -> trial.replace("blk.0.ffn_up.weight", GgmlType.S24_Q4, arena.allocate(104)));
        }
    }

    private static void assertRefused(String because, Runnable replacement) {
        var refused = assertThrows(IllegalArgumentException.class, replacement::run);
        assertTrue(refused.getMessage().contains(because), refused.getMessage());
    }
}
