package io.github.panamallama.sampling.automaton;

/** An immutable set of bytes. */
record ByteSet(long w0, long w1, long w2, long w3) {
    static final ByteSet NONE = new ByteSet(0, 0, 0, 0);
    static final ByteSet ALL = new ByteSet(-1, -1, -1, -1);

    static ByteSet of(int b) {
        return range(b, b);
    }

    static ByteSet range(int first, int last) {
        var w = new long[4];
        for (int b = first; b <= last; b++) {
            w[b >> 6] |= 1L << b;
        }
        return new ByteSet(w[0], w[1], w[2], w[3]);
    }

    boolean contains(int b) {
        long w = switch (b >> 6) {
            case 0 -> w0;
            case 1 -> w1;
            case 2 -> w2;
            default -> w3;
        };
        return (w >>> b & 1) != 0;
    }

    boolean isEmpty() {
        return (w0 | w1 | w2 | w3) == 0;
    }

    ByteSet or(ByteSet o) {
        return new ByteSet(w0 | o.w0, w1 | o.w1, w2 | o.w2, w3 | o.w3);
    }

    ByteSet and(ByteSet o) {
        return new ByteSet(w0 & o.w0, w1 & o.w1, w2 & o.w2, w3 & o.w3);
    }
}
