package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.bindings.LlamaH;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

/** A vocabulary read from a GGUF file without the rest of the model. */
record VocabularyFile(Model model) implements AutoCloseable {
    static VocabularyFile open(Path path) {
        return new VocabularyFile(Model.load(path, ModelOptions.defaults().withVocabularyOnly(true)));
    }

    Vocabulary vocabulary() {
        return model.vocabulary();
    }

    /** Every vocabulary of the vendored tree, and the shipped model's. */
    static Stream<Path> all() throws IOException {
        return Stream.concat(vendored().stream(), Stream.of(shipped()));
    }

    static List<Path> vendored() throws IOException {
        var models = models();
        try (var files = Files.list(models)) {
            var found = files.filter(f -> f.getFileName().toString().matches("ggml-vocab-.*\\.gguf")).sorted().toList();
            assertFalse(found.isEmpty(), "no vocabularies in " + models);
            return found;
        }
    }

    static Path vendored(String name) {
        return models().resolve("ggml-vocab-" + name + ".gguf");
    }

    static Path shipped() {
        var named = System.getProperty("panamallama.test.model");
        var model = named != null ? Path.of(named) : Path.of("..", "models", "java-tiny-f16.gguf");
        assumeTrue(Files.isRegularFile(model), "no shipped model at " + model.toAbsolutePath());
        return model;
    }

    private static Path models() {
        var named = System.getProperty("panamallama.upstream");
        var models = (named != null ? Path.of(named) : Path.of("..", "ggml-src", "upstream")).resolve("models");
        assumeTrue(Files.isDirectory(models), "no upstream tree at " + models.toAbsolutePath() + ": run ggml-src/vendor");
        return models;
    }

    MemorySegment handle() {
        return LlamaH.llama_model_get_vocab(model.handle());
    }

    @Override
    public void close() {
        model.close();
    }
}
