package io.github.panamallama.runtime;

import java.util.Arrays;
import java.util.Objects;

/**
 * As which variant of the model each position of a sequence is evaluated: spans, each from a position up to the next one's. Together with
 * the tokens it says what the cells of the cache are worth, and when they have to be computed again it says how. Immutable.
 */
final class Adaptation {
    /** The model as it is, everywhere. */
    static final Adaptation NONE = of(Variant.PLAIN);

    private final int[] from;       // ascending, from 0 on
    private final Variant[] variants;

    private Adaptation(int[] from, Variant[] variants) {
        this.from = from;
        this.variants = variants;
    }

    /** One variant everywhere. */
    static Adaptation of(Variant variant) {
        return new Adaptation(new int[1], new Variant[] {variant});
    }

    /** The same up to {@code position}, and {@code variant} from there on. */
    Adaptation then(int position, Variant variant) {
        int keep = 0;
        while (keep < from.length && from[keep] < position) {
            keep++;
        }
        if (keep > 0 && variants[keep - 1].equals(variant)) {
            return keep == from.length ? this : new Adaptation(Arrays.copyOf(from, keep), Arrays.copyOf(variants, keep));
        }
        var positions = Arrays.copyOf(from, keep + 1);
        var after = Arrays.copyOf(variants, keep + 1);
        positions[keep] = position;
        after[keep] = variant;
        return new Adaptation(positions, after);
    }

    /** Length of the longest beginning, at most {@code length} positions, that both evaluate as the same variants. */
    int common(Adaptation other, int length) {
        int i = 0;
        int j = 0;
        int position = 0;
        while (position < length && variants[i].equals(other.variants[j])) {
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

    Variant variant(int span) {
        return variants[span];
    }

    /** The plan at a position, null for every block once. */
    LayerPlan plan(int position) {
        return variants[span(position)].plan();
    }

    /** The first position behind {@code position} that has another plan. */
    int planEnd(int position) {
        int span = span(position);
        var plan = variants[span].plan();
        do {
            span++;
        } while (span < from.length && Objects.equals(variants[span].plan(), plan));
        return span < from.length ? from[span] : Integer.MAX_VALUE;
    }

    private int span(int position) {
        int span = from.length - 1;
        while (span > 0 && from[span] > position) {
            span--;
        }
        return span;
    }
}
