package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.ggml_to_float_t;
import io.github.panamallama.bindings.ggml_type_traits;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.natives.Natives;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/** The values of tensors as floats, by ggml's own conversions. Any thread may call. */
public final class Dequantizer {
    private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private Dequantizer() {
    }

    /** Whether there is a conversion; there is none for integers, F64 and the types that only hold activations (Q8_1, Q8_K). */
    public static boolean supports(GgmlType type) {
        return type == GgmlType.F32 || conversion(type).address() != 0;
    }

    /**
     * Converts the start of a tensor, or of some of its rows.
     *
     * @param from     the bytes of at least {@code elements} elements, in native or Java memory
     * @param to       where the values go, from index 0
     * @param elements how many, a multiple of the type's block size
     * @throws IllegalArgumentException if the type has no conversion, or a size doesn't fit
     */
    public static void toFloats(GgmlType type, MemorySegment from, float[] to, int elements) {
        long bytes = type.bytes(elements);
        if (bytes > from.byteSize() || elements > to.length) {
            throw new IllegalArgumentException(elements + " elements of " + type.label() + " take " + bytes
                    + " bytes and as many floats; there are "
                    + from.byteSize() + " bytes and room for " + to.length + " floats");
        }
        if (type == GgmlType.F32) {
            MemorySegment.copy(from, FLOAT, 0, to, 0, elements);
            return;
        }
        var conversion = conversion(type);
        if (conversion.address() == 0) {
            throw new IllegalArgumentException("values of type " + type.label() + " can't be converted to floats");
        }
        try (var arena = Arena.ofConfined()) {
            var floats = arena.allocate(ValueLayout.JAVA_FLOAT, elements);
            // blocks start with 16-bit scales; mapped tensors are aligned to more
            var source = from.isNative() ? from : arena.allocate(bytes, 32).copyFrom(from.asSlice(0, bytes));
            ggml_to_float_t.invoke(conversion, source, floats, elements);
            MemorySegment.copy(floats, ValueLayout.JAVA_FLOAT, 0, to, 0, elements);
        }
    }

    private static MemorySegment conversion(GgmlType type) {
        Natives.load();
        var traits = LlamaH.ggml_get_type_traits(type.id());
        return ggml_type_traits.to_float(traits.reinterpret(ggml_type_traits.sizeof()));
    }
}
