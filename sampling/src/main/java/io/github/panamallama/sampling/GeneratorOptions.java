package io.github.panamallama.sampling;

/**
 * When a generation ends and what it reports.
 *
 * @param maxTokens     most tokens to generate, at least 1; {@link Integer#MAX_VALUE} for as many as fit the context
 * @param stopStrings   end the text where one of them begins
 * @param logProbs      alternatives reported with each token's log-probability; 0 reports that of the token alone,
 *                      {@value #NO_LOG_PROBS} nothing
 */
public record GeneratorOptions(int maxTokens, StopStrings stopStrings, int logProbs) {
    /** No log-probabilities. */
    public static final int NO_LOG_PROBS = -1;

    private static final GeneratorOptions DEFAULTS = new GeneratorOptions(Integer.MAX_VALUE, StopStrings.of(), NO_LOG_PROBS);

    public GeneratorOptions {
        if (maxTokens < 1) {
            throw new IllegalArgumentException("maxTokens must be at least 1, got " + maxTokens);
        }
        if (stopStrings == null) {
            throw new IllegalArgumentException("stopStrings must be given; StopStrings.of() never stops");
        }
        if (logProbs < NO_LOG_PROBS) {
            throw new IllegalArgumentException("logProbs must be at least 0, or -1 for none, got " + logProbs);
        }
    }

    /** To the end of the context, no stop strings, no log-probabilities. */
    public static GeneratorOptions defaults() {
        return DEFAULTS;
    }

    public GeneratorOptions withMaxTokens(int maxTokens) {
        return new GeneratorOptions(maxTokens, stopStrings, logProbs);
    }

    public GeneratorOptions withStopStrings(StopStrings stopStrings) {
        return new GeneratorOptions(maxTokens, stopStrings, logProbs);
    }

    public GeneratorOptions withStopStrings(String... stopStrings) {
        return withStopStrings(StopStrings.of(stopStrings));
    }

    public GeneratorOptions withLogProbs(int alternatives) {
        return new GeneratorOptions(maxTokens, stopStrings, alternatives);
    }
}
