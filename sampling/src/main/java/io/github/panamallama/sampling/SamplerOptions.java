package io.github.panamallama.sampling;

import java.util.Map;
import java.util.OptionalLong;
import java.util.TreeMap;

/**
 * How tokens are chosen. Start from {@link #defaults} or {@link #greedy} and change what matters:
 * {@code SamplerOptions.defaults().withTemperature(0.2f).withSeed(42)}. Order and meaning follow llama.cpp's default chain.
 *
 * @param logitBias         added to the logits of single tokens, first of all; -infinity excludes a token
 * @param repetitionPenalty divides positive logits and multiplies others of tokens that occur in the window; 1 is off
 * @param frequencyPenalty  subtracted once per occurrence in the window; 0 is off
 * @param presencePenalty   subtracted once if the token occurs in the window; 0 is off
 * @param penaltyLastN      the window: that many of the last accepted tokens; 0 switches all penalties off
 * @param topK              keeps that many of the most likely tokens; 0 keeps all
 * @param topP              of those keeps the shortest prefix, most likely first, whose probability reaches {@code topP}: the token
 *                          that crosses it stays; 1 keeps all
 * @param minP              of those keeps the tokens with at least {@code minP} times the probability of the best; 0 keeps all
 * @param temperature       the draw is from {@code softmax(logit / temperature)} of what is left; 0 takes the most likely token
 * @param seed              of the draws; empty takes a random one for each sampler
 */
public record SamplerOptions(
        Map<Integer, Float> logitBias,
        float repetitionPenalty,
        float frequencyPenalty,
        float presencePenalty,
        int penaltyLastN,
        int topK,
        float topP,
        float minP,
        float temperature,
        OptionalLong seed) {

    private static final SamplerOptions DEFAULTS =
            new SamplerOptions(Map.of(), 1, 0, 0, 64, 40, 0.95f, 0.05f, 0.8f, OptionalLong.empty());
    private static final SamplerOptions GREEDY =
            new SamplerOptions(Map.of(), 1, 0, 0, 64, 0, 1, 0, 0, OptionalLong.of(0));

    public SamplerOptions {
        require(logitBias != null, "logitBias", "a map", null);
        logitBias.forEach((token, bias) -> {
            require(token != null && token >= 0, "the token of a logitBias", "at least 0", token);
            require(bias != null && bias < Float.POSITIVE_INFINITY, "the logitBias of token " + token, "finite, or -infinity to exclude it", bias);
        });
        require(repetitionPenalty > 0 && finite(repetitionPenalty), "repetitionPenalty", "finite and above 0 (1 is off)", repetitionPenalty);
        require(finite(frequencyPenalty), "frequencyPenalty", "finite (0 is off)", frequencyPenalty);
        require(finite(presencePenalty), "presencePenalty", "finite (0 is off)", presencePenalty);
        require(penaltyLastN >= 0, "penaltyLastN", "at least 0 tokens (0 switches penalties off)", penaltyLastN);
        require(topK >= 0, "topK", "at least 0 (0 keeps all tokens)", topK);
        require(topP >= 0 && topP <= 1, "topP", "within 0 to 1 (1 keeps all tokens)", topP);
        require(minP >= 0 && minP <= 1, "minP", "within 0 to 1 (0 keeps all tokens)", minP);
        require(temperature >= 0 && finite(temperature), "temperature", "finite and at least 0 (0 takes the most likely token)", temperature);
        require(seed != null, "seed", "an OptionalLong", null);
        logitBias = Map.copyOf(logitBias);
    }

    /** llama.cpp's: top-k 40, top-p 0.95, min-p 0.05, temperature 0.8, no penalties, random seed. */
    public static SamplerOptions defaults() {
        return DEFAULTS;
    }

    /** The most likely token, always. */
    public static SamplerOptions greedy() {
        return GREEDY;
    }

    /** Replaces all biases. */
    public SamplerOptions withLogitBias(Map<Integer, Float> logitBias) {
        return new SamplerOptions(logitBias, repetitionPenalty, frequencyPenalty, presencePenalty, penaltyLastN, topK, topP, minP, temperature, seed);
    }

    /** Sets the bias of one token. */
    public SamplerOptions withLogitBias(int token, float bias) {
        var all = new TreeMap<>(logitBias);
        all.put(token, bias);
        return withLogitBias(all);
    }

    public SamplerOptions withRepetitionPenalty(float repetitionPenalty) {
        return new SamplerOptions(logitBias, repetitionPenalty, frequencyPenalty, presencePenalty, penaltyLastN, topK, topP, minP, temperature, seed);
    }

    public SamplerOptions withFrequencyPenalty(float frequencyPenalty) {
        return new SamplerOptions(logitBias, repetitionPenalty, frequencyPenalty, presencePenalty, penaltyLastN, topK, topP, minP, temperature, seed);
    }

    public SamplerOptions withPresencePenalty(float presencePenalty) {
        return new SamplerOptions(logitBias, repetitionPenalty, frequencyPenalty, presencePenalty, penaltyLastN, topK, topP, minP, temperature, seed);
    }

    public SamplerOptions withPenaltyLastN(int penaltyLastN) {
        return new SamplerOptions(logitBias, repetitionPenalty, frequencyPenalty, presencePenalty, penaltyLastN, topK, topP, minP, temperature, seed);
    }

    public SamplerOptions withTopK(int topK) {
        return new SamplerOptions(logitBias, repetitionPenalty, frequencyPenalty, presencePenalty, penaltyLastN, topK, topP, minP, temperature, seed);
    }

    public SamplerOptions withTopP(float topP) {
        return new SamplerOptions(logitBias, repetitionPenalty, frequencyPenalty, presencePenalty, penaltyLastN, topK, topP, minP, temperature, seed);
    }

    public SamplerOptions withMinP(float minP) {
        return new SamplerOptions(logitBias, repetitionPenalty, frequencyPenalty, presencePenalty, penaltyLastN, topK, topP, minP, temperature, seed);
    }

    public SamplerOptions withTemperature(float temperature) {
        return new SamplerOptions(logitBias, repetitionPenalty, frequencyPenalty, presencePenalty, penaltyLastN, topK, topP, minP, temperature, seed);
    }

    public SamplerOptions withSeed(long seed) {
        return new SamplerOptions(logitBias, repetitionPenalty, frequencyPenalty, presencePenalty, penaltyLastN, topK, topP, minP, temperature, OptionalLong.of(seed));
    }

    /** A seed of its own for each sampler. */
    public SamplerOptions withRandomSeed() {
        return new SamplerOptions(logitBias, repetitionPenalty, frequencyPenalty, presencePenalty, penaltyLastN, topK, topP, minP, temperature, OptionalLong.empty());
    }

    /** Whether any penalty changes any logit. */
    boolean penalises() {
        return penaltyLastN > 0 && (repetitionPenalty != 1 || frequencyPenalty != 0 || presencePenalty != 0);
    }

    private static boolean finite(float value) {
        return Float.isFinite(value);
    }

    private static void require(boolean condition, String name, String range, Object value) {
        if (!condition) {
            throw new IllegalArgumentException(name + " must be " + range + ", got " + value);
        }
    }
}
