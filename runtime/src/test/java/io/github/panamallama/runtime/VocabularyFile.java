package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_model_params;
import io.github.panamallama.runtime.natives.NativeError;
import io.github.panamallama.runtime.natives.Natives;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

/** A vocabulary read from a GGUF file without the rest of the model. */
record VocabularyFile(String name, MemorySegment model, Vocabulary vocabulary) implements AutoCloseable {
    static VocabularyFile open(Path path) {
        Natives.load();
        var error = new NativeError();
        try (var arena = Arena.ofConfined()) {
            var parameters = LlamaH.llama_model_default_params(arena);
            llama_model_params.vocab_only(parameters, true);
            var paths = arena.allocateFrom(LlamaH.C_POINTER, arena.allocateFrom(path.toString()));
            var model = LlamaH.pl_model_load(paths, 1, parameters, error.segment());
            error.check("load " + path);
            var name = path.getFileName().toString().replaceFirst("^ggml-vocab-", "").replaceFirst("\\.gguf$", "");
            return new VocabularyFile(name, model, new Vocabulary(LlamaH.llama_model_get_vocab(model)));
        }
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
        return LlamaH.llama_model_get_vocab(model);
    }

    @Override
    public void close() {
        vocabulary.close();
        LlamaH.pl_model_free(model);
    }
}
