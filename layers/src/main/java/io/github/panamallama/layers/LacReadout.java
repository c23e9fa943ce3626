package io.github.panamallama.layers;

import io.github.panamallama.runtime.CacheReuse;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.Tap;
import java.util.Arrays;
import java.util.Objects;

/**
 * Reads each token out behind its last active block, as the public implementation of {@link Lac} does: that block's output goes to the
 * final norm and the head. Every token runs through all blocks, and its keys and values are those of the whole model.
 *
 * <p>Nothing is saved, on the contrary: a token whose last active block isn't the model's last is evaluated a second time, in a fork whose
 * plan ends behind that block. What such a fork takes over of the cache is exact, because blocks never see what later ones do. Where all
 * blocks are voids the embedding itself would be read out; the model's own logits are taken instead, and counted.
 *
 * <p>One caller at a time.
 */
public final class LacReadout implements AutoCloseable {
    private final Lac lac;
    private final Sequence sequence;
    private final int blocks;
    private Lac.Trace last;
    private long early;
    private long fallbacks;

    /**
     * An empty history.
     *
     * @throws io.github.panamallama.runtime.LayerPlanException if the model isn't a decoder that attends in every block
     */
    public LacReadout(Engine engine, Lac lac) {
        Decoders.require(engine, "LAC");
        this.lac = lac;
        this.blocks = engine.model().layerCount();
        this.sequence = engine.newSequence();
    }

    /** The sequence that is evaluated through all blocks. Append through this object, not to it. */
    public Sequence sequence() {
        return sequence;
    }

    /**
     * Appends tokens.
     *
     * @param row receives the logits {@code [n_vocab]} that follow the last of them, read out behind its last active block
     * @return what LAC says about the last token
     */
    public Lac.Trace append(int[] tokens, Row row) {
        if (tokens.length == 0) {
            throw new IllegalArgumentException("nothing to append: there are no tokens");
        }
        if (tokens.length > 1) {
            sequence.append(Arrays.copyOf(tokens, tokens.length - 1), null);
        }
        return append(tokens[tokens.length - 1], row);
    }

    /** As {@link #append(int[], Row)}, of one token. */
    public Lac.Trace append(int token, Row row) {
        Objects.requireNonNull(row, "row");
        int position = sequence.length();
        sequence.tap(Tap.norms(), lac.sink(blocks, position, trace -> last = trace));
        try {
            sequence.append(token, row);
        } finally {
            sequence.untap();
        }
        int block = last.lastActive();
        if (block < 0) {
            fallbacks++;
        } else if (block < blocks - 1) {
            early++;
            try (var fork = sequence.fork(upTo(block, blocks), CacheReuse.APPROXIMATE)) {
                fork.truncate(position);
                fork.append(token, row);
            }
        }
        return last;
    }

    private static LayerPlan upTo(int last, int blocks) {
        var kept = new boolean[blocks];
        Arrays.fill(kept, 0, last + 1, true);
        return LayerPlan.keeping(kept);
    }

    /** Tokens whose logits came from an earlier block than the last. */
    public long early() {
        return early;
    }

    /** Tokens whose blocks were all voids, and whose logits are the model's own. */
    public long fallbacks() {
        return fallbacks;
    }

    @Override
    public void close() {
        sequence.close();
    }
}
