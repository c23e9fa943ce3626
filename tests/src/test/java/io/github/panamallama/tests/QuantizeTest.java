package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.github.panamallama.runtime.gguf.RandomModel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** {@code panama-llama quantize} writes the file that {@code llama-quantize} writes, byte for byte. */
class QuantizeTest {
    @TempDir
    private Path folder;

    static Stream<Arguments> cases() {
        var cases = new ArrayList<Arguments>();
        for (var type : List.of("Q8_0", "Q4_0", "Q5_1", "Q4_K_M", "Q6_K", "Q2_K", "IQ4_NL", "BF16", "S24_Q4", "S24_Q8", "S24_T")) {
            cases.add(Arguments.of(Models.shippedF16(), type));
        }
        for (var architecture : List.of(RandomModel.Architecture.GEMMA3, RandomModel.Architecture.MAMBA)) {
            cases.add(Arguments.of(Models.random(architecture), "Q8_0"));
        }
        return cases.stream();
    }

    @ParameterizedTest
    @MethodSource("cases")
    void resultEqualsThatOfUpstreamsToolByteForByte(Path model, String type) throws Exception {
        var ours = folder.resolve("ours.gguf");
        var theirs = folder.resolve("theirs.gguf");
        var result = Commands.run("quantize", model.toString(), ours.toString(), type);
        assertEquals(0, result.code(), result.error());
        Project.run(List.of(Project.tools().resolve("llama-quantize").toString(), model.toString(), theirs.toString(), type, "2"), "")
                .succeeded();
        assertEquals(Files.size(theirs), Files.size(ours));
        assertEquals(-1, Files.mismatch(theirs, ours), "offset of the first different byte");
    }

    /** The shipped Q8_0 file is what its F16 source quantises to. */
    @Test
    void shippedModelIsTheQuantisedSource() throws Exception {
        var ours = folder.resolve("ours.gguf");
        var result = Commands.run("quantize", Models.shippedF16().toString(), ours.toString(), "Q8_0");
        assertEquals(0, result.code(), result.error());
        assertEquals(-1, Files.mismatch(Models.shippedQ8(), ours), "offset of the first different byte");
    }
}
