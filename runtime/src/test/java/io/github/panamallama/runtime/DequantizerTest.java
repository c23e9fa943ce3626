package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.EnumSet;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class DequantizerTest {
    private static final EnumSet<GgmlType> NONE = EnumSet.of(GgmlType.Q8_1, GgmlType.Q8_K, GgmlType.I8, GgmlType.I16, GgmlType.I32,
            GgmlType.I64,
            GgmlType.F64);

    @Test
    void floatTypesKeepTheirValues() {
        float[] values = {0, -1.5f, 65504, 3.0517578e-5f};
        var f32 = ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN);
        var f16 = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN);
        for (float value : values) {
            f32.putFloat(value);
            f16.putShort(Float.floatToFloat16(value));
        }
        var to = new float[4];
        Dequantizer.toFloats(GgmlType.F32, MemorySegment.ofArray(f32.array()), to, 4);
        assertArrayEquals(values, to);
        Dequantizer.toFloats(GgmlType.F16, MemorySegment.ofArray(f16.array()), to, 4);
        assertArrayEquals(values, to);
        Dequantizer.toFloats(GgmlType.BF16, MemorySegment.ofArray(new byte[] {(byte) 0xC0, (byte) 0xBF}), to, 1);
        assertEquals(-1.5f, to[0]);
    }

    @Test
    void aBlockOfQ8IsItsScaleTimesItsQuants() {
        var block = ByteBuffer.allocate(34).order(ByteOrder.LITTLE_ENDIAN).putShort(Float.floatToFloat16(0.25f));
        IntStream.range(0, 32).forEach(i -> block.put((byte) (i * 7 - 100)));
        var to = new float[32];
        Dequantizer.toFloats(GgmlType.Q8_0, MemorySegment.ofArray(block.array()), to, 32);
        for (int i = 0; i < 32; i++) {
            assertEquals(0.25f * (i * 7 - 100), to[i]);
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q5_1", "IQ4_NL", "IQ4_XS", "Q3_K_M", "BF16", "F16"})
    void whatTheQuantizerWroteComesBackCloseToWhatItRead(Quantizer.Type type, @TempDir Path folder) {
        var plain = folder.resolve("f32.gguf");
        var small = folder.resolve("small.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withWidth(256).withFeedForward(256).withLayers(1).write(plain);
        Quantizer.to(type).withPure(true).run(plain, small);
        var name = "blk.0.ffn_up.weight";
        var wanted = values(plain, name);
        var found = values(small, name);
        double error = 0;
        double size = 0;
        for (int i = 0; i < wanted.length; i++) {
            error += Math.pow(wanted[i] - found[i], 2);
            size += Math.pow(wanted[i], 2);
        }
        assertTrue(Math.sqrt(error / size) < Math.pow(2, 1.5 - type.bitsPerWeight()) + 0.005, type + ": " + Math.sqrt(error / size));
    }

    @Test
    void onlyTypesWithoutAConversionAreRefused() {
        for (var type : GgmlType.values()) {
            assertEquals(!NONE.contains(type), Dequantizer.supports(type), type.label());
        }
        var e = assertThrows(IllegalArgumentException.class, () -> Dequantizer.toFloats(GgmlType.I32, MemorySegment.ofArray(new byte[8]),
                new float[2], 2));
        assertTrue(e.getMessage().contains("i32"), e.getMessage());
    }

    @Test
    void sizesThatDoNotFitAreRefusedBeforeNativeCodeSeesThem() {
        var bytes = MemorySegment.ofArray(new byte[34]);
        assertThrows(IllegalArgumentException.class, () -> Dequantizer.toFloats(GgmlType.Q8_0, bytes, new float[64], 64));
        assertThrows(IllegalArgumentException.class, () -> Dequantizer.toFloats(GgmlType.Q8_0, bytes, new float[31], 32));
        assertThrows(IllegalArgumentException.class, () -> Dequantizer.toFloats(GgmlType.Q8_0, bytes, new float[64], 20));
    }

    private static float[] values(Path file, String name) {
        var gguf = GgufFile.read(file);
        var tensor = gguf.tensor(name).orElseThrow();
        try (var arena = Arena.ofConfined()) {
            var to = new float[(int) tensor.elementCount()];
            Dequantizer.toFloats(tensor.type(), gguf.map(tensor, arena), to, to.length);
            return to;
        }
    }
}
