package io.github.panamallama.sampling.automaton;

import java.util.Arrays;

/** A partition of the 256 bytes: bytes of one class are the same to some automaton state. */
final class ByteClasses {
    static final ByteClasses ONE = new ByteClasses(new byte[256]);

    /** The class of each byte, numbered by first appearance. */
    final byte[] of;
    /** Some byte of each class. */
    final byte[] some;
    private final int hash;

    private ByteClasses(byte[] raw) {
        var renamed = new int[256];
        Arrays.fill(renamed, -1);
        of = new byte[256];
        var first = new byte[256];
        int n = 0;
        for (int b = 0; b < 256; b++) {
            int c = raw[b] & 0xff;
            if (renamed[c] < 0) {
                first[n] = (byte) b;
                renamed[c] = n++;
            }
            of[b] = (byte) renamed[c];
        }
        some = Arrays.copyOf(first, n);
        hash = Arrays.hashCode(of);
    }

    static ByteClasses of(ByteSet set) {
        var raw = new byte[256];
        for (int b = 0; b < 256; b++) {
            raw[b] = (byte) (set.contains(b) ? 1 : 0);
        }
        return new ByteClasses(raw);
    }

    /** The digits each for itself. */
    static ByteClasses digits() {
        var raw = new byte[256];
        for (int d = 0; d < 10; d++) {
            raw['0' + d] = (byte) (d + 1);
        }
        return new ByteClasses(raw);
    }

    /** The coarsest partition finer than both. */
    ByteClasses meet(ByteClasses other) {
        if (other == ONE || other == this) {
            return this;
        }
        if (this == ONE) {
            return other;
        }
        int n = 0;
        var raw = new byte[256];
        var seen = new int[some.length * other.some.length];
        for (int b = 0; b < 256; b++) {
            int pair = (of[b] & 0xff) * other.some.length + (other.of[b] & 0xff);
            if (seen[pair] == 0) {
                seen[pair] = ++n;
            }
            raw[b] = (byte) (seen[pair] - 1);
        }
        return new ByteClasses(raw);
    }

    int size() {
        return some.length;
    }

    @Override
    public boolean equals(Object o) {
        return o instanceof ByteClasses other && Arrays.equals(of, other.of);
    }

    @Override
    public int hashCode() {
        return hash;
    }
}
