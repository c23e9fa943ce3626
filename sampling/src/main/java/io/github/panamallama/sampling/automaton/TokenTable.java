package io.github.panamallama.sampling.automaton;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/**
 * A vocabulary prepared for masks: a trie of all tokens that are text and, for each slice, the tokens in it as bits and a trie of the
 * others. A slice is the tokens that hold nothing but whole characters that may stand in any JSON string or line of text, up to some
 * number of characters: where a lexeme takes them all, they need no walk. Immutable.
 */
public final class TokenTable {
    /** What tokens of a slice are made of: all but controls, the quote and the backslash. */
    static final CodePoints PLAIN = CodePoints.range(0x20, CodePoints.MAX).minus(CodePoints.of('"', '\\', 0x7f))
            .minus(CodePoints.SURROGATE);
    /** Counting characters further than this makes hardly a slice larger. */
    static final int LONGEST_COUNTED = 16;
    private static final int[] LENGTHS = {Integer.MAX_VALUE, LONGEST_COUNTED, 8, 4};

    /** Tokens of at most {@code length} plain characters, and a trie of all the others. */
    record Slice(int length, long[] tokens, TokenTrie others) {}

    private final byte[][] pieces;
    private final TokenTrie all;
    private final List<Slice> slices = new ArrayList<>();
    private final int[] byLength;   // plain tokens, longest first
    private final int[] lengths;    // characters of plain tokens, else -1
    private final int longestPlain;

    /** @param pieces bytes by token; null or empty for tokens that are no text. Owned by the table */
    public TokenTable(byte[][] pieces) {
        this.pieces = pieces;
        var boxed = IntStream.range(0, pieces.length).filter(t -> pieces[t] != null && pieces[t].length > 0).boxed()
                .toArray(Integer[]::new);
        Arrays.sort(boxed, (a, b) -> Arrays.compareUnsigned(pieces[a], pieces[b]));
        var sorted = Arrays.stream(boxed).mapToInt(Integer::intValue).toArray();
        var same = new int[pieces.length];
        Arrays.fill(same, -1);
        all = new TokenTrie(sorted, pieces, same);
        lengths = new int[pieces.length];
        Arrays.fill(lengths, -1);
        for (int t : sorted) {
            lengths[t] = plainLength(pieces[t]);
        }
        byLength = Arrays.stream(boxed).filter(t -> lengths[t] >= 0).sorted((a, b) -> lengths[b] - lengths[a])
                .mapToInt(Integer::intValue).toArray();
        longestPlain = byLength.length == 0 ? 0 : lengths[byLength[0]];
        for (int length : LENGTHS) {
            var bits = new long[pieces.length + 63 >> 6];
            for (int t : sorted) {
                if (lengths[t] <= length && lengths[t] >= 0) {
                    bits[t >> 6] |= 1L << t;
                }
            }
            slices.add(new Slice(length, bits, new TokenTrie(Arrays.stream(sorted)
                    .filter(t -> lengths[t] < 0 || lengths[t] > length).toArray(), pieces, same)));
        }
    }

    /** Characters of a token that is plain, else -1. */
    private static int plainLength(byte[] piece) {
        int n = 0;
        for (int i = 0; i < piece.length; n++) {
            int b = piece[i] & 0xff;
            int length = b < 0x80 ? 1 : b < 0xc2 ? 0 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : b < 0xf5 ? 4 : 0;
            if (length == 0 || i + length > piece.length) {
                return -1;
            }
            int c = length == 1 ? b : b & 0x7f >> length;
            for (int k = 1; k < length; k++) {
                if ((piece[i + k] & 0xc0) != 0x80) {
                    return -1;
                }
                c = c << 6 | piece[i + k] & 0x3f;
            }
            if (length == 3 && c < 0x800 || length == 4 && c < 0x10000 || !PLAIN.contains(c)) {
                return -1;
            }
            i += length;
        }
        return n;
    }

    /** Tokens of the vocabulary. */
    public int size() {
        return pieces.length;
    }

    /** The token's bytes, empty if it is no text; not to be changed. */
    public byte[] piece(int token) {
        var piece = pieces[token];
        return piece == null ? new byte[0] : piece;
    }

    /** Characters of the longest plain token. */
    int longestPlain() {
        return longestPlain;
    }

    /** Plain tokens of at most {@code length} characters, as new bits. */
    long[] plainUpTo(int length) {
        var bits = slices.getFirst().tokens.clone();
        for (int t : byLength) {
            if (lengths[t] <= length) {
                break;
            }
            bits[t >> 6] &= ~(1L << t);
        }
        return bits;
    }

    TokenTrie all() {
        return all;
    }

    List<Slice> slices() {
        return slices;
    }
}
