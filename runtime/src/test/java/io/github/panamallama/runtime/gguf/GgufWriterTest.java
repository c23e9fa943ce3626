package io.github.panamallama.runtime.gguf;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class GgufWriterTest {
    private static final Path JAVA_TINY = Path.of("..", "models", "java-tiny-f16.gguf");
    private static final Path VENDORED = Path.of("..", "ggml-src", "upstream", "models");

    @TempDir
    Path folder;

    @Test
    void aCopyOfAModelHasTheSameBytes() throws IOException {
        var copy = folder.resolve("copy.gguf");
        var writer = GgufWriter.copyOf(GgufFile.read(JAVA_TINY));
        writer.write(copy);
        assertEquals(-1, Files.mismatch(JAVA_TINY, copy));
        assertEquals(Files.size(copy), writer.fileSize());
    }

    @Test
    void copiesOfTheVendoredVocabulariesHaveTheSameMetadata() throws IOException {
        assumeTrue(Files.isDirectory(VENDORED), VENDORED + " is missing; ggml-src/vendor brings it");
        try (var files = Files.newDirectoryStream(VENDORED, "*.gguf")) {
            for (var path : files) {
                var copy = folder.resolve("copy.gguf");
                var original = GgufFile.read(path);
                GgufWriter.copyOf(original).write(copy);
                var again = GgufFile.read(copy);
                assertEquals(List.copyOf(original.metadata().keys()), List.copyOf(again.metadata().keys()));
                // everything after the version is the header of the original
                var expected = Files.readAllBytes(path);
                var actual = Files.readAllBytes(copy);
                int length = (int) Math.min(original.dataStart(), again.dataStart());
                assertArrayEquals(Arrays.copyOfRange(expected, 8, length), Arrays.copyOfRange(actual, 8, length), path.toString());
            }
        }
    }

    @Test
    void chosenElementsOfAnArrayKeepTheirTypeAndOrder() {
        var all = folder.resolve("all.gguf");
        var some = folder.resolve("some.gguf");
        new GgufWriter().put("scalar", true).putU32s("u32", new int[] {1, -1, 3}).putI32s("i32", new int[] {1, -1, 3})
                .putF32s("f32", new float[] {0.5f, 1, 2}).putBools("bool", new boolean[] {true, false, true})
                .putStrings("string", List.of("a", "", "ä")).write(all);
        var source = GgufFile.read(all).metadata();
        var writer = new GgufWriter();
        for (var key : List.of("u32", "i32", "f32", "bool", "string")) {
            writer.putElements(key, source, 2, 1);
        }
        writer.write(some);
        var read = GgufFile.read(some).metadata();
        for (var key : read.keys()) {
            assertEquals(source.elementType(key), read.elementType(key), key);
        }
        assertArrayEquals(new long[] {3, 0xFFFF_FFFFL}, read.integers("u32").orElseThrow());
        assertArrayEquals(new long[] {3, -1}, read.integers("i32").orElseThrow());
        assertArrayEquals(new float[] {2, 1}, read.floats("f32").orElseThrow());
        assertArrayEquals(new boolean[] {true, false}, read.booleans("bool").orElseThrow());
        assertEquals(List.of("ä", ""), read.strings("string").orElseThrow());
        assertThrows(IllegalArgumentException.class, () -> writer.putElements("scalar", source, 0));
        assertThrows(IllegalArgumentException.class, () -> writer.putElements("missing", source, 0));
        assertThrows(IndexOutOfBoundsException.class, () -> writer.putElements("u32", source, 3));
        assertThrows(IndexOutOfBoundsException.class, () -> writer.putElements("string", source, -1));
    }

    @ParameterizedTest
    @ValueSource(ints = {8, 32, 64, 4096, 1 << 20})
    void tensorsStartAtTheAlignment(int alignment) {
        var path = folder.resolve("aligned.gguf");
        new GgufWriter().alignment(alignment)
                .tensor("a", GgmlType.F32, List.of(3L), out -> out.write(MemorySegment.ofArray(new float[] {1, 2, 3})))
                .tensor("b", GgmlType.F32, List.of(1L), out -> out.write(MemorySegment.ofArray(new float[] {4})))
                .write(path);
        var file = GgufFile.read(path);
        assertEquals(alignment, file.alignment());
        for (var tensor : file.tensors()) {
            assertEquals(0, file.position(tensor) % alignment);
        }
    }

    @Test
    void wrongAmountsOfDataAreRefusedAndLeaveNothingBehind() throws IOException {
        var path = folder.resolve("wrong.gguf");
        var few = assertThrows(GgufException.class, () -> new GgufWriter()
                .tensor("a", GgmlType.F32, List.of(3L), out -> out.write(MemorySegment.ofArray(new float[2]))).write(path));
        assertTrue(few.getMessage().contains("tensor \"a\" got 8 bytes of data; 12 were declared"), few.getMessage());
        var many = assertThrows(GgufException.class, () -> new GgufWriter()
                .tensor("a", GgmlType.F32, List.of(3L), out -> out.write(MemorySegment.ofArray(new float[4]))).write(path));
        assertTrue(many.getMessage().contains("more than the 12 bytes"), many.getMessage());
        try (var files = Files.list(folder)) {
            assertEquals(0, files.count());
        }
    }

    @Test
    void aFailureToWriteNamesTheFile() {
        var path = folder.resolve("missing").resolve("x.gguf");
        var failure = assertThrows(GgufException.class, () -> new GgufWriter().write(path));
        assertTrue(failure.getMessage().contains(path.toString()), failure.getMessage());
        assertFalse(Files.exists(path));
    }

    @Test
    void whatTheReaderWouldRefuseIsNotWritten() {
        var writer = new GgufWriter();
        GgufWriter.TensorData none = out -> { };
        assertThrows(IllegalArgumentException.class, () -> writer.alignment(24));
        assertThrows(IllegalArgumentException.class, () -> writer.put("", "x"));
        assertThrows(IllegalArgumentException.class, () -> writer.put("general.alignment", "x"));
        assertThrows(IllegalArgumentException.class, () -> writer.putU32("x", -1));
        assertThrows(IllegalArgumentException.class, () -> writer.putU16("x", 65536));
        assertThrows(IllegalArgumentException.class, () -> writer.tensor("x".repeat(64), GgmlType.F32, List.of(1L), none));
        assertThrows(IllegalArgumentException.class, () -> writer.tensor("x", GgmlType.F32, List.of(), none));
        assertThrows(IllegalArgumentException.class, () -> writer.tensor("x", GgmlType.F32, List.of(0L), none));
        assertThrows(IllegalArgumentException.class, () -> writer.tensor("x", GgmlType.Q8_0, List.of(16L), none));
        writer.tensor("x", GgmlType.F32, List.of(1L), none);
        assertThrows(IllegalArgumentException.class, () -> writer.tensor("x", GgmlType.F32, List.of(1L), none));
    }
}
