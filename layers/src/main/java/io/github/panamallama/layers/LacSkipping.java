package io.github.panamallama.layers;

import io.github.panamallama.runtime.CacheReuse;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.Tap;
import java.util.Arrays;

/**
 * Leaves out the blocks that {@link Lac} predicts to be voids, token by token. A token that runs through all blocks gives the flags; the
 * tokens behind it go without its voids, except for those blocks' keys and values, so that the cache has no holes; then comes a token
 * through all blocks again, because a block that doesn't run says nothing about itself.
 *
 * <p>The keys and values of both kinds of tokens stand in one cache ({@link CacheReuse#APPROXIMATE}). The prompt runs through all blocks.
 * A change of plans costs a fork and a new graph.
 *
 * <p>One caller at a time.
 */
public final class LacSkipping implements AutoCloseable {
    private final Lac lac;
    private final int most;
    private final int period;
    private final int blocks;
    private Sequence sequence;
    /** What the last token that ran through all blocks predicts. */
    private LayerPlan predicted;
    /** Tokens since then. */
    private int age;
    private long blocksLeftOut;

    /**
     * An empty history.
     *
     * @param most   blocks that a token goes without, at most; the first and the last block always run
     * @param period every how many tokens one runs through all blocks, at least 2
     * @throws io.github.panamallama.runtime.LayerPlanException if the model isn't a decoder that attends in every block
     */
    public LacSkipping(Engine engine, Lac lac, int most, int period) {
        Decoders.require(engine, "LAC");
        if (most < 0) {
            throw new IllegalArgumentException("at most " + most + " blocks to leave out; it must be 0 or more");
        }
        if (period < 2) {
            throw new IllegalArgumentException("one token in " + period + " through all blocks; it must be one in 2 or more");
        }
        this.lac = lac;
        this.most = most;
        this.period = period;
        this.blocks = engine.model().layerCount();
        this.predicted = LayerPlan.all(blocks);
        this.sequence = engine.newSequence();
    }

    /** The history. Another object after each change of plans; append through this one, not to it. */
    public Sequence sequence() {
        return sequence;
    }

    /** What the next single token will run. */
    public LayerPlan next() {
        return observes() ? LayerPlan.all(blocks) : predicted;
    }

    /** Whether the next single token gives flags. */
    private boolean observes() {
        return age == 0 || age >= period;
    }

    /** Blocks that tokens went without, all tokens together. */
    public long blocksLeftOut() {
        return blocksLeftOut;
    }

    /**
     * Appends tokens that run through all blocks, such as a prompt.
     *
     * @param last receives the logits {@code [n_vocab]} that follow the last of them; null when they are not wanted
     */
    public void append(int[] tokens, Row last) {
        if (tokens.length == 0) {
            throw new IllegalArgumentException("nothing to append: there are no tokens");
        }
        changeTo(LayerPlan.all(blocks));
        if (tokens.length > 1) {
            sequence.append(Arrays.copyOf(tokens, tokens.length - 1), null);
        }
        observe(tokens[tokens.length - 1], last);
    }

    /**
     * Appends one token under the plan that {@link #next} tells.
     *
     * @param row receives the logits {@code [n_vocab]} that follow it; null when they are not wanted
     */
    public void append(int token, Row row) {
        var plan = next();
        changeTo(plan);
        if (observes()) {
            observe(token, row);
            return;
        }
        sequence.append(token, row);
        age++;
        for (int block = 0; block < blocks; block++) {
            blocksLeftOut += plan.runs(block) == 0 ? 1 : 0;
        }
    }

    private void observe(int token, Row row) {
        sequence.tap(Tap.norms(), lac.sink(blocks, sequence.length(), trace -> predicted = Lac.predict(trace, most)));
        try {
            sequence.append(token, row);
        } finally {
            sequence.untap();
        }
        age = 1;
    }

    private void changeTo(LayerPlan plan) {
        if (!sequence.plan().equals(plan)) {
            var old = sequence;
            sequence = old.fork(plan, CacheReuse.APPROXIMATE);
            old.close();
        }
    }

    @Override
    public void close() {
        sequence.close();
    }
}
