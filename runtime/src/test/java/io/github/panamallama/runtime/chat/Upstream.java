package io.github.panamallama.runtime.chat;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** Where upstream's tree lies. */
final class Upstream {
    private Upstream() {}

    static Path root() {
        var named = System.getProperty("panamallama.upstream");
        var root = named != null ? Path.of(named) : Path.of("..", "ggml-src", "upstream");
        assumeTrue(Files.isDirectory(root.resolve("models/templates")), "no upstream tree at " + root.toAbsolutePath()
                + ": run ggml-src/vendor");
        return root;
    }

    static List<Path> templates() throws IOException {
        try (var files = Files.list(root().resolve("models/templates"))) {
            return files.filter(f -> f.toString().endsWith(".jinja")).sorted().toList();
        }
    }
}
