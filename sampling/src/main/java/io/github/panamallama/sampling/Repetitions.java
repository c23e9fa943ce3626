package io.github.panamallama.sampling;

/**
 * What {@link SamplerOptions.Dry} subtracts after a history: for each token that once followed what the text ends with, by the longest
 * such end. Linear in the window; allocates only while the window grows. One caller at a time.
 */
final class Repetitions {
    /** Powers stay below the largest float. */
    private static final double LARGEST_EXPONENT = Math.log(Float.MAX_VALUE);

    private final SamplerOptions.Dry dry;
    private final Breakers breakers;
    private int[] lengths = new int[0];    // by how far back: the end that ends there too
    private final TokenCounts found = new TokenCounts();    // by next token: the longest, plus 1

    Repetitions(SamplerOptions.Dry dry, Breakers breakers) {
        this.dry = dry;
        this.breakers = breakers;
    }

    /** One of this history's own; the breakers are shared. */
    Repetitions fork() {
        return new Repetitions(dry, breakers);
    }

    int size() {
        return found.size();
    }

    int token(int i) {
        return found.token(i);
    }

    /** What the {@code i}-th token loses of its logit. */
    float penalty(int i) {
        int exponent = found.count(i) - 1 - dry.allowedLength();
        if (dry.base() > 1.000001f) {
            exponent = Math.min(exponent, (int) (LARGEST_EXPONENT / Math.log(dry.base())));
        }
        return (float) (dry.multiplier() * Math.pow(dry.base(), exponent));
    }

    /** Looks at the first {@code accepted} tokens of a history. */
    void find(int[] history, int accepted) {
        found.clear();
        int window = Math.min(accepted, dry.lastN());
        if (window <= dry.allowedLength()) {
            return;
        }
        int limit = breakers.since(history, accepted, window);
        if (limit < dry.allowedLength()) {
            return;
        }
        if (lengths.length < window) {
            lengths = new int[2 * window];
        }
        measure(history, accepted, window);
        for (int back = 1; back < window; back++) {
            int length = Math.min(lengths[back], limit);
            int next = history[accepted - back];
            if (length >= dry.allowedLength() && !breakers.breaks(next)) {
                found.raise(next, length + 1);
            }
        }
    }

    /**
     * The Z function of the reversed window: {@code lengths[back]} tokens before the place {@code back} tokens from the end are those
     * before the end.
     */
    private void measure(int[] history, int accepted, int window) {
        int last = accepted - 1;
        int from = 0;    // of the match that reaches farthest back, and its end
        int to = 0;
        for (int back = 1; back < window; back++) {
            int length = back < to ? Math.min(lengths[back - from], to - back) : 0;
            while (back + length < window && history[last - length] == history[last - back - length]) {
                length++;
            }
            lengths[back] = length;
            if (back + length > to) {
                from = back;
                to = back + length;
            }
        }
    }
}
