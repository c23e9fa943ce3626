package io.github.panamallama.runtime.gguf;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.runtime.natives.Natives;
import org.junit.jupiter.api.Test;

class GgmlTypeTest {
    private static final int ROUNDED_ACTIVATIONS = 199; // GGML_TYPE_Q8_S24

    @Test
    void everyTypeIsAsNativeCodeHasIt() {
        Natives.load();
        assertEquals(LlamaH.GGML_TYPE_COUNT(), GgmlType.Q2_0.id() + 1, "upstream's types");
        for (int id = 0; id <= GgmlType.S24_T.id(); id++) {
            var type = GgmlType.byId(id);
            if (id == ROUNDED_ACTIVATIONS) {
                assertEquals("q8_s24", LlamaH.ggml_type_name(id).getString(0));
                assertTrue(type.isEmpty(), "no tensor is of a type that is for work buffers alone");
                continue;
            }
            if (LlamaH.ggml_blck_size(id) == 0) {
                assertTrue(type.isEmpty(), "type " + id + " is none");
                assertTrue(GgmlType.describeUnknown(id).contains(id < LlamaH.GGML_TYPE_COUNT() ? "removed" : "unknown"), "type " + id);
                continue;
            }
            assertEquals(LlamaH.ggml_blck_size(id), type.orElseThrow().blockSize(), type.get().label());
            assertEquals(LlamaH.ggml_type_size(id), type.get().blockBytes(), type.get().label());
            assertEquals(LlamaH.ggml_is_quantized(id), type.get().isQuantized(), type.get().label());
            assertEquals(LlamaH.ggml_type_name(id).getString(0), type.get().label());
        }
    }

    @Test
    void typesAreFoundByNameInAnyCase() {
        assertEquals(GgmlType.Q4_K, GgmlType.byName("Q4_K").orElseThrow());
        assertEquals(GgmlType.Q4_K, GgmlType.byName("q4_k").orElseThrow());
        assertTrue(GgmlType.byName("q4").isEmpty());
    }

    @Test
    void bytesCountWholeBlocks() {
        assertEquals(36, GgmlType.Q4_0.bytes(64));
        assertEquals(4.5, GgmlType.Q4_0.bitsPerElement());
        assertThrows(IllegalArgumentException.class, () -> GgmlType.Q4_0.bytes(33));
        assertThrows(IllegalArgumentException.class, () -> GgmlType.F32.bytes(-1));
        assertThrows(ArithmeticException.class, () -> GgmlType.F32.bytes(Long.MAX_VALUE));
    }
}
