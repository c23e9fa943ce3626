package io.github.panamallama.sampling;

import io.github.panamallama.runtime.Row;
import java.util.Arrays;

/** A set of token ids of one vocabulary, as bits: bit {@code id & 63} of word {@code id >> 6}. */
public final class TokenMask {
    private final long[] words;
    private final int size;

    /** No token out of {@code size}. */
    public TokenMask(int size) {
        if (size < 1) {
            throw new IllegalArgumentException("a vocabulary has at least one token, got " + size);
        }
        this.size = size;
        words = new long[(size + 63) >> 6];
    }

    /** Tokens of the vocabulary, allowed or not. */
    public int size() {
        return size;
    }

    public boolean get(int token) {
        return token >= 0 && token < size && (words[token >> 6] >>> token & 1) != 0;
    }

    public void set(int token) {
        words[check(token) >> 6] |= 1L << token;
    }

    public void clear(int token) {
        words[check(token) >> 6] &= ~(1L << token);
    }

    public void clear() {
        Arrays.fill(words, 0);
    }

    public void copyFrom(TokenMask other) {
        sameSize(other);
        System.arraycopy(other.words, 0, words, 0, words.length);
    }

    /** Adds the tokens of {@code other}. */
    public void or(TokenMask other) {
        sameSize(other);
        for (int i = 0; i < words.length; i++) {
            words[i] |= other.words[i];
        }
    }

    /** Allowed tokens. */
    public int cardinality() {
        int n = 0;
        for (long word : words) {
            n += Long.bitCount(word);
        }
        return n;
    }

    public boolean isEmpty() {
        for (long word : words) {
            if (word != 0) {
                return false;
            }
        }
        return true;
    }

    /** The only token, or -1 if there is none or more than one. */
    public int only() {
        int found = -1;
        for (int i = 0; i < words.length; i++) {
            if (words[i] != 0) {
                if (found >= 0 || (words[i] & words[i] - 1) != 0) {
                    return -1;
                }
                found = (i << 6) + Long.numberOfTrailingZeros(words[i]);
            }
        }
        return found;
    }

    /** The lowest token at or above {@code from}, -1 if there is none. */
    public int next(int from) {
        for (int i = from >> 6; i < words.length; i++) {
            long word = i == from >> 6 ? words[i] & -1L << from : words[i];
            if (word != 0) {
                return (i << 6) + Long.numberOfTrailingZeros(word);
            }
        }
        return -1;
    }

    /** Gives every other token's logit the value minus infinity. */
    public void apply(Row row) {
        if (row.size() != size) {
            throw new IllegalArgumentException("a mask of " + size + " tokens does not fit a row of " + row.size());
        }
        for (int i = 0; i < words.length; i++) {
            int end = Math.min(64, size - (i << 6));
            long missing = ~words[i];
            if (end < 64) {
                missing &= (1L << end) - 1;
            }
            for (long rest = missing; rest != 0; rest &= rest - 1) {
                row.set((i << 6) + Long.numberOfTrailingZeros(rest), Float.NEGATIVE_INFINITY);
            }
        }
    }

    /** The bits themselves, for code of this module that fills or copies many at once. */
    public long[] words() {
        return words;
    }

    private int check(int token) {
        if (token < 0 || token >= size) {
            throw new IndexOutOfBoundsException("token " + token + " is outside the vocabulary of " + size);
        }
        return token;
    }

    private void sameSize(TokenMask other) {
        if (other.size != size) {
            throw new IllegalArgumentException("masks of " + other.size + " and " + size + " tokens are of different vocabularies");
        }
    }

    @Override
    public boolean equals(Object o) {
        return o instanceof TokenMask other && other.size == size && Arrays.equals(words, other.words);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(words);
    }

    @Override
    public String toString() {
        return cardinality() + " of " + size + " tokens";
    }
}
