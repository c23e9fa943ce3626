package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.natives.Natives;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.EnumSet;
import java.util.Set;

/**
 * Rows of floats as blocks of a type, by ggml's own quantisers: the way back of {@link Dequantizer}. Any thread may call, several at once.
 */
public final class BlockQuantizer {
    private static final Set<GgmlType> IMPOSSIBLE = EnumSet.of(GgmlType.Q8_1, GgmlType.Q8_K, GgmlType.I8, GgmlType.I16, GgmlType.I32,
            GgmlType.I64, GgmlType.F64);

    private BlockQuantizer() {
    }

    /** Whether there is a quantiser; there is none for integers, F64 and the types that only hold activations (Q8_1, Q8_K). */
    public static boolean supports(GgmlType type) {
        return !IMPOSSIBLE.contains(type);
    }

    /** Whether a type's quantiser needs the importance of each column. */
    public static boolean needsImportance(GgmlType type) {
        Natives.load();
        return LlamaH.ggml_quantize_requires_imatrix(type.id());
    }

    /**
     * Quantises whole rows.
     *
     * @param from       {@code [rows][columns]}, from index 0; all finite
     * @param importance how much an error in each column counts, {@code [columns]}, for instance the mean square of what the column is
     *                   multiplied by; null where all count alike
     * @param to         where the blocks go
     * @throws IllegalArgumentException if the type has no quantiser or one that needs {@code importance}, or a size doesn't fit
     */
    public static void toBlocks(GgmlType type, float[] from, int rows, int columns, float[] importance, MemorySegment to) {
        long elements = (long) rows * columns;
        if (!supports(type)) {
            throw new IllegalArgumentException("nothing can be quantised to " + type.label());
        }
        if (columns % type.blockSize() != 0) {
            throw new IllegalArgumentException("rows of " + columns + " elements; type " + type.label() + " needs a multiple of "
                    + type.blockSize());
        }
        if (elements > from.length || type.bytes(elements) > to.byteSize() || importance != null && importance.length != columns) {
            throw new IllegalArgumentException(rows + " rows of " + columns + " elements as " + type.label() + " take as many floats and "
                    + type.bytes(elements) + " bytes; there are " + from.length + " floats, " + to.byteSize() + " bytes"
                    + (importance == null ? "" : " and importances of " + importance.length + " columns"));
        }
        Natives.load();
        if (importance == null && needsImportance(type)) {
            throw new IllegalArgumentException("type " + type.label() + " needs the importance of each column");
        }
        try (var arena = Arena.ofConfined()) {
            var floats = arena.allocate(ValueLayout.JAVA_FLOAT, elements);
            MemorySegment.copy(from, 0, floats, ValueLayout.JAVA_FLOAT, 0, (int) elements);
            var weights = importance == null ? MemorySegment.NULL : arena.allocateFrom(ValueLayout.JAVA_FLOAT, importance);
            var blocks = to.isNative() ? to : arena.allocate(type.bytes(elements), 32);
            LlamaH.ggml_quantize_chunk(type.id(), floats, blocks, 0, rows, columns, weights);
            if (blocks != to) {
                to.copyFrom(blocks);
            }
        }
    }
}
