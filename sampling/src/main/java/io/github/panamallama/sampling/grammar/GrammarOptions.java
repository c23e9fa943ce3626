package io.github.panamallama.sampling.grammar;

import java.time.Duration;

/**
 * Limits of one grammar. Each is far above what grammars of use need; who goes beyond one gets an error that names it.
 *
 * @param sourceChars   chars of the grammar's text
 * @param nesting       groups open inside each other in the grammar's text
 * @param depth         nodes open inside each other in the generated text; text that nests deeper is not allowed
 * @param readings      ways to read the same text that are followed at once
 * @param states        states kept, counted at 256 bytes each; beyond, they are forgotten and found again
 * @param compileTime   for making sense of a schema; other notations take time in proportion to their length
 * @param maskTime      for finding the tokens that may come next, once
 */
public record GrammarOptions(int sourceChars, int nesting, int depth, int readings, int states, Duration compileTime, Duration maskTime) {
    private static final GrammarOptions DEFAULTS =
            new GrammarOptions(4 << 20, 200, 2_000, 20_000, 1 << 17, Duration.ofSeconds(10), Duration.ofSeconds(2));

    public GrammarOptions {
        if (sourceChars < 1 || nesting < 1 || depth < 1 || readings < 1 || states < 1 || compileTime.isNegative() || compileTime.isZero()
                || maskTime.isNegative() || maskTime.isZero()) {
            throw new IllegalArgumentException("grammar limits must be positive");
        }
        if (nesting > 250) {
            throw new IllegalArgumentException("nesting of " + nesting + " is more than 250, what a thread's stack surely holds");
        }
        if (depth > 2_500) {
            throw new IllegalArgumentException("depth of " + depth + " is more than 2500, what a thread's stack surely holds");
        }
    }

    public static GrammarOptions defaults() {
        return DEFAULTS;
    }

    public GrammarOptions withSourceChars(int sourceChars) {
        return new GrammarOptions(sourceChars, nesting, depth, readings, states, compileTime, maskTime);
    }

    public GrammarOptions withNesting(int nesting) {
        return new GrammarOptions(sourceChars, nesting, depth, readings, states, compileTime, maskTime);
    }

    public GrammarOptions withDepth(int depth) {
        return new GrammarOptions(sourceChars, nesting, depth, readings, states, compileTime, maskTime);
    }

    public GrammarOptions withReadings(int readings) {
        return new GrammarOptions(sourceChars, nesting, depth, readings, states, compileTime, maskTime);
    }

    public GrammarOptions withStates(int states) {
        return new GrammarOptions(sourceChars, nesting, depth, readings, states, compileTime, maskTime);
    }

    public GrammarOptions withCompileTime(Duration compileTime) {
        return new GrammarOptions(sourceChars, nesting, depth, readings, states, compileTime, maskTime);
    }

    public GrammarOptions withMaskTime(Duration maskTime) {
        return new GrammarOptions(sourceChars, nesting, depth, readings, states, compileTime, maskTime);
    }
}
