package io.github.panamallama.layers;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Tap;
import io.github.panamallama.runtime.search.Texts;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

/**
 * L2 adaptive computation (LAC, arXiv 2505.14467): tells for each token which blocks make the norm of the residual stream grow by less than
 * {@code alpha} times the range of growth seen in the blocks before. Those are the token's <em>voids</em>. Nothing is trained.
 *
 * <p>LAC itself is a diagnosis: it sees a void only when the block has run. Three uses of it are here:
 * <ul>
 * <li>{@link #trace} records it and changes nothing;
 * <li>{@link LacReadout} reads each token out behind its last active block, as the public implementation does;
 * <li>{@link #skipping} and {@link LacSkipping} really leave blocks out, predicted from the prompt or from earlier tokens. This is not
 *     the paper's.
 * </ul>
 *
 * <p>Growth is signed: a block that shrinks the norm is a void, whatever it does otherwise; and a block can turn the stream without
 * making it longer. {@link BlockInfluence} sees that.
 *
 * @param alpha 0 to 1; with 0 every block that doesn't shrink the norm is active
 */
public record Lac(double alpha) {
    /** The public implementation's. */
    public static final double DEFAULT_ALPHA = 0.8;

    public Lac {
        if (!(alpha >= 0 && alpha <= 1)) {
            throw new IllegalArgumentException("alpha is " + alpha + "; it must be within 0 to 1");
        }
    }

    /** What LAC says about one token. Immutable. */
    public static final class Trace {
        private final int position;
        private final double[] growth;
        private final boolean[] active;
        private final int notFinite;

        private Trace(int position, double[] growth, boolean[] active, int notFinite) {
            this.position = position;
            this.growth = growth;
            this.active = active;
            this.notFinite = notFinite;
        }

        /** Which token of its text this is, from 0 on. */
        public int position() {
            return position;
        }

        /** Blocks of the model. */
        public int blocks() {
            return active.length;
        }

        /** By how much the norm of the residual stream is larger behind a block than before it; negative where it shrinks. */
        public double growth(int block) {
            return growth[block];
        }

        /** Whether a block is active; it is a void otherwise. */
        public boolean active(int block) {
            return active[block];
        }

        /** The last active block, -1 if all are voids. */
        public int lastActive() {
            int last = active.length - 1;
            while (last >= 0 && !active[last]) {
                last--;
            }
            return last;
        }

        /** Blocks whose growth was NaN or infinite. They count as active, and the range takes no notice of them. */
        public int notFinite() {
            return notFinite;
        }
    }

    /**
     * Judges one token.
     *
     * @param norms L2 norms of the residual stream: the embedding's, then that behind each block
     */
    public Trace judge(int position, double... norms) {
        if (norms.length < 2) {
            throw new IllegalArgumentException(norms.length + " norms; the embedding's and that of at least one block are needed");
        }
        int blocks = norms.length - 1;
        var growth = new double[blocks];
        var active = new boolean[blocks];
        int notFinite = 0;
        double least = Double.POSITIVE_INFINITY;
        double most = Double.NEGATIVE_INFINITY;
        for (int block = 0; block < blocks; block++) {
            double delta = norms[block + 1] - norms[block];
            growth[block] = delta;
            if (!Double.isFinite(delta)) {
                active[block] = true;
                notFinite++;
                continue;
            }
            double range = Math.max(0, most - least); // of the blocks before; -infinity and so 0 without any
            active[block] = delta >= alpha * range;
            least = Math.min(least, delta);
            most = Math.max(most, delta);
        }
        return new Trace(position, growth, active, notFinite);
    }

    /** A sink for a tap that reads norms: judges each token, once also if it is evaluated again. */
    Tap.Sink sink(int blocks, int from, Consumer<Trace> to) {
        int[] next = {from};
        return reading -> {
            if (reading.position() != next[0]) {
                return;
            }
            next[0]++;
            var norms = new double[blocks + 1];
            for (int block = -1; block < blocks; block++) {
                norms[block + 1] = reading.norm(block);
            }
            to.accept(judge(reading.position(), norms));
        };
    }

    /**
     * Judges every token of a text, which is evaluated as it always is.
     *
     * @param text tokenised, as long as the context at most
     * @throws LlamaException if the text is empty or too long
     * @throws io.github.panamallama.runtime.LayerPlanException if the model isn't a decoder that attends in every block
     */
    public List<Trace> trace(Engine engine, int[] text) {
        Decoders.require(engine, "LAC");
        Texts.check(engine, List.of(text));
        var traces = new ArrayList<Trace>(text.length);
        try (var sequence = engine.newSequence()) {
            sequence.tap(Tap.norms(), sink(engine.model().layerCount(), 0, traces::add));
            Texts.evaluate(sequence, text, text.length, Texts.rows(engine), (first, rows) -> { }); // with logits, for the last block
        }
        return traces;
    }

    /**
     * A plan for what follows a prompt: leaves out the blocks that are voids for most of its tokens, of equal ones the earlier. The
     * prompt's first token is not asked; a prompt of one token, then, says nothing and keeps all blocks. The first and the last block stay.
     *
     * @param traces of the prompt
     * @param count  blocks to leave out, 0 to the number of blocks less 2
     */
    public static LayerPlan skipping(List<Trace> traces, int count) {
        if (traces.isEmpty()) {
            throw new IllegalArgumentException("there are no traces of a prompt to choose blocks by");
        }
        var active = new double[traces.getFirst().blocks()]; // share of the tokens, times their number
        int asked = 0;
        for (var trace : traces) {
            if (trace.blocks() != active.length) {
                throw new IllegalArgumentException("traces of models with " + active.length + " and " + trace.blocks() + " blocks");
            }
            if (trace.position == 0) {
                continue;
            }
            asked++;
            for (int block = 0; block < active.length; block++) {
                active[block] += trace.active[block] ? 1 : 0;
            }
        }
        var plan = Ranking.withoutLowest(active, count);
        return asked == 0 ? LayerPlan.all(active.length) : plan;
    }

    /**
     * A plan for the tokens behind this one: of its voids leaves out those that grew least, but keeps their keys and values, so that other
     * tokens may run the blocks. The first and the last block stay.
     *
     * @param most blocks to leave out, at most
     */
    static LayerPlan predict(Trace trace, int most) {
        int blocks = trace.blocks();
        int voids = 0;
        var importance = new double[blocks];
        for (int block = 0; block < blocks; block++) {
            importance[block] = trace.active[block] ? Double.POSITIVE_INFINITY : trace.growth[block];
            voids += block > 0 && block < blocks - 1 && !trace.active[block] ? 1 : 0;
        }
        var skipped = Ranking.withoutLowest(importance, Math.min(most, voids));
        var plan = LayerPlan.all(blocks);
        for (int block = 0; block < blocks; block++) {
            plan = skipped.runs(block) == 0 ? plan.skipKeepingCache(block) : plan;
        }
        return plan;
    }
}
