package io.github.panamallama.bindings;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class RegenerateTest {
    private static final List<String> HAND_WRITTEN = List.of("Abi.java", "NativeLibraries.java");

    @TempDir
    Path out;

    @Test
    void regenerateGivesTheCheckedInFilesByteForByte() throws Exception {
        var jextract = System.getenv().getOrDefault("JEXTRACT", "jextract");
        var found = Stream.concat(Stream.of(Path.of(jextract)),
                Stream.of(System.getenv("PATH").split(File.pathSeparator)).map(d -> Path.of(d, jextract)))
                .anyMatch(file -> file.isAbsolute() && Files.isExecutable(file));
        assumeTrue(found, "jextract is neither on the PATH nor named by JEXTRACT");

        var builder = new ProcessBuilder("bash", "regenerate", "--out", out.toString()).redirectErrorStream(true);
        builder.environment().put("JAVA_HOME", System.getProperty("java.home"));
        var process = builder.start();
        var text = new String(process.getInputStream().readAllBytes());
        assertEquals(0, process.waitFor(), text);

        var checkedIn = Path.of("src/main/java/io/github/panamallama/bindings");
        var expected = names(checkedIn);
        expected.removeAll(HAND_WRITTEN);
        assertEquals(expected, names(out.resolve("java")));
        for (var name : expected) {
            assertArrayEquals(Files.readAllBytes(checkedIn.resolve(name)), Files.readAllBytes(out.resolve("java").resolve(name)), name);
        }
        assertArrayEquals(Files.readAllBytes(Path.of("../ggml-src/ext/abi.inc")), Files.readAllBytes(out.resolve("abi.inc")), "abi.inc");
    }

    private static TreeSet<String> names(Path folder) throws Exception {
        try (Stream<Path> files = Files.list(folder)) {
            var names = new TreeSet<String>();
            files.forEach(file -> names.add(file.getFileName().toString()));
            return names;
        }
    }
}
