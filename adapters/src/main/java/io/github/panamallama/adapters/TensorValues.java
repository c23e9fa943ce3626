package io.github.panamallama.adapters;

import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * Tensor data as floats and back, for the types that adapters are stored in. Quantising gives the bits of ggml's reference code
 * (quantize_row_q8_0_ref and quantize_row_q4_0_ref in ggml/src/ggml-quants.c).
 */
final class TensorValues {
    /** The types that can be read and written. */
    static final Set<GgmlType> TYPES = EnumSet.of(GgmlType.F32, GgmlType.F16, GgmlType.BF16, GgmlType.Q8_0, GgmlType.Q4_0);

    static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /** The largest float[] that every JVM can make. */
    static final int MAX_VALUES = Integer.MAX_VALUE - 8;

    /** Blocks that are written at once; a bound for the buffer. */
    private static final int CHUNK_BLOCKS = 1 << 14;

    private TensorValues() {
    }

    /**
     * The values of a tensor in the file's order.
     *
     * @throws AdapterException if its type isn't one of {@link #TYPES}, it has too many values for an array, or one isn't finite
     */
    static float[] read(GgufFile file, GgufTensor tensor) {
        var values = readUnchecked(file, tensor);
        requireFinite(file.path() + ": tensor \"" + tensor.name() + "\"", values);
        return values;
    }

    /** As {@link #read}, with values that may not be finite. */
    static float[] readUnchecked(GgufFile file, GgufTensor tensor) {
        var what = file.path() + ": tensor \"" + tensor.name() + "\"";
        if (!TYPES.contains(tensor.type())) {
            throw new AdapterException(what + " is of type " + tensor.type().label() + ", which can't be read here; " + labels() + " can");
        }
        var values = new float[count(what, tensor.elementCount())];
        try (var arena = Arena.ofConfined()) {
            var data = file.map(tensor, arena);
            switch (tensor.type()) {
                case F32 -> MemorySegment.copy(data, FLOAT, 0, values, 0, values.length);
                case F16 -> {
                    for (int i = 0; i < values.length; i++) {
                        values[i] = Float.float16ToFloat(data.get(SHORT, 2L * i));
                    }
                }
                case BF16 -> {
                    for (int i = 0; i < values.length; i++) {
                        values[i] = bf16(data.get(SHORT, 2L * i));
                    }
                }
                case Q8_0 -> {
                    for (int i = 0; i < values.length; i++) {
                        long block = i / 32 * 34L;
                        values[i] = data.get(ValueLayout.JAVA_BYTE, block + 2 + i % 32) * Float.float16ToFloat(data.get(SHORT, block));
                    }
                }
                default -> {    // Q4_0: the low halves of 16 bytes are elements 0 to 15, the high ones 16 to 31
                    for (int i = 0; i < values.length; i++) {
                        long block = i / 32 * 18L;
                        int pair = data.get(ValueLayout.JAVA_BYTE, block + 2 + i % 16);
                        int quant = (i % 32 < 16 ? pair & 15 : pair >> 4 & 15) - 8;
                        values[i] = quant * Float.float16ToFloat(data.get(SHORT, block));
                    }
                }
            }
        }
        return values;
    }

    /** @throws AdapterException if the type isn't one of {@link #TYPES} */
    static void requireWritable(GgmlType type) {
        if (!TYPES.contains(type)) {
            throw new AdapterException("adapters can't be written as " + type.label() + "; " + labels() + " are possible");
        }
    }

    /** Declares a tensor with these values, of one of {@link #TYPES}; writing throws AdapterException if the type can't hold one. */
    static void declare(GgufWriter writer, String name, GgmlType type, List<Long> shape, float[] values) {
        writer.tensor(name, type, shape, out -> {
            int blockSize = type.blockSize();
            int blocks = values.length / blockSize;
            try (var arena = Arena.ofConfined()) {
                var chunk = arena.allocate((long) Math.min(CHUNK_BLOCKS, blocks) * type.blockBytes());
                for (int done = 0; done < blocks; done += CHUNK_BLOCKS) {
                    int count = Math.min(CHUNK_BLOCKS, blocks - done);
                    for (int i = 0; i < count; i++) {
                        block(name, type, values, (done + i) * blockSize, chunk, (long) i * type.blockBytes());
                    }
                    out.write(chunk.asSlice(0, (long) count * type.blockBytes()));
                }
            }
        });
    }

