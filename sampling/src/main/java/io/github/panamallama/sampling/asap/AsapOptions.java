package io.github.panamallama.sampling.asap;

import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Vocabulary;
import java.util.HashMap;
import java.util.Map;

/**
 * Settings of {@link Asap}. Those that change the distribution are temperature, bias, adapters and the limit of tokens; the trie is valid
 * for one combination of them.
 *
 * @param maxTokens   longest text, its end-of-generation token not counted; longer ones are not part of the language. At least 1
 * @param temperature of the model's distribution, above 0; 1 is the model's own
 * @param logitBias   added to the logits of single tokens, first of all
 * @param parallel    texts drawn at the same time in one batch, at least 1
 * @param seed        of the draws
 * @param maxBytes    memory that the trie may take. When it takes more, the nodes visited longest ago are forgotten until three quarters
 *                    are left; what was learned about their prefixes stays in their parents, so that estimates never rise
 * @param denseLimit  positions that allow at most this many tokens keep all of their probabilities and are never evaluated again; others
 *                    keep those of the tokens that were drawn, and are evaluated again when another one is drawn
 * @param maxAttempts how often one draw may run into a dead end, or be rejected, before it fails
 * @param adapters    under which the model is asked
 */
public record AsapOptions(
        int maxTokens,
        double temperature,
        Map<Integer, Float> logitBias,
        int parallel,
        long seed,
        long maxBytes,
        int denseLimit,
        int maxAttempts,
        AdapterSet adapters) {

    private static final AsapOptions DEFAULTS = new AsapOptions(512, 1, Map.of(), 1, 1, 256L << 20, 1024, 10_000, AdapterSet.none());

    public AsapOptions {
        if (maxTokens < 1) {
            throw new IllegalArgumentException("maxTokens must be at least 1, got " + maxTokens);
        }
        if (!(temperature > 0 && temperature < Float.MAX_VALUE)) {
            throw new IllegalArgumentException("temperature must be finite and above 0, got " + temperature
                    + "; 1 is the model's own distribution");
        }
        logitBias.forEach((token, bias) -> {
            if (token < 0 || !(bias < Float.POSITIVE_INFINITY)) {
                throw new IllegalArgumentException("the logitBias of token " + token + " is " + bias
                        + "; give tokens of the vocabulary and finite "
                        + "values, or -infinity to exclude one");
            }
        });
        if (parallel < 1) {
            throw new IllegalArgumentException("parallel must be at least 1, got " + parallel);
        }
        if (maxBytes < 0) {
            throw new IllegalArgumentException("maxBytes must be at least 0, got " + maxBytes);
        }
        if (denseLimit < 1) {
            throw new IllegalArgumentException("denseLimit must be at least 1, got " + denseLimit);
        }
        if (maxAttempts < 1) {
            throw new IllegalArgumentException("maxAttempts must be at least 1, got " + maxAttempts);
        }
        if (adapters == null) {
            throw new IllegalArgumentException("adapters must be given; AdapterSet.none() for none");
        }
        logitBias = Map.copyOf(logitBias);
    }

    /** 512 tokens, temperature 1, one at a time, 256 MiB. */
    public static AsapOptions defaults() {
        return DEFAULTS;
    }

    public AsapOptions withMaxTokens(int maxTokens) {
        return new AsapOptions(maxTokens, temperature, logitBias, parallel, seed, maxBytes, denseLimit, maxAttempts, adapters);
    }

    public AsapOptions withTemperature(double temperature) {
        return new AsapOptions(maxTokens, temperature, logitBias, parallel, seed, maxBytes, denseLimit, maxAttempts, adapters);
    }

    public AsapOptions withLogitBias(Map<Integer, Float> logitBias) {
        return new AsapOptions(maxTokens, temperature, logitBias, parallel, seed, maxBytes, denseLimit, maxAttempts, adapters);
    }

    /**
     * Excludes the tokens that stand for single bytes: what they spell has other tokens, unless the text is rare. Makes a language of few
     * texts one of few token sequences.
     */
    public AsapOptions withoutByteTokens(Vocabulary vocabulary) {
        var bias = new HashMap<>(logitBias);
        for (int token = 0; token < vocabulary.size(); token++) {
            if (vocabulary.isByte(token)) {
                bias.put(token, Float.NEGATIVE_INFINITY);
            }
        }
        return withLogitBias(bias);
    }

    public AsapOptions withParallel(int parallel) {
        return new AsapOptions(maxTokens, temperature, logitBias, parallel, seed, maxBytes, denseLimit, maxAttempts, adapters);
    }

    public AsapOptions withSeed(long seed) {
        return new AsapOptions(maxTokens, temperature, logitBias, parallel, seed, maxBytes, denseLimit, maxAttempts, adapters);
    }

    public AsapOptions withMaxBytes(long maxBytes) {
        return new AsapOptions(maxTokens, temperature, logitBias, parallel, seed, maxBytes, denseLimit, maxAttempts, adapters);
    }

    public AsapOptions withDenseLimit(int denseLimit) {
        return new AsapOptions(maxTokens, temperature, logitBias, parallel, seed, maxBytes, denseLimit, maxAttempts, adapters);
    }

    public AsapOptions withMaxAttempts(int maxAttempts) {
        return new AsapOptions(maxTokens, temperature, logitBias, parallel, seed, maxBytes, denseLimit, maxAttempts, adapters);
    }

    public AsapOptions withAdapters(AdapterSet adapters) {
        return new AsapOptions(maxTokens, temperature, logitBias, parallel, seed, maxBytes, denseLimit, maxAttempts, adapters);
    }
}
