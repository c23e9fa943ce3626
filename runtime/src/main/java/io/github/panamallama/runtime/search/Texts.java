package io.github.panamallama.runtime.search;

import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import java.util.Arrays;
import java.util.List;

/** Tokenised texts, evaluated in chunks so that a few rows do for any length. */
public final class Texts {
    private static final int CHUNK = 64;

    private Texts() {
    }

    /** Takes the rows of some positions, before they are used for the next. */
    @FunctionalInterface
    public interface Rows {
        /** @param first the position of {@code rows[0]} */
        void take(int first, Row[] rows);
    }

    /** Rows for {@link #evaluate}, one chunk of them. */
    public static Row[] rows(Engine engine) {
        var rows = new Row[Math.min(CHUNK, engine.options().batchSize())];
        Arrays.setAll(rows, i -> engine.newRow());
        return rows;
    }

    /** Appends the first {@code length} tokens of a text, with the logits behind each of them. */
    public static void evaluate(Sequence sequence, int[] text, int length, Row[] rows, Rows to) {
        for (int at = 0; at < length; at += rows.length) {
            int count = Math.min(rows.length, length - at);
            var part = Arrays.copyOf(rows, count);
            sequence.engine().decode(Append.all(sequence, Arrays.copyOfRange(text, at, at + count), part));
            to.take(at, part);
        }
    }

    /** @throws LlamaException if there is no text, one is empty, or one is longer than the context */
    public static void check(Engine engine, List<int[]> texts) {
        if (texts.isEmpty()) {
            throw new LlamaException("there are no texts to measure on");
        }
        for (int i = 0; i < texts.size(); i++) {
            int length = texts.get(i).length;
            if (length == 0 || length > engine.contextSize()) {
                throw new LlamaException("text " + i + " has " + length + " tokens; it must have 1 to " + engine.contextSize()
                        + ", as many as the context holds. Cut it into several texts");
            }
        }
    }
}
