package io.github.panamallama.runtime.gguf;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class GgufFileTest {
    private static final Path VENDORED = Path.of("..", "ggml-src", "upstream", "models");

    @TempDir
    Path folder;

    @Test
    void valuesOfEveryTypeAreReadAsWritten() throws IOException {
        var path = folder.resolve("all.gguf");
        GgufBytes.header(0, 14)
                .key("u8", GgufValueType.UINT8).u8(200)
                .key("i8", GgufValueType.INT8).u8(-3)
                .key("u32", GgufValueType.UINT32).u32(-1)
                .key("i32", GgufValueType.INT32).u32(-7)
                .key("f32", GgufValueType.FLOAT32).u32(Float.floatToRawIntBits(1.5f))
                .key("yes", GgufValueType.BOOL).u8(1)
                .key("text", GgufValueType.STRING).string("Grüße")
                .key("u64", GgufValueType.UINT64).u64(-1)
                .key("i64", GgufValueType.INT64).u64(Long.MIN_VALUE)
                .key("f64", GgufValueType.FLOAT64).u64(Double.doubleToRawLongBits(-2.25))
                .key("strings", GgufValueType.ARRAY).u32(8).u64(3).string("a").string("").string(new byte[] {(byte) 0xE2})
                .key("bytes", GgufValueType.ARRAY).u32(0).u64(2).u8(255).u8(1)
                .key("ints", GgufValueType.ARRAY).u32(5).u64(2).u32(-5).u32(9)
                .key("none", GgufValueType.ARRAY).u32(6).u64(0)
                .write(path);
        var metadata = GgufFile.read(path).metadata();

        assertEquals(200, metadata.integer("u8").getAsLong());
        assertEquals(-3, metadata.integer("i8").getAsLong());
        assertEquals(0xFFFF_FFFFL, metadata.integer("u32").getAsLong());
        assertEquals(-7, metadata.integer("i32").getAsLong());
        assertEquals(1.5, metadata.number("f32").getAsDouble());
        assertEquals(-7, metadata.number("i32").getAsDouble());
        assertEquals(Optional.of(true), metadata.bool("yes"));
        assertEquals(Optional.of("Grüße"), metadata.string("text"));
        assertEquals("18446744073709551615", metadata.text("u64").orElseThrow());
        assertEquals(Long.MIN_VALUE, metadata.integer("i64").getAsLong());
        assertEquals(-2.25, metadata.number("f64").getAsDouble());
        assertEquals(List.of("a", "", "\uFFFD"), metadata.strings("strings").orElseThrow());
        assertArrayEquals(new byte[] {(byte) 0xE2}, metadata.stringBytes("strings", 2).orElseThrow());
        assertArrayEquals(new long[] {255, 1}, metadata.integers("bytes").orElseThrow());
        assertArrayEquals(new long[] {-5, 9}, metadata.integers("ints").orElseThrow());
        assertArrayEquals(new float[0], metadata.floats("none").orElseThrow());
        assertEquals(Optional.of(GgufValueType.FLOAT32), metadata.elementType("none"));
        assertEquals(List.of("u8", "i8", "u32", "i32", "f32", "yes", "text", "u64", "i64", "f64", "strings", "bytes", "ints", "none"),
                List.copyOf(metadata.keys()));
        assertTrue(metadata.string("absent").isEmpty());
        assertThrows(GgufException.class, () -> metadata.integer("u64"), "does not fit a long");
        var failure = assertThrows(GgufException.class, () -> metadata.string("u8"));
        assertTrue(failure.getMessage().contains("u8 is of type u8; a string is needed"), failure.getMessage());
    }

    @Test
    void arraysHandedOutAreCopies() throws IOException {
        var metadata = GgufFile.read(GgufBytes.header(0, 1)
                .key("ints", GgufValueType.ARRAY).u32(5).u64(1).u32(4).write(folder.resolve("a.gguf"))).metadata();
        ((int[]) metadata.get("ints").orElseThrow())[0] = 99;
        assertArrayEquals(new long[] {4}, metadata.integers("ints").orElseThrow());
    }

    @Test
    void tensorsAreListedInOrderAndTheirDataCanBeMapped() {
        var path = small("small.gguf");
        var file = GgufFile.read(path);
        assertEquals(List.of("first", "second"), file.tensors().stream().map(GgufTensor::name).toList());
        var second = file.tensor("second").orElseThrow();
        assertEquals(List.of(32L, 2L), second.shape());
        assertEquals(64, second.elementCount());
        assertEquals(68, second.byteSize());
        assertEquals(0, file.position(second) % 32);
        try (var arena = Arena.ofConfined()) {
            assertEquals(2f, file.map(file.tensors().getFirst(), arena).get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4));
        }
        assertThrows(IllegalArgumentException.class, () -> {
            try (var arena = Arena.ofConfined()) {
                GgufFile.read(path).map(second, arena);
            }
        }, "a tensor of another reading");
    }

    @Test
    void aFileCutAnywhereIsRefused() throws IOException {
        var whole = Files.readAllBytes(small("whole.gguf"));
        var file = folder.resolve("cut.gguf");
        // the last tensor's data ends before the final padding
        int needed = whole.length - 28;
        for (int length = 0; length < needed; length++) {
            Files.write(file, Arrays.copyOf(whole, length));
            var failure = assertThrows(GgufException.class, () -> GgufFile.read(file), "cut at " + length);
            assertTrue(failure.getMessage().startsWith(file.toString()), failure.getMessage());
        }
        Files.write(file, Arrays.copyOf(whole, needed));
        assertEquals(2, GgufFile.read(file).tensors().size());
    }

    @Test
    void flippedBytesAreReadOrRefusedButNeverBreakTheReader() throws IOException {
        var whole = Files.readAllBytes(small("whole.gguf"));
        var file = folder.resolve("flipped.gguf");
        long seed = System.nanoTime();
        var random = new Random(seed);
        for (int i = 0; i < 4000; i++) {
            var broken = whole.clone();
            for (int n = 1 + random.nextInt(3); n > 0; n--) {
                broken[random.nextInt(broken.length)] = (byte) (random.nextBoolean() ? random.nextInt() : random.nextBoolean() ? 0xFF
                        : 0x80);
            }
            Files.write(file, broken);
            try {
                var read = GgufFile.read(file);
                for (var tensor : read.tensors()) {
                    assertTrue(read.position(tensor) + tensor.byteSize() <= broken.length, "seed " + seed + ", try " + i);
                }
            } catch (GgufException expected) {
                assertFalse(expected.getMessage().isBlank());
            } catch (RuntimeException e) {
                throw new AssertionError("seed " + seed + ", try " + i, e);
            }
        }
    }

    record Corruption(String name, GgufBytes bytes, String message) {
        @Override
        public String toString() {
            return name;
        }
    }

    static Stream<Corruption> corruptions() {
        int f32 = GgmlType.F32.id();
        int q4 = GgmlType.Q4_0.id();
        var huge = 0x4000_0000_0000_0001L;
        return Stream.of(
                new Corruption("an empty file", new GgufBytes(), "the file is empty"),
                new Corruption("a short file", new GgufBytes().u32(0x4655_4747), "a GGUF header has 24"),
                new Corruption("another magic", new GgufBytes().u32(0x0403_4B50).zeros(60), "magic is \"PK\\x03\\x04\""),
                new Corruption("a big-endian file", new GgufBytes().u32(0x4655_4747).u32(0x0300_0000).zeros(40),
                        "version 3 is stored big-endian"),
                new Corruption("version 0", new GgufBytes().u32(0x4655_4747).u32(0).zeros(40), "version 0 is not supported"),
                new Corruption("version 1", new GgufBytes().u32(0x4655_4747).u32(1).zeros(40), "version 1 is not supported"),
                new Corruption("version 4", new GgufBytes().u32(0x4655_4747).u32(4).zeros(40), "version 4 is not supported"),
                // CVE-2024-23605 and its siblings 21802, 21825, 21836 and 23496: counts and lengths that overflow an allocation
                new Corruption("too many pairs", GgufBytes.header(0, 0x0FFF_FFFF_FFFF_FFFFL).zeros(64),
                        "metadata count is 1152921504606846975"),
                new Corruption("negative pairs", GgufBytes.header(0, -1).zeros(64), "metadata count is 18446744073709551615"),
                new Corruption("too many tensors", GgufBytes.header(1L << 60, 0).zeros(64), "tensor count is 1152921504606846976"),
                new Corruption("an empty key", GgufBytes.header(0, 1).string("").u32(4).u32(1).zeros(8), "key 0 has a length of 0"),
                new Corruption("an endless key", GgufBytes.header(0, 1).u64(-1).zeros(64), "key 0 has a length of 18446744073709551615"),
                new Corruption("a long key", GgufBytes.header(0, 1).u64(65536).zeros(65000), "key 0 has a length of 65536"),
                new Corruption("a key that isn't UTF-8", GgufBytes.header(0, 1).string(new byte[] {(byte) 0xFF}).u32(4).u32(1).zeros(8),
                        "not valid UTF-8"),
                new Corruption("a key with a zero", GgufBytes.header(0, 1).string("a\0b").u32(4).u32(1).zeros(8), "contains a zero byte"),
                new Corruption("a key twice", GgufBytes.header(0, 2).key("a", GgufValueType.UINT8).u8(1).key("a",
                        GgufValueType.UINT8).u8(1).zeros(8),
                        "key \"a\" is there twice"),
                new Corruption("a string beyond the end", GgufBytes.header(0, 1).key("a", GgufValueType.STRING).u64(1000).zeros(10),
                        "a has a string of 1000 bytes, but only 10 bytes follow"),
                // CVE-2025-49847 begins with a string length that turns negative
                new Corruption("a negative string", GgufBytes.header(0, 1).key("a", GgufValueType.STRING).u64(-8).zeros(10),
                        "18446744073709551608 bytes"),
                new Corruption("an unknown value type", GgufBytes.header(0, 1).string("a").u32(13).zeros(16), "a has value type 13"),
                new Corruption("a boolean of 2", GgufBytes.header(0, 1).key("a", GgufValueType.BOOL).u8(2).zeros(8),
                        "a holds the boolean 2"),
                new Corruption("an array of arrays", GgufBytes.header(0, 1).key("a", GgufValueType.ARRAY).u32(9).u64(1).zeros(32),
                        "a is an array of arrays"),
                new Corruption("an array of arrays, deep", GgufBytes.header(0, 1).key("a",
                        GgufValueType.ARRAY).u32(9).u64(1).u32(9).u64(1).u32(9).u64(1).zeros(32),
                        "a is an array of arrays"),
                new Corruption("an array of nothing", GgufBytes.header(0, 1).key("a", GgufValueType.ARRAY).u32(77).u64(1).zeros(32),
                        "a has value type 77"),
                new Corruption("an array beyond the end", GgufBytes.header(0, 1).key("a", GgufValueType.ARRAY).u32(10).u64(huge).zeros(32),
                        "a claims 4611686018427387905 elements of type u64, but only 32 bytes follow"),
                new Corruption("strings beyond the end", GgufBytes.header(0, 1).key("a",
                        GgufValueType.ARRAY).u32(8).u64(2).string("x").u64(100),
                        "a has a string of 100 bytes, but only 0 bytes follow"),
                new Corruption("alignment of another type", GgufBytes.header(0, 1).key("general.alignment", GgufValueType.UINT64).u64(32),
                        "general.alignment is of type u64; it must be u32"),
                new Corruption("alignment 0", aligned(0), "general.alignment is 0"),
                new Corruption("alignment beyond reason", aligned(1 << 21), "general.alignment is 2097152"),
                new Corruption("alignment of all bits", aligned(-1), "general.alignment is 4294967295"),
                new Corruption("an alignment of text", GgufBytes.header(0, 1).key("general.alignment", GgufValueType.STRING).string("32"),
                        "general.alignment is of type string; it must be u32"),
                new Corruption("alignment 48", aligned(48), "general.alignment is 48"),
                new Corruption("alignment that wraps", aligned(0x8000_0000), "general.alignment is 2147483648"),
                new Corruption("alignment 4", aligned(4), "general.alignment is 4"),
                new Corruption("a tensor without a name", GgufBytes.header(1, 0).tensor("", f32, 0, 1).zeros(64),
                        "name of tensor 0 has a length of 0"),
                new Corruption("a long tensor name", GgufBytes.header(1, 0).tensor("x".repeat(64), f32, 0, 1).zeros(64),
                        "has a length of 64 bytes; 1 to 63"),
                new Corruption("a tensor twice", GgufBytes.header(2, 0).tensor("x", f32, 0, 8).tensor("x", f32, 32, 8).pad(32).zeros(64),
                        "\"x\" is there twice"),
                new Corruption("no dimensions", GgufBytes.header(1, 0).tensor("x", f32, 0).zeros(64), "has 0 dimensions"),
                new Corruption("five dimensions", GgufBytes.header(1, 0).tensor("x", f32, 0, 1, 1, 1, 1, 1).zeros(64), "has 5 dimensions"),
                new Corruption("a dimension of 0", GgufBytes.header(1, 0).tensor("x", f32, 0, 4, 0).zeros(64),
                        "dimension 1 of tensor \"x\" is 0"),
                new Corruption("a negative dimension", GgufBytes.header(1, 0).tensor("x", f32, 0, -4).zeros(64),
                        "dimension 0 of tensor \"x\" is -4"),
                // CVE-2026-33298: products of dimensions that wrap to something small
                new Corruption("elements that wrap", GgufBytes.header(1, 0).tensor("x", f32, 0, 1L << 32, 1L << 32).zeros(64),
                        "more elements than 64 bits hold"),
                new Corruption("elements that turn negative", GgufBytes.header(1, 0).tensor("x", f32, 0, 1L << 32, 1L << 31).zeros(64),
                        "more elements than 64 bits hold"),
                new Corruption("bytes that wrap", GgufBytes.header(1, 0).tensor("x", f32, 0, 1L << 62).zeros(64),
                        "more bytes than 64 bits hold"),
                // the same through a block type, which a check of element counts alone lets pass
                new Corruption("blocks of four bits that wrap", GgufBytes.header(1, 0).tensor("x", q4, 0, 32L, 1L << 57).zeros(64),
                        "more bytes than 64 bits hold"),
                new Corruption("blocks that wrap", GgufBytes.header(1, 0).tensor("x", GgmlType.Q8_K.id(), 0, 256L, 1L << 54).zeros(64),
                        "more bytes than 64 bits hold"),
                new Corruption("more than the file", GgufBytes.header(1, 0).tensor("x", f32, 0, 1L << 30).zeros(64),
                        "takes 4294967296 bytes; the whole file has"),
                new Corruption("a removed type", GgufBytes.header(1, 0).tensor("x", 31, 0, 32).zeros(64),
                        "type 31 (a repacked q4_0) was removed"),
                new Corruption("an older removed type", GgufBytes.header(1, 0).tensor("x", 4, 0, 32).zeros(64),
                        "type 4 (q4_2 or q4_3) was removed"),
                new Corruption("an unknown type", GgufBytes.header(1, 0).tensor("x", 43, 0, 32).zeros(64), "type 43 is unknown"),
                new Corruption("a negative type", GgufBytes.header(1, 0).tensor("x", -1, 0, 32).zeros(64), "type -1 is unknown"),
                new Corruption("rows of half blocks", GgufBytes.header(1, 0).tensor("x", q4, 0, 16, 2).zeros(64),
                        "rows of 16 elements; type q4_0 needs a multiple of 32"),
                new Corruption("an unaligned offset", GgufBytes.header(1, 0).tensor("x", f32, 8, 4).pad(32).zeros(64),
                        "data offset 8, no multiple of the alignment 32"),
                new Corruption("a negative offset", GgufBytes.header(1, 0).tensor("x", f32, -32, 4).pad(32).zeros(64),
                        "data offset 18446744073709551584"),
                new Corruption("a gap", GgufBytes.header(1, 0).tensor("x", f32, 32, 4).pad(32).zeros(64), "data offset 32 where 0 follows"),
                new Corruption("an overlap", GgufBytes.header(2, 0).tensor("x", f32, 0, 8).tensor("y", f32, 0, 8).pad(32).zeros(64),
                        "data offset 0 where 32 follows"),
                // CVE-2025-53630 and CVE-2026-27940: sizes whose sum wraps
                // with padding, and with the bytes of infos added, these would wrap to a small buffer
                new Corruption("a size next to the largest", GgufBytes.header(1, 0).tensor("x", GgmlType.I8.id(), 0,
                        Long.MAX_VALUE - 30).zeros(64),
                        "more bytes than 64 bits hold"),
                new Corruption("the largest size there is", GgufBytes.header(1, 0).tensor("x", GgmlType.I8.id(), 0,
                        Long.MAX_VALUE / 8).zeros(64),
                        "takes 1152921504606846975 bytes; the whole file has"),
                new Corruption("sizes whose sum wraps", GgufBytes.header(3, 0).tensor("x", f32, 0, 1L << 59).tensor("y", f32, 1L << 61,
                        1L << 59)
                        .tensor("z", f32, 1L << 62, 1L << 59).zeros(64), "takes 2305843009213693952 bytes; the whole file has"),
                new Corruption("data beyond the end", GgufBytes.header(2, 0).tensor("x", f32, 0, 8).tensor("y", f32, 32,
                        16).pad(32).zeros(64),
                        "it is truncated or a download was interrupted"),
                new Corruption("no data section", GgufBytes.header(1, 0).tensor("x", f32, 0, 4),
                        "the data section would start at byte 64"));
    }

    private static GgufBytes aligned(int alignment) {
        return GgufBytes.header(0, 1).key("general.alignment", GgufValueType.UINT32).u32(alignment);
    }

    @ParameterizedTest
    @MethodSource("corruptions")
    void isRefusedWithPathPlaceAndValue(Corruption corruption) throws IOException {
        var file = corruption.bytes.write(folder.resolve("broken.gguf"));
        var failure = assertThrows(GgufException.class, () -> GgufFile.read(file));
        assertTrue(failure.getMessage().contains(corruption.message), failure.getMessage());
        assertTrue(failure.getMessage().startsWith(file.toString()), failure.getMessage());
        assertEquals(file, failure.path());
        assertTrue(failure.offset() <= Files.size(file), failure.getMessage());
    }

    @Test
    void tooManyEntriesAreRefusedEvenWhenTheFileHoldsThem() throws IOException {
        var file = folder.resolve("many.gguf");
        try (var out = new RandomAccessFile(file.toFile(), "rw")) {
            out.write(GgufBytes.header(0, 70_000).bytes());
            out.setLength(70_000 * 20);
        }
        var failure = assertThrows(GgufException.class, () -> GgufFile.read(file));
        assertTrue(failure.getMessage().contains("metadata count is 70000; at most 65536"), failure.getMessage());
    }

    @Test
    void metadataLargerThanAnyVocabularyIsRefusedBeforeItIsRead() throws IOException {
        var file = folder.resolve("sparse.gguf");
        try (var out = new RandomAccessFile(file.toFile(), "rw")) {
            out.write(GgufBytes.header(0, 1).key("a", GgufValueType.ARRAY).u32(0).u64(1L << 30).bytes());
            out.setLength((1L << 30) + 1000);
        }
        var failure = assertThrows(GgufException.class, () -> GgufFile.read(file));
        assertTrue(failure.getMessage().contains("more than 256 MiB"), failure.getMessage());
    }

    @Test
    void aMissingFileADirectoryAndAnUnreadableFileAreNamed() throws IOException {
        var missing = folder.resolve("missing.gguf");
        assertTrue(assertThrows(GgufException.class, () -> GgufFile.read(missing)).getMessage().contains(missing + ": no such file"));
        assertTrue(assertThrows(GgufException.class, () -> GgufFile.read(folder)).getMessage().contains("is a directory"));
    }

    @Test
    void aFileThatMayNotBeReadIsNamed() throws IOException {
        var file = small("secret.gguf");
        assumeTrue(Files.getFileStore(file).supportsFileAttributeView("posix"), "needs POSIX permissions");
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("---------"));
        assumeFalse(Files.isReadable(file), "this user may read everything");
        assertTrue(assertThrows(GgufException.class, () -> GgufFile.read(file)).getMessage().contains("may not be read"));
    }

    @Test
    void aDeviceIsNoFile() {
        var device = Path.of("/dev/zero");
        assumeTrue(Files.exists(device), "needs /dev/zero");
        assertTrue(assertThrows(GgufException.class, () -> GgufFile.read(device)).getMessage().contains("no regular file"));
    }

    @Test
    void everyVendoredVocabularyIsRead() throws IOException {
        assumeTrue(Files.isDirectory(VENDORED), VENDORED + " is missing; ggml-src/vendor brings it");
        var files = new ArrayList<Path>();
        try (var stream = Files.newDirectoryStream(VENDORED, "*.gguf")) {
            stream.forEach(files::add);
        }
        assertTrue(files.size() >= 15, files.toString());
        for (var path : files) {
            var file = GgufFile.read(path);
            var tokens = file.metadata().strings("tokenizer.ggml.tokens").orElseThrow();
            assertTrue(tokens.size() > 1000, path.toString());
            assertFalse(tokens.getLast().isEmpty(), path.toString());
            assertTrue(file.metadata().contains("general.architecture"), path.toString());
        }
    }

    @Test
    void partsOfASplitModelAreFoundAndMustAgree() throws IOException {
        part(0, 3, 3, "a");
        part(1, 3, 3, "b");
        part(2, 3, 3, "c");
        var first = folder.resolve("m-00001-of-00003.gguf");
        var parts = GgufFile.readParts(first);
        assertEquals(List.of("a", "b", "c"), parts.stream().map(part -> part.tensors().getFirst().name()).toList());

        var later = assertThrows(GgufException.class, () -> GgufFile.readParts(folder.resolve("m-00002-of-00003.gguf")));
        assertTrue(later.getMessage().contains("this is part 2 of 3; give the first part"), later.getMessage());

        part(2, 3, 3, "b");
        var twice = assertThrows(GgufException.class, () -> GgufFile.readParts(first));
        assertTrue(twice.getMessage().contains("tensor \"b\" is also in an earlier part"), twice.getMessage());

        part(2, 3, 4, "c");
        var count = assertThrows(GgufException.class, () -> GgufFile.readParts(first));
        assertTrue(count.getMessage().contains("split.tensors.count is 4, but the 3 parts have 3 tensors"), count.getMessage());

        Files.copy(folder.resolve("m-00002-of-00003.gguf"), folder.resolve("m-00003-of-00003.gguf"),
                StandardCopyOption.REPLACE_EXISTING);
        var number = assertThrows(GgufException.class, () -> GgufFile.readParts(first));
        assertTrue(number.getMessage().contains("split.no is 1; 2 is needed"), number.getMessage());

        Files.delete(folder.resolve("m-00003-of-00003.gguf"));
        var missing = assertThrows(GgufException.class, () -> GgufFile.readParts(first));
        assertTrue(missing.getMessage().contains("part 3 of 3 is missing"), missing.getMessage());

        Files.move(first, folder.resolve("renamed.gguf"));
        var renamed = assertThrows(GgufException.class, () -> GgufFile.readParts(folder.resolve("renamed.gguf")));
        assertTrue(renamed.getMessage().contains("<name>-00001-of-00003.gguf"), renamed.getMessage());
    }

    @Test
    void aSplitCountOfAnotherTypeIsRefusedBecauseNativeCodeAborts() throws IOException {
        var file = folder.resolve("m-00001-of-00002.gguf");
        new GgufWriter().putU16("split.no", 0).putU32("split.count", 2).putI32("split.tensors.count", 0).write(file);
        var failure = assertThrows(GgufException.class, () -> GgufFile.readParts(file));
        assertTrue(failure.getMessage().contains("split.count is of type u32; it must be u16"), failure.getMessage());
    }

    private void part(int number, int count, int tensors, String name) {
        new GgufWriter().putU16("split.no", number).putU16("split.count", count).putI32("split.tensors.count", tensors)
                .tensor(name, GgmlType.F32, List.of(8L), out -> out.write(MemorySegment.ofArray(new byte[32])))
                .write(folder.resolve("m-%05d-of-%05d.gguf".formatted(number + 1, count)));
    }

    /** Two tensors, of 12 and 68 bytes. */
    private Path small(String name) {
        var path = folder.resolve(name);
        new GgufWriter().put("general.architecture", "none").putU32("count", 7).putStrings("words", List.of("one", "two"))
                .tensor("first", GgmlType.F32, List.of(3L), out -> out.write(MemorySegment.ofArray(new float[] {1, 2, 3})))
                .tensor("second", GgmlType.Q8_0, List.of(32L, 2L), out -> out.write(MemorySegment.ofArray(new byte[68])))
                .write(path);
        return path;
    }
}
