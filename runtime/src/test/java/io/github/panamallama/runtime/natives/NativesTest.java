package io.github.panamallama.runtime.natives;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.bindings.LlamaH;
import java.nio.file.Files;
import org.junit.jupiter.api.Test;

class NativesTest {
    @Test
    void loadingTwiceGivesTheSameLibraries() {
        Natives.load();
        var folder = Natives.folder();
        Natives.load();
        assertEquals(folder, Natives.folder());
        assertTrue(Files.isDirectory(folder), folder::toString);
        assertEquals("0.5.0", LlamaH.llama_version().getString(0));
    }
}
