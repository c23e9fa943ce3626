package io.github.panamallama.sampling.strategy;

/**
 * Beam search: at each step all continuations of the {@code width} best texts so far compete, by the model's log-probability, with one
 * batch per step. Draws nothing and takes no notice of {@link StrategyOptions#sampling}. All tokens are chosen before the first is shown.
 *
 * <p>A text's score is its log-probability divided by {@code length^alpha}. The search ends when the best finished text scores at least as
 * well as every unfinished one does at its present length (which is exact for alpha 0, where going on only lowers a score), or at the
 * limit of tokens, where unfinished texts compete too.
 *
 * @param width texts kept at each step, at least 1; 1 is greedy
 * @param alpha 0 for the most likely text, which favours short ones; 1 for the most likely token on average
 */
public record BeamSearch(int width, double alpha) implements Strategy {
    public BeamSearch {
        if (width < 1) {
            throw new IllegalArgumentException("width must be at least 1, got " + width);
        }
        if (!(alpha >= 0 && alpha <= 10)) {
            throw new IllegalArgumentException("alpha must be 0 to 10, got " + alpha);
        }
    }

    /** By log-probability per token. */
    public static BeamSearch of(int width) {
        return new BeamSearch(width, 1);
    }
}
