package io.github.panamallama.runtime;

import java.util.Arrays;
import java.util.Objects;

/**
 * A run of tokens to evaluate at the end of one sequence, and the positions whose logits are wanted.
 *
 * <p>The arrays are read until {@link Engine#decode} returns; they are not copied.
 */
public final class Append {
    final Sequence sequence;
    final int[] tokens;
    final Row last;
    final Row[] rows;

    private Append(Sequence sequence, int[] tokens, Row last, Row[] rows) {
        this.sequence = Objects.requireNonNull(sequence, "sequence");
        this.tokens = Objects.requireNonNull(tokens, "tokens");
        this.last = last;
        this.rows = rows;
        if (tokens.length == 0) {
            throw new IllegalArgumentException("nothing to append: the run has no tokens");
        }
    }

    /**
     * Appends {@code tokens} and gives the logits after the last of them.
     *
     * @param last receives the logits {@code [n_vocab]} that follow the last token; null when they are not wanted
     */
    public static Append of(Sequence sequence, int[] tokens, Row last) {
        return new Append(sequence, tokens, last, null);
    }

    /**
     * Appends {@code tokens} and gives the logits after each of them.
     *
     * @param rows one row per token; a null element means that these logits are not wanted
     */
    public static Append all(Sequence sequence, int[] tokens, Row[] rows) {
        if (rows.length != tokens.length) {
            throw new IllegalArgumentException(rows.length + " rows for " + tokens.length + " tokens; give one per token");
        }
        return new Append(sequence, tokens, null, rows);
    }

    @Override
    public String toString() {
        return "Append" + Arrays.toString(tokens);
    }
}
