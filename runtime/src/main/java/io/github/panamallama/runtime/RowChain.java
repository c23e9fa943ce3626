package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.pl_row_change;
import io.github.panamallama.bindings.pl_row_step;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/**
 * Steps that narrow down or change the tokens of a {@link Row}, in an order of the caller's, before one is drawn. Each method that adds a
 * step returns its index; what changes from token to token is set by that. {@link #sample} and {@link #distribution} are each one native
 * call that allocates nothing in the steady state; the row stays as it is.
 *
 * <p>Ties go to the lowest token id, as in {@link RowMath}. Tokens at -infinity have no chance, but count where llama.cpp's samplers count
 * them: as candidates of {@link #topK}, and in the largest entropy that {@link #temperature} divides by. One caller at a time.
 */
public final class RowChain {
    private static final int MOST_STEPS = 32;

    private final MemorySegment steps = pl_row_step.allocateArray(MOST_STEPS, Arena.ofAuto());
    private final MemorySegment[] at = new MemorySegment[MOST_STEPS];
    private final int[] kinds = new int[MOST_STEPS];
    private final MemorySegment[] changes = new MemorySegment[MOST_STEPS];
    private Vocabulary vocabulary;
    private int size;

    static {
        RowMath.load();
    }

    /** Keeps the {@code k} most likely tokens, at least 1. */
    public int topK(int k) {
        require(k >= 1, "k must be at least 1", k);
        int step = add(LlamaH.PL_ROW_TOP_K(), 0, 0, 0);
        pl_row_step.n(at[step], k);
        return step;
    }

    /** Keeps the shortest prefix, most likely first, whose mass reaches {@code p}, 0 to 1. */
    public int topP(float p) {
        require(p >= 0 && p <= 1, "p must be within 0 to 1", p);
        return add(LlamaH.PL_ROW_TOP_P(), p, 0, 0);
    }

    /** Keeps the tokens with at least {@code p} times the largest probability, above 0 and up to 1. */
    public int minP(float p) {
        require(p > 0 && p <= 1, "p must be above 0 and at most 1", p);
        return add(LlamaH.PL_ROW_MIN_P(), p, 0, 0);
    }

    /** Keeps the tokens whose surprise is nearest to the entropy, until their mass exceeds {@code p}, 0 to 1. */
    public int typical(float p) {
        require(p >= 0 && p <= 1, "p must be within 0 to 1", p);
        return add(LlamaH.PL_ROW_TYPICAL(), p, 0, 0);
    }

    /** Keeps the tokens within {@code n} standard deviations of the largest logit, {@code n} above 0. */
    public int topNSigma(float n) {
        require(n > 0 && n < Float.POSITIVE_INFINITY, "n must be finite and above 0", n);
        return add(LlamaH.PL_ROW_TOP_N_SIGMA(), n, 0, 0);
    }

    /** Of the tokens with a probability of at least {@code threshold} keeps only the least likely, and what is less likely. */
    public int xtc(float threshold) {
        require(threshold >= 0 && threshold <= 1, "threshold must be within 0 to 1", threshold);
        return add(LlamaH.PL_ROW_XTC(), threshold, 0, 0);
    }

    /**
     * Divides logits by a temperature; 0 keeps the most likely token.
     *
     * @param range    with more than 0 the temperature is {@code temperature - range} (at least 0) where the model is certain, {@code
     *                 temperature + range} where all tokens are equally likely, and between by the entropy's share of its maximum
     * @param exponent of that share
     */
    public int temperature(float temperature, float range, float exponent) {
        require(temperature >= 0 && temperature < Float.POSITIVE_INFINITY, "temperature must be finite and at least 0", temperature);
        require(range >= 0 && range < Float.POSITIVE_INFINITY, "range must be finite and at least 0", range);
        require(exponent >= 0 && exponent < Float.POSITIVE_INFINITY, "exponent must be finite and at least 0", exponent);
        return add(LlamaH.PL_ROW_TEMPERATURE(), temperature, range, exponent);
    }

    /** Keeps the tokens whose surprise is at most {@code mu} bits, and the most likely one in any case; see {@link #value}. */
    public int mirostat(float mu) {
        require(!Float.isNaN(mu), "mu must be a number", mu);
        return add(LlamaH.PL_ROW_MIROSTAT(), mu, 0, 0);
    }