    /** Writes the block of {@code type} that starts with value {@code from}. */
    static void block(String name, GgmlType type, float[] values, int from, MemorySegment to, long at) {
        switch (type) {
            case F32 -> to.set(FLOAT, at, values[from]);
            case F16 -> to.set(SHORT, at, half(name, type, values[from]));
            case BF16 -> {
                int bits = Float.floatToRawIntBits(values[from]);
                int rounded = bits + 0x7FFF + (bits >>> 16 & 1);    // to nearest, ties to even
                requireHeld(name, type, values[from], Float.intBitsToFloat(rounded & 0xFFFF_0000));
                to.set(SHORT, at, (short) (rounded >>> 16));
            }
            case Q8_0 -> {
                float largest = 0;
                for (int i = 0; i < 32; i++) {
                    largest = Math.max(largest, Math.abs(values[from + i]));
                }
                float scale = largest / 127;
                float inverse = scale != 0 ? 1 / scale : 0;
                to.set(SHORT, at, half(name, type, scale));
                for (int i = 0; i < 32; i++) {
                    float quant = values[from + i] * inverse;
                    // C's roundf: halves away from zero
                    to.set(ValueLayout.JAVA_BYTE, at + 2 + i, (byte) (int) (quant + Math.copySign(0.5, quant)));
                }
            }
            default -> {    // Q4_0: the value of largest size becomes -8
                float extreme = 0;
                for (int i = 0; i < 32; i++) {
                    if (Math.abs(values[from + i]) > Math.abs(extreme)) {
                        extreme = values[from + i];
                    }
                }
                float scale = extreme / -8;
                float inverse = scale != 0 ? 1 / scale : 0;
                to.set(SHORT, at, half(name, type, scale));
                for (int i = 0; i < 16; i++) {
                    int low = Math.min(15, (int) (values[from + i] * inverse + 8.5f));
                    int high = Math.min(15, (int) (values[from + 16 + i] * inverse + 8.5f));
                    to.set(ValueLayout.JAVA_BYTE, at + 2 + i, (byte) (low | high << 4));
                }
            }
        }
    }

    static float bf16(short bits) {
        return Float.intBitsToFloat(bits << 16);
    }

    private static short half(String name, GgmlType type, float value) {
        short half = Float.floatToFloat16(value);
        requireHeld(name, type, value, Float.float16ToFloat(half));
        return half;
    }

    private static void requireHeld(String name, GgmlType type, float value, float held) {
        if (!Float.isFinite(held)) {
            throw new AdapterException("tensor \"" + name + "\" has " + value + (type.isQuantized() ? " as a scale" : "") + ", which "
                    + type.label()
                    + " can't hold; write f32");
        }
    }

    /** @throws AdapterException if a value is NaN or infinite; {@code what} begins the message */
    static void requireFinite(String what, float[] values) {
        for (int i = 0; i < values.length; i++) {
            if (!Float.isFinite(values[i])) {
                throw new AdapterException(what + ": value " + i + " of " + values.length + " is " + values[i]
                        + "; the adapter was damaged or its training diverged");
            }
        }
    }

    /** {@code elements} as the size of an array. */
    static int count(String what, long elements) {
        if (elements > MAX_VALUES) {
            throw new AdapterException(what + " has " + elements + " values; at most " + MAX_VALUES + " can be held");
        }
        return (int) elements;
    }

    /** {@code [slices][rows][columns]} as {@code [slices][columns][rows]}. */
    static float[] transpose(float[] values, int slices, int rows, int columns) {
        var turned = new float[values.length];
        int size = rows * columns;
        for (int slice = 0; slice < slices; slice++) {
            for (int row = 0; row < rows; row++) {
                for (int column = 0; column < columns; column++) {
                    turned[slice * size + column * rows + row] = values[slice * size + row * columns + column];
                }
            }
        }
        return turned;
    }

    private static String labels() {
        return String.join(", ", TYPES.stream().map(GgmlType::label).toList());
    }
}
