package io.github.panamallama.runtime.search;

import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.stream.IntStream;

/**
 * The Kullback-Leibler divergence, in nats, of the next token's distribution in a variant of a model from that in the model itself, on
 * texts. Softmax and sums are in double precision.
 *
 * <p>The model's own logits are kept in native memory until this object is unreachable: 4 bytes for each token of the vocabulary at each
 * position.
 *
 * <p>One caller at a time.
 */
public final class Divergence {
    /** What the model's own logits may take unless told otherwise, in bytes. */
    public static final long DEFAULT_MEMORY = 2L << 30;

    /** The model's rows on a text, {@code [position][n_vocab]}, and the logarithm of the sum of exponentials of each. */
    private record Reference(MemorySegment logits, double[] logSums) {
    }

    private final List<int[]> texts;
    private final int vocabulary;
    private final Reference[] references;
    /** Of the first engine that was seen; null before. */
    private Row[] rows;

    /**
     * On these texts, of which nothing is known yet.
     *
     * @param texts      tokenised
     * @param vocabulary tokens in the vocabulary
     * @param memory     bytes that the model's own logits may take
     * @throws LlamaException if the logits of all texts would take more memory
     */
    public Divergence(List<int[]> texts, int vocabulary, long memory) {
        this.texts = List.copyOf(texts);
        this.vocabulary = vocabulary;
        references = new Reference[texts.size()];
        long positions = texts.stream().mapToLong(text -> text.length).sum();
        long needed = positions * vocabulary * Float.BYTES;
        if (needed > memory) {
            throw new LlamaException("the logits of " + positions + " positions by " + vocabulary + " tokens take " + needed
                    + " bytes, " + memory + " are allowed; use fewer or shorter texts, or allow more");
        }
    }

    /** Whether {@link #refer} was called for this text. */
    public boolean knows(int text) {
        return references[text] != null;
    }

    /**
     * Takes the logits that variants are compared with.
     *
     * @param model an empty sequence of the model itself; the text is appended
     */
    public void refer(int text, Sequence model) {
        int[] tokens = texts.get(text);
        var logits = Arena.ofAuto().allocate((long) tokens.length * vocabulary * Float.BYTES, Float.BYTES);
        var logSums = new double[tokens.length];
        Texts.evaluate(model, tokens, tokens.length, rows(model), (first, part) -> {
            for (int i = 0; i < part.length; i++) {
                row(logits, first + i).copyFrom(part[i].segment());
                logSums[first + i] = logSumExp(part[i].segment(), part[i].size());
            }
        });
        references[text] = new Reference(logits, logSums);
    }

    /**
     * The sum of the divergences at the positions of a slice; NaN if a logit is.
     *
     * @param variant an empty sequence of the variant; the slice is appended
     * @throws IllegalStateException if the text is not {@linkplain #knows known}
     */
    public double sum(Sequence variant, Slice slice) {
        var reference = references[slice.text()];
        if (reference == null) {
            throw new IllegalStateException("nothing to compare text " + slice.text() + " with; call refer first");
        }
        var divergences = new double[slice.tokens()];
        Texts.evaluate(variant, texts.get(slice.text()), slice.tokens(), rows(variant), (first, part) ->
                // idle processors help; each position has a place of its own, so that the sum is the same in any order
                IntStream.range(0, part.length).parallel().forEach(i ->
                        divergences[first + i] = between(row(reference.logits, first + i), reference.logSums[first + i],
                                part[i].segment(), part[i].size())));
        double sum = 0;
        for (double each : divergences) {
            sum += each;
        }
        return sum;
    }

    private Row[] rows(Sequence sequence) {
        if (rows == null) {
            rows = Texts.rows(sequence.engine());
        }
        return rows;
    }

    private MemorySegment row(MemorySegment logits, int position) {
        long bytes = (long) vocabulary * Float.BYTES;
        return logits.asSlice(position * bytes, bytes);
    }

    /** {@code sum p (ln p - ln q)} of two rows of logits; NaN if a logit is. A token that {@code p} excludes adds nothing. */
    static double between(MemorySegment p, double logSumP, MemorySegment q, int size) {
        double logSumQ = logSumExp(q, size);
        double sum = 0;
        for (int token = 0; token < size; token++) {
            double lnP = p.getAtIndex(ValueLayout.JAVA_FLOAT, token) - logSumP;
            double lnQ = q.getAtIndex(ValueLayout.JAVA_FLOAT, token) - logSumQ;
            double probability = Math.exp(lnP);
            sum += probability == 0 ? 0 : probability * (lnP - lnQ);
        }
        return Math.max(0, sum); // rounding may go below 0; NaN stays NaN
    }

    static double logSumExp(MemorySegment row, int size) {
        double max = Double.NEGATIVE_INFINITY;
        for (int token = 0; token < size; token++) {
            max = Math.max(max, row.getAtIndex(ValueLayout.JAVA_FLOAT, token));
        }
        double sum = 0;
        for (int token = 0; token < size; token++) {
            sum += Math.exp(row.getAtIndex(ValueLayout.JAVA_FLOAT, token) - max);
        }
        return max + Math.log(sum);
    }
}
