package io.github.panamallama.runtime;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Objects;
import java.util.TreeSet;

/**
 * What is read of a model's inside while the tokens of a {@link Sequence} are evaluated ({@link Sequence#tap}). Immutable.
 *
 * <p>Three kinds, in any combination: {@link #norms} measures what each block does to the residual stream, and costs next to nothing;
 * {@link #hidden} copies the residual stream behind chosen blocks; {@link #inputs} copies what chosen weights are multiplied by.
 */
public final class Tap {
    private static final Tap NONE = new Tap(false, List.of(), List.of());

    private final boolean norms;
    private final List<Integer> hidden;
    private final List<String> inputs;

    private Tap(boolean norms, Collection<Integer> hidden, Collection<String> inputs) {
        this.norms = norms;
        this.hidden = List.copyOf(new TreeSet<>(hidden));
        this.inputs = List.copyOf(new TreeSet<>(inputs));
        for (int block : hidden) {
            if (block < -1) {
                throw new IllegalArgumentException("block " + block + "; blocks count from 0, and -1 is the embedding");
            }
        }
    }

    /** Norms, differences and cosines of the residual stream, for every block. */
    public static Tap norms() {
        return NONE.withNorms();
    }

    /** The residual stream behind the given blocks; -1 is the embedding, the input of block 0. */
    public static Tap hidden(int... blocks) {
        return NONE.withHidden(blocks);
    }

    /**
     * What the given weights are multiplied by, for instance {@code blk.3.ffn_down.weight}. Of weights of experts
     * ({@code blk.3.ffn_down_exps.weight}) {@link Reading#experts(String)} says which of them a token was given to.
     */
    public static Tap inputs(String... weights) {
        return NONE.withInputs(weights);
    }

    /** This tap, and {@link #norms}. */
    public Tap withNorms() {
        return new Tap(true, hidden, inputs);
    }

    /** This tap, and {@link #hidden}. */
    public Tap withHidden(int... blocks) {
        var more = new ArrayList<>(hidden);
        for (int block : blocks) {
            more.add(block);
        }
        return new Tap(norms, more, inputs);
    }

    /** This tap, and {@link #inputs}. */
    public Tap withInputs(String... weights) {
        var more = new ArrayList<>(inputs);
        more.addAll(List.of(weights));
        return new Tap(norms, hidden, more);
    }

    /** Whether norms are read. */
    public boolean readsNorms() {
        return norms;
    }

    /** Blocks whose output is copied, ascending. */
    public List<Integer> hiddenBlocks() {
        return hidden;
    }

    /** Weights whose input is copied, in alphabetical order. */
    public List<String> inputWeights() {
        return inputs;
    }

    /** What this tap and another one read. */
    Tap and(Tap other) {
        if (equals(other)) {
            return this;
        }
        var blocks = new ArrayList<>(hidden);
        blocks.addAll(other.hidden);
        var weights = new ArrayList<>(inputs);
        weights.addAll(other.inputs);
        return new Tap(norms || other.norms, blocks, weights);
    }

    @Override
    public boolean equals(Object other) {
        return this == other || other instanceof Tap tap && norms == tap.norms && hidden.equals(tap.hidden) && inputs.equals(tap.inputs);
    }

    @Override
    public int hashCode() {
        return Objects.hash(norms, hidden, inputs);
    }

    @Override
    public String toString() {
        return "norms " + norms + ", hidden " + hidden + ", inputs " + inputs;
    }

    /** Receives what was read, token by token. */
    @FunctionalInterface
    public interface Sink {
        /**
         * Called for every evaluated token in the order of positions, before the append that evaluates it returns. It may come from
         * another thread than the caller's, one that evaluates for several at once: be quick, and do not call the engine. What it throws
         * ends the append. Tokens that lost their cells and are evaluated again come again.
         *
         * @param reading borrowed: valid during this call only
         */
        void read(Reading reading);
    }

    /**
     * What was read at one position. The last block of most models evaluates only those tokens whose logits are wanted: of the others its
     * values are NaN, and its vectors are not {@linkplain #has there}. A block that a plan leaves out changes nothing: its difference is 0
     * and its cosine 1. A block that a plan repeats is read as a whole, from its first input to its last output.
     */
    public interface Reading {
        /** Which token of the sequence this is, from 0 on. */
        int position();

        /** The token. */
        int token();

        /** Which node of a {@link TokenTree} this is; -1 for a plain append. */
        int node();

        /** L2 norm of the residual stream behind a block; -1 is the embedding. */
        float norm(int block);

        /** L2 norm of what a block adds to the residual stream. */
        float difference(int block);

        /** Cosine of the angle between input and output of a block. */
        float cosine(int block);

        /** Whether {@link #hidden(int, float[])} has a value here. */
        boolean has(int block);

        /** Copies the residual stream {@code [embeddingSize]} behind a block; -1 is the embedding. */
        void hidden(int block, float[] target);

        /** Whether the product with this weight was computed for this token. */
        boolean has(String weight);

        /** Copies the input {@code [columns of the weight]} of a product, of a weight that has no experts. */
        void input(String weight, float[] target);

        /** How many experts a weight has; 0 where it is one matrix. */
        int expertCount(String weight);

        /** Those experts of a weight {@code [used]}, counted from 0, that the token was given to. */
        int[] experts(String weight);

        /** Copies the input {@code [columns of the weight]} of one of the {@link #experts(String)}, the {@code which}-th. */
        void input(String weight, int which, float[] target);
    }
}