    /** Changes logits of single tokens, see {@link #changes}; none so far. */
    public int changes(float repetitionPenalty) {
        require(repetitionPenalty > 0 && repetitionPenalty < Float.POSITIVE_INFINITY, "the penalty must be finite and above 0",
                repetitionPenalty);
        return add(LlamaH.PL_ROW_CHANGES(), repetitionPenalty, 0, 0);
    }

    /**
     * llama.cpp's sampler for code that is filled in between other code: ends the text where that is likely enough, else keeps the likely
     * tokens and makes those one of which one begins the other. It compares candidates in pairs, so it comes after a {@link #topK}. Where
     * llama.cpp would fall back to the token that ends the text although the row excludes it, the candidates stay as they are.
     */
    public int infill(Vocabulary vocabulary) {
        int step = add(LlamaH.PL_ROW_INFILL(), 0, 0, 0);
        pl_row_step.pieces(at[step], vocabulary.rowPieces());
        this.vocabulary = vocabulary;
        return step;
    }

    /** Whether the step takes place; it does unless told not to. */
    public void enable(int step, boolean on) {
        pl_row_step.kind(at[step], on ? kinds[step] : LlamaH.PL_ROW_NOTHING());
    }

    /** Replaces the first number that the step was added with. */
    public void value(int step, float value) {
        pl_row_step.a(at[step], value);
    }

    /**
     * Replaces the changes of a step of {@link #changes(float)}: a positive logit is divided by its penalty, another multiplied; then
     * something is subtracted.
     *
     * @param packed tokens in the upper 32 bits, each once, and the bits of the float to subtract in the lower ones
     */
    public void changes(int step, long[] packed, int count) {
        if (changes[step] == null || changes[step].byteSize() < 8L * count) {
            changes[step] = Arena.ofAuto().allocate(8L * Math.max(64, 2 * count), 8);
            pl_row_step.changes(at[step], changes[step]);
        }
        MemorySegment.copy(packed, 0, changes[step], CHANGE, 0, count);
        pl_row_step.n(at[step], count);
    }

    /** A change as one number: the float comes first in memory. */
    private static final ValueLayout.OfLong CHANGE = ValueLayout.JAVA_LONG.withOrder(ByteOrder.LITTLE_ENDIAN);

    static {
        if (pl_row_change.minus$offset() != 0 || pl_row_change.token$offset() != 4 || pl_row_change.sizeof() != 8) {
            throw new AssertionError("pl_row_change is laid out otherwise");
        }
    }

    /**
     * Draws one token.
     *
     * @param u uniform in [0, 1): the token, by ascending id, at which the cumulated probability first exceeds {@code u}
     * @throws SamplingException as {@link RowMath}, also where changes leave no token or no number
     */
    public int sample(Row row, double u) {
        if (!(u >= 0 && u < 1)) {
            throw new IllegalArgumentException("u must be at least 0 and below 1, got " + u);
        }
        check(row);
        return RowMath.checked(row, LlamaH.pl_row_chain_sample(row.segment(), row.size(), steps, size, u));
    }

    /**
     * The distribution that {@link #sample} draws from, by ascending token id, with probabilities.
     *
     * @return how many tokens there are; only the first {@link Candidates#capacity} are kept
     */
    public int distribution(Row row, Candidates into) {
        check(row);
        into.size(0);
        int count = RowMath.checked(row, LlamaH.pl_row_chain_distribution(
                row.segment(), row.size(), steps, size, into.capacity(), into.tokens(), into.values()));
        into.size(Math.min(count, into.capacity()));
        return count;
    }

    private void check(Row row) {
        if (vocabulary != null && vocabulary.size() != row.size()) {
            throw new SamplingException("a row of " + row.size() + " tokens does not fit the vocabulary of " + vocabulary.size()
                    + " that the "
                    + "sampler was made for");
        }
    }

    private int add(int kind, float a, float b, float c) {
        if (size == MOST_STEPS) {
            throw new IllegalStateException("a chain has at most " + MOST_STEPS + " steps");
        }
        var step = at[size] = pl_row_step.asSlice(steps, size);
        pl_row_step.kind(step, kind);
        pl_row_step.a(step, a);
        pl_row_step.b(step, b);
        pl_row_step.c(step, c);
        pl_row_step.changes(step, MemorySegment.NULL);
        pl_row_step.pieces(step, MemorySegment.NULL);
        kinds[size] = kind;
        return size++;
    }

    private static void require(boolean condition, String range, float value) {
        if (!condition) {
            throw new IllegalArgumentException(range + ", got " + value);
        }
    }
}
