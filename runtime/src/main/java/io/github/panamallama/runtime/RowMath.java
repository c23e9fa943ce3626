package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.runtime.natives.Natives;

/**
 * Arithmetic over one {@link Row}: each function is one native call that allocates nothing. Ties go to the lowest token id; a token
 * at -infinity is excluded and never selected. Results do not depend on the processor's instruction set. Safe for use by several
 * threads on different rows.
 *
 * <p>Exponentials are single precision with an error below 1 unit in the last place; what is more than 87 nats below the maximum
 * counts as 0. Sums are kept in double precision.
 *
 * <p>Every function throws {@link SamplingException} if a logit is NaN or +infinity, or if all are -infinity.
 */
public final class RowMath {
    // ext/panama_llama.h, section rows
    private static final int EMPTY = -1;
    private static final int OUT_OF_MEMORY = Integer.MIN_VALUE;

    static {
        Natives.load();
    }

    private RowMath() {
    }

    /** Makes native code callable. */
    static void load() {
    }

    /** The token with the largest logit. */
    public static int argmax(Row row) {
        return checked(row, LlamaH.pl_row_argmax(row.segment(), row.size()));
    }

    /** The largest logit. */
    public static float max(Row row) {
        return row.get(argmax(row));
    }

    /** {@code ln(sum(exp(logit)))} in nats: what to subtract from a logit to get the log-probability. */
    public static double logSumExp(Row row) {
        return checked(row, LlamaH.pl_row_log_sum_exp(row.segment(), row.size()));
    }

    /** The log-probability of {@code token} in nats. */
    public static double logProbability(Row row, int token) {
        checkToken(row, token);
        return row.get(token) - logSumExp(row);
    }

    /** {@code -sum(p ln p)} of the row's softmax in nats, 0 to {@code ln(n_vocab)}. */
    public static double entropy(Row row) {
        return checked(row, LlamaH.pl_row_entropy(row.segment(), row.size()));
    }

    /**
     * The {@code k} tokens with the largest logits, largest first, with their logits; fewer if fewer are above -infinity.
     *
     * @return how many
     */
    public static int topK(Row row, int k, Candidates into) {
        if (k <= 0 || Math.min(k, row.size()) > into.capacity()) {
            throw new IllegalArgumentException("k must be 1 to " + into.capacity() + ", the capacity of the candidates, got " + k);
        }
        into.size(0);
        int size = checked(row, LlamaH.pl_row_top_k(row.segment(), row.size(), k, into.tokens(), into.values()));
        into.size(size);
        return size;
    }

    /**
     * The tokens with a logit larger than {@code threshold}, by ascending id, with their logits.
     *
     * @return how many there are; only the first {@link Candidates#capacity} are kept
     */
    public static int above(Row row, float threshold, Candidates into) {
        if (Float.isNaN(threshold)) {
            throw new IllegalArgumentException("threshold must be a number, got NaN");
        }
        into.size(0);
        int size = checked(row, LlamaH.pl_row_above(
                row.segment(), row.size(), threshold, into.capacity(), into.tokens(), into.values()));
        into.size(Math.min(size, into.capacity()));
        return size;
    }

    /**
     * Replaces the logits by {@code softmax(logit / temperature)}.
     *
     * @param temperature larger than 0
     */
    public static void softmax(Row row, float temperature) {
        if (!(temperature > 0) || temperature == Float.POSITIVE_INFINITY) {
            throw new IllegalArgumentException("temperature must be a finite number above 0, got " + temperature);
        }
        checked(row, LlamaH.pl_row_softmax(row.segment(), row.size(), temperature));
    }

    /** Adds {@code biases[i]} to the logit of {@code tokens[i]}. */
    public static void add(Row row, int[] tokens, float[] biases) {
        for (int i = 0; i < tokens.length; i++) {
            checkToken(row, tokens[i]);
            row.set(tokens[i], row.get(tokens[i]) + biases[i]);
        }
    }

    /**
     * Truncates in llama.cpp's order and draws one token.
     *
     * @param topK        keeps that many of the most likely tokens; 0 keeps all
     * @param topP        of those keeps the shortest prefix, most likely first, whose mass reaches {@code topP}; 1 keeps all
     * @param minP        of those keeps the tokens with at least {@code minP} times the largest probability; 0 keeps all
     * @param temperature the draw is from {@code softmax(logit / temperature)} of what is left; 0 takes the most likely token
     * @param u           uniform in [0, 1): the token, by ascending id, at which the cumulated probability first exceeds {@code u}
     */
    public static int sample(Row row, int topK, float topP, float minP, float temperature, double u) {
        checkTruncation(topK, topP, minP, temperature);
        if (!(u >= 0 && u < 1)) {
            throw new IllegalArgumentException("u must be at least 0 and below 1, got " + u);
        }
        return checked(row, LlamaH.pl_row_sample(row.segment(), row.size(), topK, topP, minP, temperature, u));
    }

    /**
     * The distribution that {@link #sample} draws from, by ascending token id, with probabilities.
     *
     * @return how many tokens there are; only the first {@link Candidates#capacity} are kept
     */
    public static int distribution(Row row, int topK, float topP, float minP, float temperature, Candidates into) {
        checkTruncation(topK, topP, minP, temperature);
        into.size(0);
        int size = checked(row, LlamaH.pl_row_distribution(
                row.segment(), row.size(), topK, topP, minP, temperature, into.capacity(), into.tokens(), into.values()));
        into.size(Math.min(size, into.capacity()));
        return size;
    }

    private static void checkTruncation(int topK, float topP, float minP, float temperature) {
        if (topK < 0 || !(topP >= 0 && topP <= 1) || !(minP >= 0 && minP <= 1) || !(temperature >= 0 && temperature <= Float.MAX_VALUE)) {
            throw new IllegalArgumentException("topK must be at least 0, topP and minP within 0 to 1, temperature finite and at least 0; got "
                    + topK + ", " + topP + ", " + minP + ", " + temperature);
        }
    }

    private static void checkToken(Row row, int token) {
        if (token < 0 || token >= row.size()) {
            throw new SamplingException("token " + token + " is outside the row of " + row.size() + " tokens");
        }
    }

    private static double checked(Row row, double result) {
        if (Double.isNaN(result) || result == Double.NEGATIVE_INFINITY) {
            argmax(row);    // says which token
            throw new OutOfMemoryError("no native scratch memory for a row of " + row.size() + " tokens");
        }
        return result;
    }

    static int checked(Row row, int code) {
        if (code >= 0) {
            return code;
        }
        throw refused(row, code);
    }

    private static RuntimeException refused(Row row, int code) {
        if (code == OUT_OF_MEMORY) {
            throw new OutOfMemoryError("no native scratch memory for a row of " + row.size() + " tokens");
        }
        if (code == EMPTY) {
            return new SamplingException("all " + row.size() + " tokens of the row are at -infinity: nothing is left to choose from; "
                    + "loosen the bias or grammar that excluded them");
        }
        int token = -2 - code;
        float logit = row.get(token);
        return new SamplingException("row holds " + (Float.isNaN(logit) ? "NaN" : "+infinity") + " at token " + token
                + ": the model's weights or the evaluation before it are damaged, or a bias overflowed");
    }
}
