package io.github.panamallama.bench;

import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** The models that are measured: the shipped one, and random ones that are made once and kept in the cache folder. */
final class BenchModels {
    /** Shape of Llama 3.2 1B but for its vocabulary, 32000 tokens and an output matrix of its own: 1.1 billion parameters. */
    private static final RandomModel ONE_B = RandomModel.llama(16, 2048, 32, 8, 8192, 32_000);
    /** Shape of Llama 3.2 3B, with the same difference: 3.0 billion parameters. */
    private static final RandomModel THREE_B = RandomModel.llama(28, 3072, 24, 8, 8192, 32_000);
    /** As wide and deep as small models of these sizes are, with the same vocabulary. */
    private static final Map<String, RandomModel> RANDOM = Map.of("1b", ONE_B, "3b", THREE_B,
            "300m", RandomModel.llama(24, 1024, 16, 4, 2816, 32_000), "100m", RandomModel.llama(12, 768, 12, 4, 2048, 32_000));

    private BenchModels() {
    }

    /**
     * @param shipped whether it is the model that users get
     * @param random  how its weights were made; null where they are not random
     */
    record BenchModel(String name, Path path, String shape, boolean shipped, RandomModel random) {
    }

    /**
     * @param names {@code shipped}; {@code 3b-}, {@code 1b-}, {@code 300m-} or {@code 100m-} and a type of {@link RandomModel#withType}; or
     *     paths
     */
    static List<BenchModel> resolve(List<String> names) throws IOException {
        var models = new ArrayList<BenchModel>();
        for (var name : names) {
            models.add(switch (name.toLowerCase(Locale.ROOT)) {
                case "shipped" -> new BenchModel("shipped, Q8_0", DefaultModel.path(), "llama, 8 layers of 256, 5.8M parameters", true,
                        null);
                case String one when shape(one) != null -> {
                    var shape = shape(one);
                    yield random(one.substring(0, one.indexOf('-')).toUpperCase(Locale.ROOT) + " random, " + shape.type(), shape);
                }
                default -> {
                    var path = Path.of(name).toAbsolutePath();
                    if (!Files.isRegularFile(path)) {
                        throw new IOException("no model '" + name
                                + "'; give shipped, 3b-q8_0, 1b-q8_0, 300m-q8_0 or 100m-q8_0, the same with "
                                + "another type, or the path of a GGUF file");
                    }
                    yield new BenchModel(path.getFileName().toString(), path, path.toString(), false, null);
                }
            });
        }
        return models;
    }

    /** The random model of a size and a type; null if the name has neither. */
    private static RandomModel shape(String name) {
        int dash = name.indexOf('-');
        var shape = dash < 0 ? null : RANDOM.get(name.substring(0, dash));
        var type = dash < 0 ? null : GgmlType.byName(name.substring(dash + 1)).orElse(null);
        return shape == null || type == null ? null : shape.withType(type);
    }

    /** The same shape in another type. */
    static BenchModel inType(BenchModel model, GgmlType type) throws IOException {
        return random(model.name().replace(model.random().type().toString(), type.toString()), model.random().withType(type));
    }

    private static BenchModel random(String name, RandomModel shape) throws IOException {
        return new BenchModel(name, cached(shape), String.format(Locale.ROOT,
                "random llama, %d layers of %d, %d heads, %d key-value heads, feed-forward %d, %d tokens, %.2fB parameters",
                shape.layers(), shape.width(), shape.heads(), shape.keyValueHeads(), shape.feedForward(), shape.vocabularySize(),
                shape.parameterCount() / 1e9), false, shape);
    }

    /** The file of a random model; its name holds everything that its content depends on. */
    static Path cached(RandomModel shape) throws IOException {
        var folder = Files.createDirectories(cacheRoot().resolve("bench"));
        var file = folder.resolve(String.format(Locale.ROOT, "random-%s-%dx%d-h%d-%d-%d-f%d-v%d-c%d-%s-s%d.gguf", shape.architecture()
                .key(), shape.layers(), shape.width(), shape.heads(), shape.keyValueHeads(), shape.headSize(), shape.feedForward(),
                shape.vocabularySize(), shape.contextLength(), shape.type().label(), shape.seed()));
        if (!Files.exists(file) || Files.size(file) != shape.fileSize()) {
            System.out.println("writing " + file + " (" + shape.fileSize() / 1_000_000 + " MB)");
            var unfinished = Files.createTempFile(folder, "random", ".part");
            try {
                shape.write(unfinished);
                Files.move(unfinished, file, StandardCopyOption.REPLACE_EXISTING);
            } finally {
                Files.deleteIfExists(unfinished);
            }
        }
        return file;
    }

    /** The same rule as for the natives. */
    private static Path cacheRoot() {
        var own = System.getenv("PANAMA_LLAMA_CACHE");
        if (own != null && !own.isEmpty()) {
            return Path.of(own);
        }
        var xdg = System.getenv("XDG_CACHE_HOME");
        if (xdg != null && !xdg.isEmpty()) {
            return Path.of(xdg, "panama-llama");
        }
        var home = System.getProperty("user.home");
        return System.getProperty("os.name").startsWith("Mac")
                ? Path.of(home, "Library", "Caches", "panama-llama") : Path.of(home, ".cache", "panama-llama");
    }
}
