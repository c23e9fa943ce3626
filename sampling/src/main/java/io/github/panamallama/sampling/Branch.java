package io.github.panamallama.sampling;

import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;

/**
 * What a generation evaluates on, a growing run of tokens: a sequence of the engine, or something that stands before one.
 * {@link Generator} handles {@link io.github.panamallama.runtime.ContextFullException} and
 * {@link io.github.panamallama.runtime.DecodeCancelledException} of both appends.
 */
public interface Branch {
    /** A sequence as it is; full when it is as long as its engine's context. */
    static Branch of(Sequence sequence) {
        return new Branch() {
            @Override
            public void append(int[] tokens, Row last) {
                sequence.append(tokens, last);
            }

            @Override
            public void append(int token, Row row) {
                sequence.append(token, row);
            }

            @Override
            public boolean full() {
                return sequence.length() >= sequence.engine().contextSize();
            }

            @Override
            public void cancel() {
                sequence.cancel();
            }
        };
    }

    /** Evaluates tokens and fills {@code last} with the logits after the last one. */
    void append(int[] tokens, Row last);

    /** Evaluates one token and fills {@code row} with the logits after it. */
    void append(int token, Row row);

    /** Whether no further token can be appended. */
    boolean full();

    /** Ends an append in flight, from any thread. */
    void cancel();
}
