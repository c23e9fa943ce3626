package io.github.panamallama.quantization;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.stream.Collectors;

/** Models and texts for tests. */
final class TestModels {
    static final Path SHIPPED = Path.of("..", "models", "java-tiny-f16.gguf");

    private TestModels() {
    }

    /** Two blocks whose rows are whole blocks of every type. */
    static Path random(Architecture architecture, Path folder) {
        var path = folder.resolve(architecture + ".gguf");
        RandomModel.tiny(architecture).withLayers(2).withWidth(256).withHeads(4, 2, 64).withFeedForward(512)
                .withType(GgmlType.F32).write(path);
        return path;
    }

    /** The main sources of a module of this project. */
    static String sources(String module) throws IOException {
        var files = new ArrayList<Path>();
        try (var below = Files.walk(Path.of("..", module, "src", "main", "java"))) {
            below.filter(file -> file.toString().endsWith(".java")).sorted().forEach(files::add);
        }
        return files.stream().map(file -> {
            try {
                return Files.readString(file);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }).collect(Collectors.joining("\n"));
    }
}
