package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Quantizer.Type;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class QuantizerTest {
    private static final Path F16 = Path.of("..", "models", "java-tiny-f16.gguf");

    @TempDir
    Path folder;

    @Test
    void writesTheSameTensorsInAnotherType() {
        var out = folder.resolve("q8.gguf");
        Quantizer.to(Type.Q8_0).withThreads(2).run(F16, out);
        var before = GgufFile.read(F16);
        var after = GgufFile.read(out);
        assertEquals(before.tensors().size(), after.tensors().size());
        for (var tensor : before.tensors()) {
            var written = after.tensor(tensor.name()).orElseThrow();
            assertEquals(tensor.shape(), written.shape());
            assertEquals(tensor.type() == GgmlType.F32 ? GgmlType.F32 : GgmlType.Q8_0, written.type(), tensor.name());
        }
        assertTrue(after.fileSize() < before.fileSize() * 0.6, after.fileSize() + " of " + before.fileSize());
    }

    @Test
    void anExistingFileStaysUnlessOverwritingIsAskedFor() throws IOException {
        var out = Files.writeString(folder.resolve("there.gguf"), "mine");
        var refused = assertThrows(LlamaException.class, () -> Quantizer.to(Type.Q4_0).run(F16, out));
        assertTrue(refused.getMessage().contains(out + " exists"), refused.getMessage());
        assertEquals("mine", Files.readString(out));

        Quantizer.to(Type.Q4_0).withOverwrite(true).run(F16, out);
        assertEquals("GGUF", new String(Files.readAllBytes(out), 0, 4, java.nio.charset.StandardCharsets.US_ASCII));
    }

    @Test
    void theInputIsNeverTheOutput() throws IOException {
        var copy = Files.copy(F16, folder.resolve("copy.gguf"));
        var link = Files.createSymbolicLink(folder.resolve("link.gguf"), copy);
        for (var out : List.of(copy, link)) {
            var refused = assertThrows(LlamaException.class, () -> Quantizer.to(Type.Q4_0).withOverwrite(true).run(copy, out));
            assertTrue(refused.getMessage().contains("is the input itself"), refused.getMessage());
        }
        assertArrayEquals(Files.readAllBytes(F16), Files.readAllBytes(copy));
    }

    @Test
    void whatIsQuantizedAlreadyIsRefusedAndNothingIsLeftBehind() throws IOException {
        var q4 = folder.resolve("q4.gguf");
        Quantizer.to(Type.Q4_0).run(F16, q4);
        var refused = assertThrows(LlamaException.class, () -> Quantizer.to(Type.Q8_0).run(q4, folder.resolve("q8.gguf")));
        assertTrue(refused.getMessage().contains("requantiz"), refused.getMessage());
        try (var files = Files.list(folder)) {
            assertEquals(List.of(q4), files.toList());
        }
        Quantizer.to(Type.Q8_0).withRequantize(true).run(q4, folder.resolve("q8.gguf"));
        assertTrue(Files.exists(folder.resolve("q8.gguf")));
    }

    @Test
    void typesThatNeedAnImportanceMatrixAreRefusedWithAReason() throws IOException {
        var out = folder.resolve("iq1.gguf");
        var refused = assertThrows(LlamaException.class, () -> Quantizer.to(Type.IQ1_S).run(F16, out));
        assertTrue(refused.getMessage().contains("importance matrix"), refused.getMessage());
        assertFalse(Files.exists(out));
    }

    @Test
    void damagedAndMissingInputsAreRefusedBeforeNativeCodeSeesThem() throws IOException {
        var cut = folder.resolve("cut.gguf");
        var bytes = Files.readAllBytes(F16);
        Files.write(cut, java.util.Arrays.copyOf(bytes, bytes.length / 2));
        for (var in : List.of(cut, folder.resolve("none.gguf"), folder)) {
            var refused = assertThrows(LlamaException.class, () -> Quantizer.to(Type.Q8_0).run(in, folder.resolve("out.gguf")));
            assertTrue(refused.getMessage().contains(in.toString()), refused.getMessage());
        }
        assertFalse(Files.exists(folder.resolve("out.gguf")));
    }

    @Test
    void aMissingFolderIsNamed() {
        var out = folder.resolve("no/such/out.gguf");
        var refused = assertThrows(LlamaException.class, () -> Quantizer.to(Type.Q8_0).run(F16, out));
        assertTrue(refused.getMessage().contains(out.getParent().toString()), refused.getMessage());
    }

    @Test
    void namesAreKnownInAnyCaseAndShortKNamesMeanTheMediumMix() {
        assertEquals(Type.Q4_K_M, Type.byName("q4_k").orElseThrow());
        assertEquals(Type.Q5_K_M, Type.byName("Q5_K").orElseThrow());
        assertEquals(Type.Q2_K, Type.byName("q2_k").orElseThrow());
        assertEquals(Type.Q6_K, Type.byName("Q6_K").orElseThrow());
        assertTrue(Type.byName("Q7_K").isEmpty());
    }
}
