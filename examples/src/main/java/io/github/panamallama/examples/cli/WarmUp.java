package io.github.panamallama.examples.cli;

import java.io.ByteArrayInputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;

/**
 * Runs what users run, so that the JVM can record the classes it loads. The launcher starts it once after a build; what it prints is
 * of no interest, what it loads is.
 */
final class WarmUp {
    private static final String SOURCE = """
            class Point {
                int x() {
                    return\s
                }
            }
            """;

    private WarmUp() {
    }

    public static void main(String[] args) throws Exception {
        var folder = Files.createTempDirectory("panama-llama-warm-up");
        var file = folder.resolve("Point.java");
        try {
            Files.writeString(file, SOURCE);
            run("", "--version");
            run("", "complete", "--help");
            run("", "complete", file + ":3", "-n", "8");
            run("", "complete", file + ":3", "-n", "8", "--json");
            run("", "generate", "-p", "int x = ", "-n", "8", "--regex", "[0-9]+;");
            run("", "generate", "-p", "int x = ", "-n", "8", "--choices", "1,2", "--json");
            run("int x", "tokenize");
            run("Hello\n/stats\nAnd again\n", "chat", "-n", "8");
        } finally {
            Files.deleteIfExists(file);
            Files.deleteIfExists(folder);
        }
    }

    private static void run(String input, String... args) {
        var nowhere = new PrintStream(OutputStream.nullOutputStream(), false, StandardCharsets.UTF_8);
        var shell = new Shell(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)), nowhere,
                new PrintStream(System.err, true, StandardCharsets.UTF_8), false);
        int code = Main.run(shell, new Interrupts(), args);
        if (code != Main.OK) {
            throw new IllegalStateException(String.join(" ", args) + " ended with " + code);
        }
    }
}
