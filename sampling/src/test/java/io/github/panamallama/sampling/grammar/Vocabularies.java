package io.github.panamallama.sampling.grammar;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.Vocabulary;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ConcurrentHashMap;

/** Vocabularies for tests: llama.cpp's, and small ones made up. */
final class Vocabularies {
    private static final Map<String, Model> OPEN = new ConcurrentHashMap<>();

    private Vocabularies() {}

    static Path upstream() {
        var named = System.getProperty("panamallama.upstream");
        var tree = named != null ? Path.of(named) : Path.of("..", "ggml-src", "upstream");
        assumeTrue(Files.isDirectory(tree), "no upstream tree at " + tree.toAbsolutePath() + ": run ggml-src/vendor");
        return tree;
    }

    static Vocabulary vendored(String name) {
        var path = upstream().resolve("models").resolve("ggml-vocab-" + name + ".gguf");
        return OPEN.computeIfAbsent(name, _ -> Model.load(path, ModelOptions.defaults().withVocabularyOnly(true))).vocabulary();
    }

    /** All bytes, some longer tokens of {@code alphabet}, cut characters, one control token (the last but one) and one end (the last). */
    static GrammarVocabulary synthetic(Random random, String alphabet, int longer) {
        var pieces = new ArrayList<byte[]>();
        for (int b = 0; b < 256; b++) {
            pieces.add(new byte[] {(byte) b});
        }
        var characters = alphabet.codePoints().toArray();
        for (int i = 0; i < longer; i++) {
            var s = new StringBuilder();
            for (int n = 1 + random.nextInt(5); n > 0; n--) {
                s.appendCodePoint(characters[random.nextInt(characters.length)]);
            }
            var bytes = s.toString().getBytes(StandardCharsets.UTF_8);
            int from = random.nextInt(4) == 0 ? random.nextInt(bytes.length) : 0;
            int to = random.nextInt(4) == 0 ? from + 1 + random.nextInt(bytes.length - from) : bytes.length;
            pieces.add(Arrays.copyOfRange(bytes, from, to));
        }
        pieces.add(new byte[0]);
        pieces.add("</s>".getBytes(StandardCharsets.UTF_8));
        return GrammarVocabulary.of(pieces.toArray(byte[][]::new), pieces.size() - 1);
    }
}
