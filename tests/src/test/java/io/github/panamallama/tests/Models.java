package io.github.panamallama.tests;

import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/** The models that tests run on. */
final class Models {
    private static final Map<RandomModel.Architecture, Path> RANDOM = new EnumMap<>(RandomModel.Architecture.class);

    private Models() {
    }

    static Path shippedQ8() {
        return DefaultModel.path();
    }

    static Path shippedF16() {
        return Project.HOME.resolve("models/java-tiny-f16.gguf");
    }

    /** A tiny random model, written once per JVM. */
    static synchronized Path random(RandomModel.Architecture architecture) {
        return RANDOM.computeIfAbsent(architecture, key -> {
            try {
                var file = Files.createTempFile("random-" + key.key(), ".gguf");
                file.toFile().deleteOnExit();
                RandomModel.tiny(key).write(file);
                return file;
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        });
    }

    /** The shipped model and a random one of each architecture: every kind of memory that an engine deals with. */
    static List<Path> all() {
        var all = new ArrayList<>(List.of(shippedF16(), shippedQ8()));
        for (var architecture : RandomModel.Architecture.values()) {
            all.add(random(architecture));
        }
        return all;
    }
}
