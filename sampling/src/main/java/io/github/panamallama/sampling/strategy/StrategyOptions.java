package io.github.panamallama.sampling.strategy;

import io.github.panamallama.sampling.Constraint;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.StopStrings;

/**
 * What every strategy is told.
 *
 * @param maxTokens   most tokens to generate, at least 1; {@link Integer#MAX_VALUE} for as many as fit the context
 * @param stopStrings end the text where one of them begins
 * @param sampling    how a token is drawn from a row, where the strategy draws
 * @param constraint  what the text has to satisfy, in the state at its start; forked, so that it can be used again. Null for any text
 * @param confidence  whether each token's entropy, margin and log-probability are measured. If not, tokens that the constraint
 *                    leaves no choice about are taken without asking the model
 * @param fastForward whether text that the constraint forces is written with the tokens that the vocabulary makes of it, although other
 *                    tokens would spell it too: faster, and not what the model would have chosen. Not while confidence is measured
 * @param spelling    whether control tokens are spelled out in the text, as the reader of a conversation needs it
 */
public record StrategyOptions(int maxTokens, StopStrings stopStrings, SamplerOptions sampling, Constraint constraint, boolean confidence,
        boolean fastForward, boolean spelling) {
    private static final StrategyOptions DEFAULTS =
            new StrategyOptions(Integer.MAX_VALUE, StopStrings.of(), SamplerOptions.greedy(), null, true, false, false);

    public StrategyOptions {
        if (maxTokens < 1) {
            throw new IllegalArgumentException("maxTokens must be at least 1, got " + maxTokens);
        }
        if (stopStrings == null || sampling == null) {
            throw new IllegalArgumentException("stopStrings and sampling must be given; StopStrings.of() never stops");
        }
    }

    /** To the end of the context, greedy, any text, with confidence. */
    public static StrategyOptions defaults() {
        return DEFAULTS;
    }

    public StrategyOptions withMaxTokens(int maxTokens) {
        return new StrategyOptions(maxTokens, stopStrings, sampling, constraint, confidence, fastForward, spelling);
    }

    public StrategyOptions withStopStrings(StopStrings stopStrings) {
        return new StrategyOptions(maxTokens, stopStrings, sampling, constraint, confidence, fastForward, spelling);
    }

    public StrategyOptions withStopStrings(String... stopStrings) {
        return withStopStrings(StopStrings.of(stopStrings));
    }

    public StrategyOptions withSampling(SamplerOptions sampling) {
        return new StrategyOptions(maxTokens, stopStrings, sampling, constraint, confidence, fastForward, spelling);
    }

    public StrategyOptions withConstraint(Constraint constraint) {
        return new StrategyOptions(maxTokens, stopStrings, sampling, constraint, confidence, fastForward, spelling);
    }

    public StrategyOptions withFastForward(boolean fastForward) {
        return new StrategyOptions(maxTokens, stopStrings, sampling, constraint, confidence, fastForward, spelling);
    }

    public StrategyOptions withConfidence(boolean confidence) {
        return new StrategyOptions(maxTokens, stopStrings, sampling, constraint, confidence, fastForward, spelling);
    }

    public StrategyOptions withSpelling(boolean spelling) {
        return new StrategyOptions(maxTokens, stopStrings, sampling, constraint, confidence, fastForward, spelling);
    }
}
