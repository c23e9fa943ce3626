package io.github.panamallama.sampling;

import io.github.panamallama.runtime.Row;
import java.lang.foreign.MemorySegment;

/**
 * A second row that shows the allowed logits of another and minus infinity elsewhere; the other stays as it is. The memory is used
 * again for every position, and what a position costs grows with what it allows. Not safe for use by several threads at once.
 */
public final class MaskedRow {
    private static final int WORD_BYTES = 64 * Float.BYTES;
    private static final MemorySegment NOTHING = nothing();

    private Row row;
    private long[] written;    // words of the last mask: what differs from minus infinity

    private static MemorySegment nothing() {
        var row = new Row(64);
        for (int i = 0; i < 64; i++) {
            row.set(i, Float.NEGATIVE_INFINITY);
        }
        return row.segment();
    }

    /** The allowed part of {@code from}, valid until the next call. */
    public Row of(Row from, TokenMask mask) {
        if (from.size() != mask.size()) {
            throw new IllegalArgumentException("a mask of " + mask.size() + " tokens does not fit a row of " + from.size());
        }
        if (row == null || row.size() != from.size()) {
            row = new Row(from.size());
            written = new long[mask.words().length];
            for (int i = 0; i < written.length; i++) {
                fill(i);
            }
        }
        var words = mask.words();
        var source = from.segment();
        var target = row.segment();
        for (int i = 0; i < words.length; i++) {
            long word = words[i];
            if (word == 0 && written[i] == 0) {
                continue;
            }
            int first = i << 6;
            int count = Math.min(64, row.size() - first);
            if (Long.bitCount(word) == count) {
                MemorySegment.copy(source, first * 4L, target, first * 4L, count * 4L);
            } else {
                if (written[i] != 0) {
                    fill(i);
                }
                for (long rest = word; rest != 0; rest &= rest - 1) {
                    int token = first + Long.numberOfTrailingZeros(rest);
                    row.set(token, from.get(token));
                }
            }
            written[i] = word;
        }
        return row;
    }

    private void fill(int word) {
        long at = (long) word * WORD_BYTES;
        MemorySegment.copy(NOTHING, 0, row.segment(), at, Math.min(WORD_BYTES, row.size() * 4L - at));
    }
}
