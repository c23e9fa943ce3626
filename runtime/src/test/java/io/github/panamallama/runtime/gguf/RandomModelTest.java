package io.github.panamallama.runtime.gguf;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Dequantizer;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class RandomModelTest {
    @TempDir
    Path folder;

    @ParameterizedTest
    @EnumSource(RandomModel.Architecture.class)
    void isAValidFileOfTheAnnouncedSize(RandomModel.Architecture architecture) throws IOException {
        var model = RandomModel.tiny(architecture);
        var path = folder.resolve("model.gguf");
        model.write(path);
        var file = GgufFile.read(path);
        assertEquals(model.fileSize(), Files.size(path));
        assertEquals(model.parameterCount(), file.tensors().stream().mapToLong(GgufTensor::elementCount).sum());
        assertEquals(architecture.key(), file.metadata().string("general.architecture").orElseThrow());
    }

    @Test
    void theSameSeedGivesTheSameBytesAndAnotherOneOthers() throws IOException {
        var model = RandomModel.tiny(RandomModel.Architecture.LLAMA).withType(GgmlType.Q4_0);
        var a = folder.resolve("a.gguf");
        var b = folder.resolve("b.gguf");
        model.write(a);
        model.write(b);
        assertEquals(-1, Files.mismatch(a, b));
        model.withSeed(2).write(b);
        assertNotEquals(-1, Files.mismatch(a, b));
    }

    @ParameterizedTest
    @ValueSource(ints = {259, 260, 1000, 32000, 151936})
    void piecesAreAllDifferent(int size) {
        var path = folder.resolve("vocabulary.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withWidth(8).withLayers(1).withVocabularySize(size).write(path);
        var tokens = GgufFile.read(path).metadata().strings("tokenizer.ggml.tokens").orElseThrow();
        assertEquals(size, tokens.size());
        assertEquals(size, new HashSet<>(tokens).size());
    }

    @ParameterizedTest
    @EnumSource(value = GgmlType.class, names = {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q2_K", "Q3_K", "Q4_K", "Q6_K", "IQ3_S",
            "TQ2_0", "S24_Q4", "S24_Q8", "S24_T"})
    void weightsHaveTheWantedMeanAndDeviation(GgmlType type) {
        var path = folder.resolve("model.gguf");
        RandomModel.llama(1, 256, 4, 4, 512, 512).withType(type).write(path);
        var file = GgufFile.read(path);
        try (var arena = Arena.ofConfined()) {
            var tensor = file.tensor("blk.0.attn_q.weight").orElseThrow();
            var values = new float[(int) tensor.elementCount()];
            Dequantizer.toFloats(type, file.map(tensor, arena), values, values.length);
            double sum = 0;
            double squares = 0;
            for (float value : values) {
                sum += value;
                squares += (double) value * value;
            }
            assertEquals(0, sum / values.length, 0.002);
            assertEquals(1.0 / 16, Math.sqrt(squares / values.length), 0.001);
        }
    }

    @Test
    void quantsAvoidTheValuesThatHaveNoOpposite() {
        assertEquals(0x8888_8888_8888_8888L, RandomWeights.withoutZeroNibbles(0));
        assertEquals(0x1823_4567_89AB_CDEFL, RandomWeights.withoutZeroNibbles(0x1023_4567_89AB_CDEFL));
        assertEquals(0x0001_1646_1464_1465L, RandomWeights.withoutThrees(0x0003_1646_1464_14E7L));
        assertEquals(0x8181_8181_8181_8181L, RandomWeights.withoutMinimum(0x8080_8080_8080_8080L));
        assertEquals(0x8100_7FFF_0181_4082L, RandomWeights.withoutMinimum(0x8100_7FFF_0180_4082L));
    }

    @Test
    void impossibleShapesAreRefused() {
        var model = RandomModel.tiny(RandomModel.Architecture.LLAMA);
        assertThrows(IllegalArgumentException.class, () -> model.withVocabularySize(258));
        assertThrows(IllegalArgumentException.class, () -> model.withHeads(5, 2, 16));
        assertThrows(IllegalArgumentException.class, () -> model.withLayers(513));
        assertTrue(assertThrows(IllegalArgumentException.class, () -> model.withType(GgmlType.IQ1_S)).getMessage().contains("iq1_s"));
    }
}
