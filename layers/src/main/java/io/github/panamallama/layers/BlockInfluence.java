package io.github.panamallama.layers;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Tap;
import io.github.panamallama.runtime.search.Texts;
import java.util.List;

/**
 * How much each block of a model turns the residual stream: the mean of {@code 1 - cos(input, output)} over tokens, the "block
 * influence" of ShortGPT (Men et al., arXiv 2403.03853). Costs one evaluation of the texts. The first token of each text is left out:
 * its activations are often a thousand times as large as those of others, and say nothing about them. Immutable.
 *
 * <p>Blocks are judged one by one; what the loss of several does together it does not see. {@link PlanSearch} does.
 */
public final class BlockInfluence {
    private final double[] influence;
    private final long tokens;

    private BlockInfluence(double[] influence, long tokens) {
        this.influence = influence;
        this.tokens = tokens;
    }

    /**
     * Measures on texts, each evaluated once from its beginning.
     *
     * @param texts tokenised, each as long as the context at most
     * @throws LlamaException if a text is empty or too long, or none has a token behind its first
     * @throws io.github.panamallama.runtime.LayerPlanException if the model isn't a decoder that attends in every block
     */
    public static BlockInfluence measure(Engine engine, List<int[]> texts) {
        Decoders.require(engine, "block influence");
        Texts.check(engine, texts);
        var sums = new Sums(engine.model().layerCount());
        var rows = Texts.rows(engine);
        for (int[] text : texts) {
            try (var sequence = engine.newSequence()) {
                sequence.tap(Tap.norms(), sums.sink());
                Texts.evaluate(sequence, text, text.length, rows, (first, part) -> { }); // with logits, or the last block sees one token
            }
        }
        return sums.result();
    }

    /** Adds up what a tap reads. */
    static final class Sums {
        private final double[] sum;
        private final long[] count;

        Sums(int blocks) {
            sum = new double[blocks];
            count = new long[blocks];
        }

        /** For one text. Tokens that are evaluated again count once. */
        Tap.Sink sink() {
            int[] next = {1};
            return reading -> {
                if (reading.position() != next[0]) {
                    return;
                }
                next[0]++;
                for (int block = 0; block < sum.length; block++) {
                    float cosine = reading.cosine(block);
                    if (Float.isFinite(cosine)) {
                        sum[block] += 1 - (double) cosine;
                        count[block]++;
                    }
                }
            };
        }

        BlockInfluence result() {
            var mean = new double[sum.length];
            long tokens = 0;
            for (int block = 0; block < mean.length; block++) {
                if (count[block] == 0) {
                    throw new LlamaException("no token behind the first of a text tells about block " + block + "; use longer texts");
                }
                mean[block] = sum[block] / count[block];
                tokens = Math.max(tokens, count[block]);
            }
            return new BlockInfluence(mean, tokens);
        }
    }

    /** Blocks of the model. */
    public int blocks() {
        return influence.length;
    }

    /** The influence of a block: 0 for one that only scales what it gets, 1 for one that turns it by a right angle, 2 at most. */
    public double of(int block) {
        return influence[block];
    }

    /** Tokens that were measured. */
    public long tokens() {
        return tokens;
    }

    /**
     * The plan that leaves out the blocks with the least influence, of equal ones the earlier. The first and the last block stay.
     *
     * @param count 0 to the number of blocks less 2
     */
    public LayerPlan without(int count) {
        return Ranking.withoutLowest(influence, count);
    }
}
