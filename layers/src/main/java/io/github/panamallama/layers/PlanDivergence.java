package io.github.panamallama.layers;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Row;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.stream.IntStream;

/**
 * The mean over positions of the Kullback-Leibler divergence, in nats, of the next token's distribution under a plan from that of the whole
 * model: 0 for a plan that changes nothing. Softmax and sums are in double precision.
 *
 * <p>The whole model's logits are computed when a text is first asked for, and kept in native memory until this object is unreachable: 4
 * bytes for each token of the vocabulary at each position.
 *
 * <p>One caller at a time.
 */
public final class PlanDivergence implements PlanFitness {
    /** What the whole model's logits may take unless told otherwise, in bytes. */
    public static final long DEFAULT_MEMORY = 2L << 30;

    /** The whole model's rows on a text, {@code [position][n_vocab]}, and the logarithm of the sum of exponentials of each. */
    private record Reference(MemorySegment logits, double[] logSums) {
    }

    private final Engine engine;
    private final List<int[]> texts;
    private final List<Integer> lengths;
    private final Reference[] references;
    private final Row[] rows;

    /** On these texts, with {@link #DEFAULT_MEMORY}. */
    public PlanDivergence(Engine engine, List<int[]> texts) {
        this(engine, texts, DEFAULT_MEMORY);
    }

    /**
     * On these texts.
     *
     * @param texts  tokenised, each as long as the context at most
     * @param memory bytes that the whole model's logits may take
     * @throws LlamaException if a text is empty or too long, or the logits of all texts would take more memory
     */
    public PlanDivergence(Engine engine, List<int[]> texts, long memory) {
        Texts.check(engine, texts);
        this.engine = engine;
        this.texts = List.copyOf(texts);
        this.lengths = texts.stream().map(text -> text.length).toList();
        this.references = new Reference[texts.size()];
        this.rows = Texts.rows(engine);
        long positions = lengths.stream().mapToLong(Integer::longValue).sum();
        long needed = positions * rows[0].size() * Float.BYTES;
        if (needed > memory) {
            throw new LlamaException("the logits of " + positions + " positions by " + rows[0].size() + " tokens take " + needed
                    + " bytes, " + memory + " are allowed; use fewer texts or allow more");
        }
    }

    @Override
    public int blocks() {
        return engine.model().layerCount();
    }

    @Override
    public List<Integer> lengths() {
        return lengths;
    }

    @Override
    public double of(LayerPlan plan, List<Slice> sample) {
        double sum = 0;
        long positions = 0;
        for (var slice : sample) {
            var divergences = new double[slice.tokens()];
            var reference = reference(slice.text());
            try (var sequence = engine.newSequence(plan)) {
                Texts.evaluate(sequence, texts.get(slice.text()), slice.tokens(), rows, (first, part) ->
                        // idle processors help; each position has a place of its own, so that the sum is the same in any order
                        IntStream.range(0, part.length).parallel().forEach(i ->
                                divergences[first + i] = divergence(row(reference.logits, first + i), reference.logSums[first + i],
                                        part[i].segment(), part[i].size())));
            }
            for (double each : divergences) {
                sum += each;
            }
            positions += divergences.length;
        }
        return sum / positions;
    }

    private Reference reference(int text) {
        if (references[text] == null) {
            int[] tokens = texts.get(text);
            var logits = Arena.ofAuto().allocate((long) tokens.length * rows[0].size() * Float.BYTES, Float.BYTES);
            var logSums = new double[tokens.length];
            try (var sequence = engine.newSequence()) {
                Texts.evaluate(sequence, tokens, tokens.length, rows, (first, part) -> {
                    for (int i = 0; i < part.length; i++) {
                        row(logits, first + i).copyFrom(part[i].segment());
                        logSums[first + i] = logSumExp(part[i].segment(), part[i].size());
                    }
                });
            }
            references[text] = new Reference(logits, logSums);
        }
        return references[text];
    }

    private MemorySegment row(MemorySegment logits, int position) {
        long bytes = (long) rows[0].size() * Float.BYTES;
        return logits.asSlice(position * bytes, bytes);
    }

    /** {@code sum p (ln p - ln q)} of two rows of logits; NaN if a logit is. A token that {@code p} excludes adds nothing. */
    static double divergence(MemorySegment p, double logSumP, MemorySegment q, int size) {
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
