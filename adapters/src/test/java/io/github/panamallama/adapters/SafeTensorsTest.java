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
        SafeTensorsBytes.write(file, "{\"x\":{\"dtype\":\"%s\",\"shape\":[2],\"data_offsets\":[0,%d]}}  ".formatted(type, data.length),
                data);
        var read = SafeTensors.read(file);
        assertArrayEquals(new float[] {1.5f, -2.25f}, read.values(read.tensors().iterator().next()));
    }

    @Test
    void integersCanBeListedAndNotReadAsWeights() throws IOException {
        SafeTensorsBytes.write(file, "{\"x\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}", new byte[8]);
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
        two("[2]", 0, 8, "[2]", 4, 12, 12);
        refused("the data of \"y\" and \"x\" overlap at byte");
        two("[2]", 0, 8, "[2]", 0, 8, 8);
        refused("overlap");
    }

    @Test
    void gapsAndUnusedBytesAreRefused() throws IOException {
        two("[2]", 0, 8, "[2]", 12, 20, 20);
        refused("belong to no tensor");
        two("[2]", 0, 8, "[2]", 8, 16, 20);
        refused("the last tensor ends at");
    }

    @Test
    void offsetsOutOfRangeAreRefused() throws IOException {
        two("[2]", 0, 8, "[2]", 8, 16, 12);
        refused("tensor \"y\" has data_offsets [8,16], but the file has 12 bytes of data");
        two("[2]", 8, 0, "[2]", 8, 16, 16);
        refused("tensor \"x\" has data_offsets [8,0]");
        one("F32", "[2]", "[0,9223372036854775808]");
        refused("9223372036854775808 in its data_offsets");
        one("F32", "[2]", "[-8,0]");
        refused("-8 in its data_offsets");
        one("F32", "[2]", "[0,8,8]");
        refused("two data_offsets are needed");
    }

    @Test
    void shapesMustGiveTheBytes() throws IOException {
        one("F32", "[3]", "[0,8]");
        refused("shape [3] needs 12 bytes, but data_offsets [0,8] give it 8");
        one("F32", "[4611686018427387904,4]", "[0,8]");
        refused("more bytes than can be counted");
        one("F32", "[2.5]", "[0,8]");
        refused("2.5 in its shape");
        one("F32", "[-2]", "[0,8]");
        refused("-2 in its shape");
        one("F4", "[2]", "[0,8]");
        refused("the unknown dtype \"F4\"");
    }

    @Test
    void aTensorNamedTwiceIsRefused() throws IOException {
        var entry = "\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}";
        SafeTensorsBytes.write(file, "{" + entry + "," + entry + "}", new byte[8]);
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

    private void one(String type, String shape, String offsets) throws IOException {
        SafeTensorsBytes.write(file, "{\"x\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":%s}}".formatted(type, shape, offsets),
                new byte[8]);
    }

    private void two(String shapeX, int beginX, int endX, String shapeY, int beginY, int endY, int bytes) throws IOException {
        SafeTensorsBytes.write(file, "{\"x\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%d,%d]},\"y\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%d,%d]}}"
                .formatted(shapeX, beginX, endX, shapeY, beginY, endY), new byte[bytes]);
    }

    private void refused(String message) {
        var e = assertThrows(AdapterException.class, () -> SafeTensors.read(file));
        assertTrue(e.getMessage().startsWith(file.toString()) && e.getMessage().contains(message), e.getMessage());
    }
}
