package io.github.panamallama;

import io.github.panamallama.sampling.SamplerOptions;
import java.util.List;

/**
 * How text is generated. Start from {@link #defaults} and change what matters:
 * {@code GenerationOptions.defaults().withMaxTokens(64).withTemperature(0.2f)}.
 *
 * @param maxTokens  most tokens to generate; 0 for as many as the context has room for
 * @param sampling   how tokens are chosen
 * @param stop       texts that end the generation; they are not part of the result
 * @param logProbs   collect log-probabilities of the chosen tokens and of this many of the likeliest at each position; -1 for none
 * @param truncation whether a prompt that is too long for the context loses its beginning; else it is refused
 */
public record GenerationOptions(int maxTokens, SamplerOptions sampling, List<String> stop, int logProbs, boolean truncation) {
    private static final GenerationOptions DEFAULTS = new GenerationOptions(256, SamplerOptions.defaults(), List.of(), -1, false);

    public GenerationOptions {
        if (maxTokens < 0) {
            throw new IllegalArgumentException("maxTokens is " + maxTokens + "; it must be 0 (as many as fit) or more");
        }
        if (logProbs < -1) {
            throw new IllegalArgumentException("logProbs is " + logProbs + "; it must be -1 (none) or more");
        }
        if (sampling == null) {
            throw new IllegalArgumentException("sampling must be given");
        }
        stop = List.copyOf(stop);
        if (stop.contains("")) {
            throw new IllegalArgumentException("a stop text is empty");
        }
    }

    /** At most 256 tokens, llama.cpp's usual sampling with a random seed. */
    public static GenerationOptions defaults() {
        return DEFAULTS;
    }

    public GenerationOptions withMaxTokens(int maxTokens) {
        return new GenerationOptions(maxTokens, sampling, stop, logProbs, truncation);
    }

    public GenerationOptions withSampling(SamplerOptions sampling) {
        return new GenerationOptions(maxTokens, sampling, stop, logProbs, truncation);
    }

    /** 0 takes the most likely token, always. */
    public GenerationOptions withTemperature(float temperature) {
        return withSampling(sampling.withTemperature(temperature));
    }

    /** The same seed and options give the same text, within what llama.cpp's arithmetic allows. */
    public GenerationOptions withSeed(long seed) {
        return withSampling(sampling.withSeed(seed));
    }

    public GenerationOptions withStop(List<String> stop) {
        return new GenerationOptions(maxTokens, sampling, stop, logProbs, truncation);
    }

    public GenerationOptions withStop(String... stop) {
        return withStop(List.of(stop));
    }

    /** Collects log-probabilities, in nats, with this many alternatives each. */
    public GenerationOptions withLogProbs(int alternatives) {
        return new GenerationOptions(maxTokens, sampling, stop, alternatives, truncation);
    }

    public GenerationOptions withTruncation(boolean truncation) {
        return new GenerationOptions(maxTokens, sampling, stop, logProbs, truncation);
    }
}
