package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.bindings.LlamaH;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
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
import org.junit.jupiter.params.AfterParameterizedClassInvocation;
import org.junit.jupiter.params.BeforeParameterizedClassInvocation;
import org.junit.jupiter.params.Parameter;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.MethodSource;

/** What holds for every vocabulary: tokens and texts are upstream's, and decoding token by token gives the text of the whole. */
@ParameterizedClass
@MethodSource("all")
class EveryVocabularyTest {
    private static VocabularyFile open;
    private static Vocabulary vocabulary;

    @Parameter
    Path file;

    static Stream<Path> all() throws IOException {
        return VocabularyFile.all();
    }

    @BeforeParameterizedClassInvocation
    static void open(Path file) {
        open = VocabularyFile.open(file);
        vocabulary = open.vocabulary();
    }

    @AfterParameterizedClassInvocation
    static void close() {
        open.close();
    }

    private static Random seeded() {
        var seed = new Random().nextLong();
        System.out.println("seed " + seed);
        return new Random(seed);
    }

    /** Special tokens in numbers at which the text is cut here and not by upstream. */
    @Test
    void longTextsFullOfSpecialTokensTokenizeAsUpstreamTokenizesThem() {
        var random = seeded();
        var special = IntStream.range(0, vocabulary.size())
                .filter(t -> vocabulary.isControl(t) || vocabulary.isUserDefined(t) || vocabulary.isUnknown(t))
                .mapToObj(vocabulary::text).toList();
        for (var round = 0; round < 6; round++) {
            var text = TextSamples.random(random, 4100 + random.nextInt(12000), special);
            for (var flags = 0; flags < 4; flags++) {
                var add = (flags & 1) != 0;
                var parse = (flags & 2) != 0;
                assertArrayEquals(upstreamTokens(open.handle(), text, add, parse), vocabulary.tokenize(text, add, parse),
                        "add " + add + ", parse " + parse);
            }
        }
    }

    @Test
    void textsOfRandomTokensAreThoseOfUpstream() {
        var random = seeded();
        for (var round = 0; round < 200; round++) {
            var tokens = random.ints(random.nextInt(40), 0, vocabulary.size()).toArray();
            for (var special : new boolean[] {false, true}) {
                var upstream = upstreamText(open.handle(), tokens, special);
                var ours = vocabulary.detokenize(tokens, special);
                if (!ours.equals(upstream)) { // upstream may also tidy spaces
                    var bytes = tidied(bytes(vocabulary, tokens, special));
                    assertEquals(upstream, new String(bytes, StandardCharsets.UTF_8), () -> Arrays.toString(tokens));
                }
            }
        }
    }

    /** What upstream's own test asks of byte-pair vocabularies: the text of a token, tokenized, has the same text. */
    @Test
    void theTextOfATokenTokenizesToTheSameText() {
        var random = seeded();
        if (vocabulary.type() != Vocabulary.Type.BPE && vocabulary.type() != Vocabulary.Type.SPM) {
            return; // the others normalise
        }
        for (var round = 0; round < 2000; round++) {
            var token = random.nextInt(vocabulary.size());
            var text = vocabulary.detokenize(new int[] {token}, true);
            if (text.indexOf('\ufffd') < 0 && text.indexOf('\u2581') < 0) {
                assertEquals(text, vocabulary.detokenize(vocabulary.tokenize(text, false, true), true), () -> "token " + token);
            }
        }
    }

    @Test
    void tokenByTokenGivesTheTextOfTheWhole() throws CharacterCodingException {
        var random = seeded();
        for (var round = 0; round < 500; round++) {
            assertWhole(random.ints(random.nextInt(30), 0, vocabulary.size()).toArray());
        }
    }

    /** Sequences in which characters are cut and damaged most of the time. */
    @Test
    void characterCutAnywhereAndDamagedAnyhowGivesTheTextOfTheWhole() throws CharacterCodingException {
        var random = seeded();
        var partial = IntStream.range(0, vocabulary.size()).filter(t -> !vocabulary.isHidden(t)
                && vocabulary.wholeText(t) == null).toArray();
        for (var round = 0; round < 3000 && partial.length > 0; round++) {
            assertWhole(random.ints(1 + random.nextInt(8), 0, partial.length)
                    .map(i -> random.nextInt(10) == 0 ? random.nextInt(vocabulary.size()) : partial[i]).toArray());
        }
    }

