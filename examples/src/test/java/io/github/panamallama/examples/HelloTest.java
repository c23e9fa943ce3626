package io.github.panamallama.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

class HelloTest {
    @Test
    void theReadmeShowsThisProgram() throws Exception {
        var source = Files.readString(Path.of("src/main/java/io/github/panamallama/examples/Hello.java"));
        var program = source.substring(source.indexOf("import"));
        var readme = Files.readString(Path.of("../README.md"));
        var start = readme.indexOf("```java\n") + "```java\n".length();
        assertEquals(program, readme.substring(start, readme.indexOf("```", start)));
    }

    @Test
    void itCompletesFillsInAndChats() {
        var before = System.out;
        var out = new ByteArrayOutputStream();
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        try {
            Hello.main(new String[0]);
        } finally {
            System.setOut(before);
        }
        var text = out.toString(StandardCharsets.UTF_8);
        assertTrue(text.contains("\nfilled in: "), text);
        assertTrue(text.lines().count() >= 3, text);
    }
}
