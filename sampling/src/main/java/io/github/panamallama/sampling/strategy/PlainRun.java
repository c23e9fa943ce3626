package io.github.panamallama.sampling.strategy;

import io.github.panamallama.sampling.track.Track;

/** {@link Plain}. */
final class PlainRun extends Run {
    PlainRun(Track main, int[] prompt, StrategyOptions options, Language language) {
        super(main, prompt, options, language);
    }

    @Override
    void choose(Steps out) {
        evaluate();
        int token = chooser.sample(row);
        gauge.add(row, token, out);
        commit(token);
    }
}