    private static void assertWhole(int[] tokens) throws CharacterCodingException {
        var bytes = new ByteArrayOutputStream();
        for (var token : tokens) {
            if (!vocabulary.isHidden(token)) {
                bytes.writeBytes(vocabulary.bytes(token));
            }
        }
        var whole = StandardCharsets.UTF_8.newDecoder().onMalformedInput(CodingErrorAction.REPLACE).decode(ByteBuffer.wrap(bytes.toByteArray())).toString();
        assertEquals(whole, TokenDecoderTest.pushed(vocabulary.decoder(), tokens), () -> Arrays.toString(tokens));
        assertEquals(vocabulary.detokenize(tokens), TokenDecoderTest.pushed(vocabulary.decoder(true), tokens),
                () -> Arrays.toString(tokens));
    }

    private static int[] upstreamTokens(MemorySegment vocab, String text, boolean add, boolean parse) {
        var utf8 = text.getBytes(StandardCharsets.UTF_8);
        try (var arena = Arena.ofConfined()) {
            var in = arena.allocateFrom(ValueLayout.JAVA_BYTE, utf8);
            var out = arena.allocate(ValueLayout.JAVA_INT, 4L * utf8.length + 16);
            var n = LlamaH.llama_tokenize(vocab, in, utf8.length, out, 4 * utf8.length + 16, add, parse);
            return out.asSlice(0, 4L * n).toArray(ValueLayout.JAVA_INT);
        }
    }

    private static String upstreamText(MemorySegment vocab, int[] tokens, boolean special) {
        try (var arena = Arena.ofConfined()) {
            var in = tokens.length == 0 ? arena.allocate(4) : arena.allocateFrom(ValueLayout.JAVA_INT, tokens);
            var out = arena.allocate(1 << 16);
            var n = LlamaH.llama_detokenize(vocab, in, tokens.length, out, 1 << 16, false, special);
            assertTrue(n >= 0);
            return new String(out.asSlice(0, n).toArray(ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8);
        }
    }

    private static byte[] bytes(Vocabulary vocabulary, int[] tokens, boolean special) {
        var bytes = new ByteArrayOutputStream();
        for (var i = 0; i < tokens.length; i++) {
            if (special || !vocabulary.isHidden(tokens[i])) {
                var piece = vocabulary.bytes(tokens[i]);
                var first = i == 0 && vocabulary.isSpaced(tokens[i])
                        && vocabulary.detokenize(new int[] {tokens[i]}, true).length() < new String(piece, StandardCharsets.UTF_8).length();
                bytes.write(piece, first ? 1 : 0, piece.length - (first ? 1 : 0));
            }
        }
        return bytes.toByteArray();
    }

    /** {@code clean_up_tokenization_spaces} as llama_detokenize does it: three passes, each over the result of the one before. */
    private static byte[] tidied(byte[] text) {
        text = pass(text, (in, i) -> in[i - 1] == ' ' && "?!.,".indexOf(in[i]) >= 0 ? Tidy.DROP_SPACE : Tidy.KEEP);
        text = pass(text, (in, i) -> in[i] == '\'' && in[i - 1] == ' ' && i + 1 < in.length && in[i + 1] == ' '
                ? Tidy.DROP_BOTH_SPACES : Tidy.KEEP);
        return pass(text, (in, i) -> {
            if (in[i - 1] != ' ' || in[i] != '\'' || i + 1 >= in.length) {
                return Tidy.KEEP;
            }
            var rest = new String(in, i + 1, Math.min(2, in.length - i - 1), StandardCharsets.ISO_8859_1);
            return rest.startsWith("s") || rest.startsWith("m") || rest.equals("re") || rest.equals("ve") ? Tidy.DROP_SPACE : Tidy.KEEP;
        });
    }

    private enum Tidy { KEEP, DROP_SPACE, DROP_BOTH_SPACES }

    private interface Rule {
        Tidy at(byte[] in, int i);
    }

    private static byte[] pass(byte[] source, Rule rule) {
        var in = source.clone();
        var size = in.length == 0 ? 0 : 1;
        for (var i = 1; i < in.length; i++) {
            var x = in[i];
            var what = rule.at(in, i);
            if (what != Tidy.KEEP) {
                size--;
            }
            if (what == Tidy.DROP_BOTH_SPACES) {
                in[++i] = 0;
            }
            in[size++] = x;
        }
        return Arrays.copyOf(in, size);
    }
}
