package io.github.panamallama.bindings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

class NativeLibrariesTest {
    @Test
    void constantsAndLayoutsNeedNoLibrary() {
        assertEquals(2, LlamaH.LLAMA_FTYPE_MOSTLY_Q4_0());
        assertEquals(8, pl_flags.layout().byteSize());
    }

    @Test
    void aFunctionBeforeLoadingSaysThatNothingIsLoaded() {
        var error = assertThrows(ExceptionInInitializerError.class, LlamaH::llama_time_us);
        assertTrue(error.getCause().getMessage().contains("before the native libraries were loaded"), error.getCause()::toString);
    }

    @Test
    void aMissingFileIsNamed() {
        var error = assertThrows(IllegalArgumentException.class, () -> NativeLibraries.open(List.of(Path.of("/no/such/library.so"))));
        assertTrue(error.getMessage().contains("/no/such/library.so"), error::getMessage);
    }
}
