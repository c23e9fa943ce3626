package io.github.panamallama.runtime;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * Turns tokens into text one by one, holding back the bytes of a character until its last byte is there.
 *
 * <p>The texts put together, {@link #flush} at the end included, are the text of all tokens' bytes put together, with U+FFFD for what
 * is not UTF-8. Control tokens give no text unless the decoder is made to spell them. A piece of whole characters, nearly every one,
 * gives the same {@code String} object each time. One per generation, used by one thread at a time.
 */
public final class TokenDecoder {
    private final Vocabulary vocabulary;
    private final boolean spells; // control tokens
    private boolean dropSpace; // the next token is the first, and a space at its start is not part of the text
    private byte[] buffer = new byte[16];
    private int held; // bytes in buffer, the beginning of a character

    TokenDecoder(Vocabulary vocabulary, boolean dropSpace, boolean spells) {
        this.vocabulary = vocabulary;
        this.dropSpace = dropSpace;
        this.spells = spells;
    }

    /**
     * The text that {@code token} completes; {@code ""} while a character lacks bytes, and for control tokens.
     *
     * @throws IndexOutOfBoundsException for a token outside the vocabulary
     */
    public String push(int token) {
        vocabulary.check(token);
        var drop = dropSpace;
        dropSpace = false;
        if (vocabulary.isHidden(token) && !(spells && vocabulary.isControl(token))) {
            return "";
        }
        drop &= vocabulary.isSpaced(token);
        if (held == 0 && !drop) {
            var whole = vocabulary.wholeText(token);
            if (whole != null) {
                return whole;
            }
        }
        var skip = drop ? 1 : 0;
        var size = held + vocabulary.length(token) - skip;
        if (size > buffer.length) {
            buffer = Arrays.copyOf(buffer, Math.max(size, 2 * buffer.length));
        }
        vocabulary.copy(token, skip, buffer, held);
        held = incomplete(buffer, size);
        var text = new String(buffer, 0, size - held, StandardCharsets.UTF_8);
        System.arraycopy(buffer, size - held, buffer, 0, held);
        return text;
    }

    /** U+FFFD if the text ends within a character, else {@code ""}. */
    public String flush() {
        var text = new String(buffer, 0, held, StandardCharsets.UTF_8);
        held = 0;
        return text;
    }

    /**
     * How many bytes at the end may begin a character that further bytes complete: 0 to 3. The leading byte ends whatever stood
     * before it, so that decoding may stop there and go on later with the same result as in one go. What counts as a beginning is
     * what the JDK's decoder takes for one (surrogates included, which it replaces as a whole).
     */
    private static int incomplete(byte[] bytes, int size) {
        for (var n = 1; n <= 3 && n <= size; n++) {
            var lead = bytes[size - n] & 0xff;
            if (lead >= 0x80 && lead < 0xc0) {
                continue; // not the first byte of its character
            }
            var length = lead >= 0xc2 && lead < 0xe0 ? 2 : lead >= 0xe0 && lead < 0xf0 ? 3 : lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
            if (n >= length) {
                return 0;
            }
            if (n >= 2) {
                var second = bytes[size - n + 1] & 0xff;
                if (lead == 0xe0 && second < 0xa0 || lead == 0xf0 && second < 0x90 || lead == 0xf4 && second > 0x8f) {
                    return 0;
                }
            }
            return n;
        }
        return 0;
    }
}
