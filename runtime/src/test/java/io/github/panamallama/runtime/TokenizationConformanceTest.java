package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Tokens are those that upstream expects, for every vocabulary of the vendored tree that comes with expectations. */
class TokenizationConformanceTest {
    private static final String SEPARATOR = "\n__ggml_vocab_test__\n";

    static Stream<Path> expected() throws IOException {
        return VocabularyFile.vendored().stream().filter(f -> Files.exists(Path.of(f + ".inp")));
    }

    @Test
    void theVendoredTreeHasExpectationsForManyVocabularies() throws IOException {
        assertTrue(expected().count() >= 15, "only " + expected().count());
    }

    @ParameterizedTest
    @MethodSource("expected")
    void tokensAreThoseUpstreamExpects(Path file) throws IOException {
        var input = Files.readString(Path.of(file + ".inp"));
        var texts = (input.endsWith(SEPARATOR) ? input.substring(0, input.length() - SEPARATOR.length()) : input).split(SEPARATOR, -1);
        var lines = Files.readAllLines(Path.of(file + ".out"));
        assertEquals(lines.size(), texts.length);
        try (var open = VocabularyFile.open(file)) {
            for (var i = 0; i < texts.length; i++) {
                var tokens = Stream.of(lines.get(i).strip().split(" ")).filter(s -> !s.isEmpty()).mapToInt(Integer::parseInt).toArray();
                assertArrayEquals(tokens, open.vocabulary().tokenize(texts[i], false, false), "\"" + texts[i] + "\"");
            }
        }
    }
}
