package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.sampling.track.Tally;
import io.github.panamallama.sampling.track.Track;
import java.util.Arrays;

/** Who proposes the tokens that a {@link SpeculativeRun} verifies: gives rows behind the history and behind what was drafted. */
interface Drafter {
    /**
     * Goes to the end of the history, of which the last token at least is not evaluated by the main track.
     *
     * @param row receives what follows it
     * @return false when this drafter doesn't draft now
     * @throws ContextFullException when there is no room to draft
     */
    boolean follow(Ints history, Row row);

    /**
     * Goes one drafted token further.
     *
     * @throws ContextFullException when there is no room to draft more
     */
    void append(int token, Row row);

    /** Nothing more is drafted behind this history; what was is about to be verified. */
    default void drafted() {
    }

    Tally tally();

    void close();

    /** A second model, which reads along. */
    static Drafter model(Track main, Track draft) {
        int[] prefix = main.tokens();
        return new Drafter() {
            private final Ints drafted = new Ints();
            private int start;      // of the track's tokens, those before the drafted ones
            private boolean full;

            @Override
            public boolean follow(Ints history, Row row) {
                if (full) {
                    return false;
                }
                int valid = start;
                for (int i = 0; i < drafted.size() && valid < prefix.length + history.size(); i++, valid++) {
                    if (history.get(valid - prefix.length) != drafted.get(i)) {
                        break;
                    }
                }
                // the text may have gone on as a draft that was longer than the main track had room for: the last row is wanted again
                valid = Math.min(Math.min(valid, draft.length()), prefix.length + history.size() - 1);
                draft.truncate(valid);
                drafted.clear();
                start = prefix.length + history.size();
                int[] due = valid < prefix.length ? Arrays.copyOfRange(prefix, valid, start) : history.from(valid - prefix.length);
                if (valid < prefix.length) {
                    System.arraycopy(history.toArray(), 0, due, prefix.length - valid, history.size());
                }
                evaluate(due, row);
                return true;
            }

            @Override
            public void append(int token, Row row) {
                evaluate(new int[] {token}, row);
                drafted.add(token);
            }

            private void evaluate(int[] tokens, Row row) {
                try {
                    draft.append(tokens, row);
                } catch (ContextFullException e) {
                    full = true; // it stays behind from now on
                    throw e;
                }
            }

            @Override
            public Tally tally() {
                return draft.tally();
            }

            @Override
            public void close() {
                draft.close();
            }
        };
    }

    /** The main model's own MTP head, asked for {@code length} tokens at a time. */
    static Drafter head(Track main, int length) {
        int base = main.length();
        return new Drafter() {
            private final Tally tally = new Tally();
            private int[] tokens = {};

            @Override
            public boolean follow(Ints history, Row row) {
                tokens = history.from(main.length() - base);
                if (tokens.length + length - 1 > Sequence.MAX_DRAFT) {
                    return false; // a long forced text, to which the main model comes first
                }
                main.draft(tokens, row);
                tally.add(tokens.length);
                return true;
            }

            @Override
            public void append(int token, Row row) {
                tokens = Arrays.copyOf(tokens, tokens.length + 1);
                tokens[tokens.length - 1] = token;
                main.draft(tokens, row);
                tally.add(1);
            }

            @Override
            public Tally tally() {
                return tally;
            }

            @Override
            public void close() {
                // belongs to the main track
            }
        };
    }

    /**
     * The main model with another plan. Every draft is a new branch: that costs a copy of cell ids, where one that was kept would have to
     * evaluate the last drafted token as well, and would go on behind keys and values of its own plan.
     */
    static Drafter plan(Track main, LayerPlan plan) {
        int base = main.length();
        return new Drafter() {
            private final Tally tally = new Tally();
            private Track branch;

            @Override
            public boolean follow(Ints history, Row row) {
                branch = main.fork(plan, tally);
                branch.append(history.from(main.length() - base), row);
                return true;
            }

            @Override
            public void append(int token, Row row) {
                branch.append(new int[] {token}, row);
            }

            @Override
            public void drafted() {
                if (branch != null) {
                    branch.close();
                    branch = null;
                }
            }

            @Override
            public Tally tally() {
                return tally;
            }

            @Override
            public void close() {
                drafted();
            }
        };
    }
}
