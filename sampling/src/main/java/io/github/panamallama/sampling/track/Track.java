package io.github.panamallama.sampling.track;

import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import java.util.Arrays;
import java.util.List;

/**
 * A growing run of tokens with the logits behind them: a {@link Sequence}, or a table of rows in tests. One caller at a time, except
 * for {@link #cancel}. Errors are those of {@link Sequence}.
 */
public interface Track extends AutoCloseable {
    /** The caller's sequence, which stays open when the track is closed. */
    static Track of(Sequence sequence) {
        return new EngineTrack(sequence, new Tally(), false);
    }

    /** A sequence of its own under these adapters, empty at first. */
    static Track open(Engine engine, AdapterSet adapters) {
        return new EngineTrack(engine.newSequence(adapters), new Tally(), true);
    }

    /** Tokens to append to one track, and the rows that are wanted: one element per token, null where none is. */
    record Run(Track track, int[] tokens, Row[] rows) {
        /** With the row behind the last token. */
        public static Run last(Track track, int[] tokens, Row last) {
            var rows = new Row[tokens.length];
            rows[tokens.length - 1] = last;
            return new Run(track, tokens, rows);
        }
    }

    /** Branches that were evaluated behind a track, which can't be used until one is kept or all are dropped. */
    interface Tree extends AutoCloseable {
        /** Appends the branch that ends in {@code node} to the track. */
        void keep(int node);

        @Override
        void close();
    }

    /** Receives the residual stream, before the evaluation of the token returns. Tokens that are evaluated again come again. */
    @FunctionalInterface
    interface Reader {
        /**
         * @param position of the token in its track
         * @param node     of the tree, -1 outside of one
         * @param state    valid during this call only
         */
        void read(int position, int node, float[] state);
    }

    /** Size of the rows. */
    int vocabularySize();

    /** Number of tokens. */
    int length();

    /** A copy of the tokens. */
    int[] tokens();

    /** The longest that a track can become. */
    int contextSize();

    /** Most leaves of a tree, and most tracks that go on at once without being evaluated again. */
    int maxBranches();

    /** Most nodes of a tree. */
    int batchSize();

    /** Evaluates tokens in one batch, as far as they fit. */
    void evaluate(List<Run> runs);

    /** Evaluates branches behind this track; {@code parents} as in {@link io.github.panamallama.runtime.TokenTree}. */
    Tree tree(int[] tokens, int[] parents, Row[] rows);

    /** What the model's own MTP head expects behind this track and {@code tokens}, as {@link Sequence#draft}. */
    void draft(int[] tokens, Row row);

    void truncate(int length);

    /** An independent track with the same tokens under the same adapters, which shares what is cached. The caller closes it. */
    Track fork();

    /**
     * A track with the same tokens and what is cached of them, which goes on with another plan. The caller closes it.
     *
     * @param tally counts what it evaluates
     */
    Track fork(LayerPlan plan, Tally tally);

    /** An independent empty track under the same adapters and with the same plan. The caller closes it. */
    Track fresh();

    /**
     * Hands over the residual stream behind a block, {@code [embeddingSize]}, for every token that this track evaluates from now on; where
     * only tokens whose rows are wanted get so far, for those. Forks are not read. Takes the place of what read before.
     */
    void read(int block, Reader reader);

    /** Ends {@link #read}. */
    void readNothing();

    /** Exchanges tokens and cache with another track of the same kind. */
    void exchange(Track other);

    /** Ends an evaluation in flight, from any thread. */
    void cancel();

    /** What was evaluated by this track, its forks and the track that it was forked from. */
    Tally tally();

    @Override
    void close();

    /** Evaluates tokens behind this track and gives the logits after the last; null if not wanted. */
    default void append(int[] tokens, Row last) {
        evaluate(List.of(Run.last(this, tokens, last)));
    }

    /** The number of tokens at the start that two histories share. */
    static int commonPrefix(int[] a, int[] b) {
        int mismatch = Arrays.mismatch(a, b);
        return mismatch < 0 ? a.length : mismatch;
    }
}
