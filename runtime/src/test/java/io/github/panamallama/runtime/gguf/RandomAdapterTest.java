package io.github.panamallama.runtime.gguf;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class RandomAdapterTest {
    @TempDir
    Path folder;

    private GgufFile base(RandomModel.Architecture architecture) {
        var path = folder.resolve("base.gguf");
        RandomModel.tiny(architecture).write(path);
        return GgufFile.read(path);
    }

    @ParameterizedTest
    @EnumSource(RandomModel.Architecture.class)
    void fitsItsModel(RandomModel.Architecture architecture) {
        var base = base(architecture);
        var file = AdapterFile.read(new RandomAdapter(4, 1, GgmlType.F16, 1).write(base, folder.resolve("house-style.gguf")));
        file.check(List.of(base));
        assertEquals("house-style", file.name());
        assertTrue(file.targets().stream().allMatch(target -> target.rank() == 4 && target.a().type() == GgmlType.F16));
    }

    @Test
    void theSameSeedGivesTheSameBytesAndAnotherOneOthers() throws IOException {
        var base = base(RandomModel.Architecture.LLAMA);
        var one = Files.readAllBytes(RandomAdapter.of(1).write(base, folder.resolve("one.gguf")));
        assertEquals(-1, Arrays.mismatch(one, Files.readAllBytes(RandomAdapter.of(1).write(base, folder.resolve("one.gguf")))));
        assertNotEquals(-1, Arrays.mismatch(one, Files.readAllBytes(RandomAdapter.of(2).write(base, folder.resolve("one.gguf")))));
    }

    @Test
    void impossibleValuesAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> new RandomAdapter(0, 1, GgmlType.F32, 1));
        assertThrows(IllegalArgumentException.class, () -> new RandomAdapter(1, Double.NaN, GgmlType.F32, 1));
        assertThrows(IllegalArgumentException.class, () -> new RandomAdapter(1, 0, GgmlType.F32, 1));
        assertThrows(IllegalArgumentException.class, () -> new RandomAdapter(1, 1, GgmlType.Q8_0, 1));
    }
}
