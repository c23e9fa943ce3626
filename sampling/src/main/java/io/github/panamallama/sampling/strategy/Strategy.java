package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.Sequence;

/**
 * A way to choose tokens: settings only, immutable, shared by any number of decodings and threads.
 *
 * <pre>{@code
 * try (var decoding = AdaDec.of(0.9).start(sequence, prompt, StrategyOptions.defaults().withMaxTokens(64))) {
 *     while (decoding.advance()) {
 *         System.out.print(decoding.text());
 *         if (decoding.confidence().meanLogProbability() < -2) {
 *             break;                                    // it doesn't know: better say nothing
 *         }
 *     }
 * }
 * }</pre>
 */
public sealed interface Strategy permits Plain, AdaDec, Uscd, BeamSearch, BestOfN, ContrastiveSearch, Speculative, MtpDrafts, PlanDrafts,
        NGramDrafts, EntropySwitching, PlanSwitching {
    /**
     * A decoding behind {@code sequence}, after {@code prompt}; the first {@link Decoding#advance} evaluates it. Branches are forks of the
     * sequence, under the same adapters, and are gone when the decoding ends; the sequence then holds its history, the prompt and the
     * tokens generated, except for those at the end that nobody needed evaluated. It belongs to the decoding until that is closed.
     * Second models, where a strategy has one, are asked without adapters.
     *
     * @param prompt at least one token
     * @throws IllegalArgumentException if the prompt is empty, or the strategy does not fit this engine or its model
     * @throws io.github.panamallama.runtime.LayerPlanException if a plan of the strategy does not fit the model, or what it reads of the
     *         model's inside can't be read
     */
    default Decoding start(Sequence sequence, int[] prompt, StrategyOptions options) {
        return Decoding.start(this, sequence, prompt, options);
    }
}
