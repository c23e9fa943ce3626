package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class TokenDecoderTest {
    static Stream<Path> all() throws IOException {
        return VocabularyFile.all();
    }

    @ParameterizedTest
    @MethodSource("all")
    void tokenByTokenGivesTheTextOfTheWhole(Path file) throws CharacterCodingException {
        var seed = new Random().nextLong();
        System.out.println("seed " + seed);
        var random = new Random(seed);
        try (var open = VocabularyFile.open(file)) {
            var vocabulary = open.vocabulary();
            for (var round = 0; round < 500; round++) {
                assertWhole(vocabulary, random.ints(random.nextInt(30), 0, vocabulary.size()).toArray());
            }
        }
    }

    /** Sequences in which characters are cut and damaged most of the time. */
    @ParameterizedTest
    @MethodSource("all")
    void characterCutAnywhereAndDamagedAnyhowGivesTheTextOfTheWhole(Path file) throws CharacterCodingException {
        var seed = new Random().nextLong();
        System.out.println("seed " + seed);
        var random = new Random(seed);
        try (var open = VocabularyFile.open(file)) {
            var vocabulary = open.vocabulary();
            var partial = IntStream.range(0, vocabulary.size()).filter(t -> !vocabulary.isHidden(t) && vocabulary.wholeText(t) == null).toArray();
            for (var round = 0; round < 3000 && partial.length > 0; round++) {
                assertWhole(vocabulary, random.ints(1 + random.nextInt(8), 0, partial.length)
                        .map(i -> random.nextInt(10) == 0 ? random.nextInt(vocabulary.size()) : partial[i]).toArray());
            }
        }
    }

    private static void assertWhole(Vocabulary vocabulary, int[] tokens) throws CharacterCodingException {
        var bytes = new ByteArrayOutputStream();
        for (var token : tokens) {
            if (!vocabulary.isHidden(token)) {
                bytes.writeBytes(vocabulary.bytes(token));
            }
        }
        var whole = StandardCharsets.UTF_8.newDecoder().onMalformedInput(CodingErrorAction.REPLACE).decode(ByteBuffer.wrap(bytes.toByteArray())).toString();
        assertEquals(whole, pushed(vocabulary.decoder(), tokens), () -> Arrays.toString(tokens));
        assertEquals(vocabulary.detokenize(tokens), pushed(vocabulary.decoder(true), tokens), () -> Arrays.toString(tokens));
    }

    private static String pushed(TokenDecoder decoder, int[] tokens) {
        var text = new StringBuilder();
        for (var token : tokens) {
            text.append(decoder.push(token));
        }
        return text.append(decoder.flush()).toString();
    }

    @Test
    void characterAppearsWithItsLastByte() {
        try (var open = VocabularyFile.open(VocabularyFile.vendored("llama-spm"))) {
            var vocabulary = open.vocabulary();
            var tokens = vocabulary.tokenize("🦙", false, false);
            assertTrue(tokens.length >= 4, () -> Arrays.toString(tokens));
            var decoder = vocabulary.decoder(true);
            for (var i = 0; i < tokens.length - 1; i++) {
                assertEquals("", decoder.push(tokens[i]));
            }
            assertEquals("🦙", decoder.push(tokens[tokens.length - 1]));
            assertEquals("", decoder.flush());
        }
    }

    @Test
    void generationThatEndsWithinACharacterEndsWithTheReplacementCharacter() {
        try (var open = VocabularyFile.open(VocabularyFile.vendored("llama-spm"))) {
            var vocabulary = open.vocabulary();
            var tokens = vocabulary.tokenize("🦙", false, false);
            var decoder = vocabulary.decoder(true);
            for (var i = 0; i < tokens.length - 1; i++) {
                assertEquals("", decoder.push(tokens[i]));
            }
            assertEquals("\ufffd", decoder.flush());
            assertEquals("", decoder.flush());
        }
    }

    @Test
    void continuationKeepsTheSpaceThatAWholeTextLoses() {
        try (var open = VocabularyFile.open(VocabularyFile.vendored("llama-spm"))) {
            var vocabulary = open.vocabulary();
            var tokens = vocabulary.tokenize("hello", false, false);
            assertEquals("hello", vocabulary.detokenize(tokens));
            assertEquals("hello", pushed(vocabulary.decoder(true), tokens));
            assertEquals(" hello", pushed(vocabulary.decoder(), tokens));
        }
    }

    @Test
    void wholePiecesAreTheSameObjectEachTime() {
        try (var open = VocabularyFile.open(VocabularyFile.vendored("qwen2"))) {
            var vocabulary = open.vocabulary();
            var token = vocabulary.tokenize(" return", false, false)[0];
            var decoder = vocabulary.decoder();
            assertSame(decoder.push(token), decoder.push(token));
        }
    }

    @Test
    void controlTokensGiveNoTextAndBreakNoCharacter() {
        try (var open = VocabularyFile.open(VocabularyFile.vendored("llama-spm"))) {
            var vocabulary = open.vocabulary();
            var decoder = vocabulary.decoder();
            assertEquals("", decoder.push(0xc3 + 3)); // byte tokens begin at 3
            assertEquals("", decoder.push(vocabulary.eos()));
            assertEquals("é", decoder.push(0xa9 + 3));
        }
    }

    @Test
    void tokensOutsideTheVocabularyAreRefused() {
        try (var open = VocabularyFile.open(VocabularyFile.vendored("llama-spm"))) {
            var vocabulary = open.vocabulary();
            var decoder = vocabulary.decoder();
            assertThrows(IndexOutOfBoundsException.class, () -> decoder.push(-1));
            var e = assertThrows(IndexOutOfBoundsException.class, () -> decoder.push(vocabulary.size()));
            assertTrue(e.getMessage().contains(Integer.toString(vocabulary.size())), e.getMessage());
            assertNotEquals("", decoder.push(vocabulary.size() - 1)); // and the decoder goes on
        }
    }
}
