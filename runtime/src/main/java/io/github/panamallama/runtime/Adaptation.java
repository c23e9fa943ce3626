package io.github.panamallama.runtime;

import java.util.Arrays;

/**
 * Which adapter set each position of a sequence is evaluated under: spans, each from a position up to the next one's. Together with the
 * tokens it says what the cells of the cache are worth, and when they have to be computed again it says how. Immutable.
 */
final class Adaptation {
    /** The model as it is, everywhere. */
    static final Adaptation NONE = of(AdapterSet.none());

    private final int[] from;       // ascending, from 0 on
    private final AdapterSet[] sets;

    private Adaptation(int[] from, AdapterSet[] sets) {
        this.from = from;
        this.sets = sets;
    }

    /** One set everywhere. */
    static Adaptation of(AdapterSet set) {
        return new Adaptation(new int[1], new AdapterSet[] {set});
    }

    /** The same up to {@code position}, and {@code set} from there on. */
    Adaptation then(int position, AdapterSet set) {
        int keep = 0;
        while (keep < from.length && from[keep] < position) {
            keep++;
        }
        if (keep > 0 && sets[keep - 1].equals(set)) {
            return keep == from.length ? this : new Adaptation(Arrays.copyOf(from, keep), Arrays.copyOf(sets, keep));
        }
        var positions = Arrays.copyOf(from, keep + 1);
        var after = Arrays.copyOf(sets, keep + 1);
        positions[keep] = position;
        after[keep] = set;
        return new Adaptation(positions, after);
    }

    /** Length of the longest beginning, at most {@code length} positions, that both evaluate under the same sets. */
    int common(Adaptation other, int length) {
        int i = 0;
        int j = 0;
        int position = 0;
        while (position < length && sets[i].equals(other.sets[j])) {
            int endI = i + 1 < from.length ? from[i + 1] : Integer.MAX_VALUE;
            int endJ = j + 1 < other.from.length ? other.from[j + 1] : Integer.MAX_VALUE;
            position = Math.min(endI, endJ);
            i += endI == position && i + 1 < from.length ? 1 : 0;
            j += endJ == position && j + 1 < other.from.length ? 1 : 0;
        }
        return Math.min(position, length);
    }

    int spans() {
        return from.length;
    }

    int from(int span) {
        return from[span];
    }

    AdapterSet set(int span) {
        return sets[span];
    }
}
