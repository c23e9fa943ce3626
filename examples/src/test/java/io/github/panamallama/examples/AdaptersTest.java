package io.github.panamallama.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AdaptersTest {
    @Test
    void theReadmeShowsThisProgram() throws Exception {
        var source = Files.readString(Path.of("src/main/java/io/github/panamallama/examples/Adapters.java"));
        var program = source.substring(source.indexOf("import"));
        assertTrue(Files.readString(Path.of("../README.md")).contains("```java\n" + program + "```\n"), "the README has another program");
    }

    @Test
    void itWritesOtherTextUnderTheAdapter(@TempDir Path folder) {
        var file = RandomAdapter.of(1).write(GgufFile.read(DefaultModel.path()), folder.resolve("house-style.gguf"));
        var before = System.out;
        var out = new ByteArrayOutputStream();
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        try {
            Adapters.main(new String[] {file.toString()});
        } finally {
            System.setOut(before);
        }
        var parts = out.toString(StandardCharsets.UTF_8).split("--- .*\n");
        assertEquals(4, parts.length, out.toString(StandardCharsets.UTF_8));
        assertNotEquals(parts[1], parts[2]);
    }
}
