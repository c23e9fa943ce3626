package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import org.junit.jupiter.api.Test;

class TokenDecoderTest {
    static String pushed(TokenDecoder decoder, int[] tokens) {
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
