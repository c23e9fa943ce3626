package io.github.panamallama.adapters;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.AdapterException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class SafeTensorsTest {
    @TempDir
    Path folder;

    private Path file;

    @BeforeEach
    void name() {
        file = folder.resolve("adapter_model.safetensors");
    }

    @Test
    void tensorsComeInOrderWithTheirValues() throws IOException {
        new SafeTensorsBytes().put("b", new float[] {1, 2, 3, 4, 5, 6}, 2, 3).put("a", new float[] {-7}, 1).write(file);
        var read = SafeTensors.read(file);
        var tensors = List.copyOf(read.tensors());
        assertEquals(List.of("b", "a"), tensors.stream().map(SafeTensors.Tensor::name).toList());
        assertEquals(List.of(2L, 3L), tensors.getFirst().shape());
        assertArrayEquals(new float[] {1, 2, 3, 4, 5, 6}, read.values(tensors.getFirst()));
        assertArrayEquals(new float[] {-7}, read.values(tensors.get(1)));
    }

    @ParameterizedTest
    @CsvSource({"F32, 0000c03f000010c0", "F16, 003e80c0", "BF16, c03f10c0", "F64, 000000000000f83f00000000000002c0"})
    void floatsOfEveryWidthAreRead(String type, String hex) throws IOException {
        var data = HexFormat.of().parseHex(hex);
        SafeTensorsBytes.write(file, "{" + entry("x", type, "[2]", "[0," + data.length + "]") + "}  ", data);
        var read = SafeTensors.read(file);
        assertArrayEquals(new float[] {1.5f, -2.25f}, read.values(read.tensors().iterator().next()));
    }

    @Test
    void integersCanBeListedAndNotReadAsWeights() throws IOException {
        file(8, entry("x", "I64", "[1]", "[0,8]"));
        var read = SafeTensors.read(file);
        var e = assertThrows(AdapterException.class, () -> read.values(read.tensors().iterator().next()));
        assertTrue(e.getMessage().contains("dtype I64"), e.getMessage());
    }

    @ParameterizedTest
    @ValueSource(longs = {17, 1000, Long.MAX_VALUE, -1, Long.MIN_VALUE})
    void aHeaderLongerThanTheFileIsRefused(long length) throws IOException {
        SafeTensorsBytes.write(file, length, "{}              ".getBytes(StandardCharsets.UTF_8), new byte[0]);
        refused("the header is said to have " + Long.toUnsignedString(length) + " bytes, but the file has only 16");
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 7})
    void aFileShorterThanItsLengthIsRefused(int size) throws IOException {
        Files.write(file, new byte[size]);
        refused("has " + size + " bytes, which is no safetensors file");
    }

    @Test
    void overlappingOffsetsAreRefused() throws IOException {
        refusesTwo("the data of \"y\" and \"x\" overlap at byte", "[0,8]", "[4,12]", 12);
        refusesTwo("overlap", "[0,8]", "[0,8]", 8);
    }

    @Test
    void gapsAndUnusedBytesAreRefused() throws IOException {
        refusesTwo("belong to no tensor", "[0,8]", "[12,20]", 20);
        refusesTwo("the last tensor ends at", "[0,8]", "[8,16]", 20);
    }

    @Test
    void offsetsOutOfRangeAreRefused() throws IOException {
        refusesTwo("tensor \"y\" has data_offsets [8,16], but the file has 12 bytes of data", "[0,8]", "[8,16]", 12);
        refusesTwo("tensor \"x\" has data_offsets [8,0]", "[8,0]", "[8,16]", 16);
        refusesOne("9223372036854775808 in its data_offsets", "F32", "[2]", "[0,9223372036854775808]");
        refusesOne("-8 in its data_offsets", "F32", "[2]", "[-8,0]");
        refusesOne("two data_offsets are needed", "F32", "[2]", "[0,8,8]");
    }

    @Test
    void shapesMustGiveTheBytes() throws IOException {
        refusesOne("shape [3] needs 12 bytes, but data_offsets [0,8] give it 8", "F32", "[3]", "[0,8]");
        refusesOne("more bytes than can be counted", "F32", "[4611686018427387904,4]", "[0,8]");
        refusesOne("2.5 in its shape", "F32", "[2.5]", "[0,8]");
        refusesOne("-2 in its shape", "F32", "[-2]", "[0,8]");
        refusesOne("the unknown dtype \"F4\"", "F4", "[2]", "[0,8]");
    }

    @Test
    void aTensorNamedTwiceIsRefused() throws IOException {
        file(8, entry("x", "F32", "[2]", "[0,8]"), entry("x", "F32", "[2]", "[0,8]"));
        refused("Duplicate");
    }

    @Test
    void headersThatAreNoJsonObjectAreRefused() throws IOException {
        for (var header : List.of("", "[]", "{", "{} {}", "nonsense", "[".repeat(100_000), "{\"x\":7}")) {
            SafeTensorsBytes.write(file, header, new byte[0]);
            var e = assertThrows(AdapterException.class, () -> SafeTensors.read(file), header);
            assertTrue(e.getMessage().startsWith(file.toString()), e.getMessage());
        }
        SafeTensorsBytes.write(file, 2, new byte[] {(byte) 0xC3, '('}, new byte[0]);
        refused("no UTF-8");
    }

    @ParameterizedTest
    @ValueSource(strings = {"adapter_model.bin", "adapter.pt", "x.PTH", "model.ckpt", "a.pkl"})
    void pickleFilesAreRefusedByName(String name) {
        file = folder.resolve(name);
        refused("is a pickle file");
    }

    @Test
    void pickleFilesAreRefusedByContent() throws IOException {
        Files.write(file, new byte[] {'P', 'K', 3, 4, 0, 0, 0, 0, 0, 0});
        refused("is a pickle file");
        Files.write(file, new byte[] {(byte) 0x80, 2, '}', 'q', 0, 'X', 1, 1, 0, 0});
        refused("is a pickle file");
    }

    @ParameterizedTest
    @ValueSource(floats = {Float.NaN, Float.NEGATIVE_INFINITY})
    void valuesThatAreNoNumbersAreRefusedByTensorAndIndex(float bad) throws IOException {
        new SafeTensorsBytes().put("good", new float[4], 4).put("x", new float[] {0, 1, bad}, 3).write(file);
        var read = SafeTensors.read(file);
        var tensors = List.copyOf(read.tensors());
        assertEquals(4, read.values(tensors.getFirst()).length);
        var e = assertThrows(AdapterException.class, () -> read.values(tensors.get(1)));
        assertTrue(e.getMessage().contains("tensor \"x\": value 2 of 3 is " + bad), e.getMessage());
    }

    @Test
    void everyTruncationOfAFileIsRefused() throws IOException {
        new SafeTensorsBytes().put("x", new float[] {1, 2, 3, 4}, 2, 2).put("y", new float[] {5}, 1).write(file);
        var bytes = Files.readAllBytes(file);
        for (int size = 0; size < bytes.length; size++) {
            Files.write(file, Arrays.copyOf(bytes, size));
            assertThrows(AdapterException.class, () -> SafeTensors.read(file), "cut to " + size);
        }
    }

    @Test
    void randomDamageGivesATypedExceptionOrAReadableFile() throws IOException {
        long seed = 4711;
        System.out.println("seed " + seed);
        var random = new Random(seed);
        new SafeTensorsBytes().put("x", new float[] {1, 2, 3, 4}, 2, 2).put("y", new float[] {5}, 1).write(file);
        var bytes = Files.readAllBytes(file);
        int refused = 0;
        for (int round = 0; round < 3000; round++) {
            var damaged = bytes.clone();
            for (int i = random.nextInt(1, 4); i > 0; i--) {
                damaged[random.nextInt(damaged.length)] = (byte) random.nextInt(256);
            }
            Files.write(file, damaged);
            try {
                var read = SafeTensors.read(file);
                for (var tensor : read.tensors()) {
                    assertEquals(tensor.elements(), read.values(tensor).length);
                }
            } catch (AdapterException e) {
                refused++;
            }
        }
        assertTrue(refused > 1000, refused + " refused");
    }

    private static String entry(String name, String type, String shape, String offsets) {
        return "\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":%s}".formatted(name, type, shape, offsets);
    }

    /** Writes a header with these entries before so many bytes of data. */
    private void file(int bytes, String... entries) throws IOException {
        SafeTensorsBytes.write(file, "{" + String.join(",", entries) + "}", new byte[bytes]);
    }

    /** Refuses a tensor of 8 bytes of data. */
    private void refusesOne(String message, String type, String shape, String offsets) throws IOException {
        file(8, entry("x", type, shape, offsets));
        refused(message);
    }

    /** Refuses tensors "x" and "y" of two floats each, with so many bytes of data. */
    private void refusesTwo(String message, String offsetsX, String offsetsY, int bytes) throws IOException {
        file(bytes, entry("x", "F32", "[2]", offsetsX), entry("y", "F32", "[2]", offsetsY));
        refused(message);
    }


    private void refused(String message) {
        var e = assertThrows(AdapterException.class, () -> SafeTensors.read(file));
        assertTrue(e.getMessage().startsWith(file.toString()) && e.getMessage().contains(message), e.getMessage());
    }
}
