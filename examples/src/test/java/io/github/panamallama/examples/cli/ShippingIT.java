package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** The ways in which the program can be shipped, each run as a process with a cache of its own: natives and model are unpacked there. */
@Timeout(180)
@DisabledOnOs(OS.WINDOWS)   // where loaded libraries can't be deleted with the temporary folder
class ShippingIT {
    private static final String APP = Path.of("target", "app").toAbsolutePath().toString();
    private static final String MAIN = "io.github.panamallama.examples.cli.Main";
    private static final List<String> MODULE = List.of("--module-path", APP,
            "--enable-native-access=panamallama.bindings,panamallama.runtime,org.jline.terminal.ffm", "-m", "panamallama.examples/" + MAIN);
    /** What the program needs of the JDK; README.md names them. */
    private static final String JDK_MODULES = "java.desktop,java.net.http,java.sql,jdk.management,jdk.unsupported";

    @TempDir
    Path folder;

    private void completes(Path java, List<String> options) throws Exception {
        var file = Files.writeString(folder.resolve("Point.java"), "class Point {\n    int x() {\n        return \n    }\n}\n");
        var arguments = List.of("complete", file + ":3", "-n", "4", "--temp", "0");
        var command = Stream.of(List.of(java.toString()), options, arguments).flatMap(List::stream).toList();
        var builder = new ProcessBuilder(command).redirectError(folder.resolve("err").toFile());
        builder.environment().put("PANAMA_LLAMA_CACHE", folder.resolve("cache").toString());
        var process = builder.start();
        var out = new String(process.getInputStream().readAllBytes());
        assertEquals(0, process.waitFor(), () -> err() + command);
        assertFalse(out.isBlank());
        assertEquals("", err(), "no warnings of the JVM");
        try (var unpacked = Files.list(folder.resolve("cache/unpacked"))) {
            assertEquals(1, unpacked.count());
        }
    }

    private String err() {
        try {
            return Files.readString(folder.resolve("err"));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static Path java(Path home) {
        return home.resolve("bin").resolve("java");
    }

    private static Path thisJdk() {
        return Path.of(System.getProperty("java.home"));
    }

    @Test
    void runsOnTheModulePath() throws Exception {
        completes(java(thisJdk()), MODULE);
    }

    /** jinjava and some others are no modules, so that they can't be linked into an image; the image holds what they need of the JDK. */
    @Test
    void runsOnAnImageOfJlink() throws Exception {
        var image = folder.resolve("image");
        // a process: this one runs on a patched module, from whose JDK nothing is linked
        var jlink = new ProcessBuilder(thisJdk().resolve("bin").resolve("jlink").toString(), "--add-modules", JDK_MODULES, "--strip-debug",
                "--no-header-files", "--no-man-pages", "--output", image.toString()).redirectErrorStream(true).start();
        var messages = new String(jlink.getInputStream().readAllBytes());
        assertEquals(0, jlink.waitFor(), messages);
        completes(java(image), MODULE);
        completes(java(image), List.of("--enable-native-access=ALL-UNNAMED", "-cp", APP + "/*", MAIN));
    }

    @Test
    void runsAsOneJar() throws Exception {
        Path jar;
        try (var files = Files.list(Path.of("target"))) {
            jar = files.filter(file -> file.toString().endsWith("-all.jar")).findFirst().orElse(null);
        }
        assumeTrue(jar != null, "only mvn -Pdist makes the jar with everything");
        completes(java(thisJdk()), List.of("-jar", jar.toAbsolutePath().toString()));
    }
}
