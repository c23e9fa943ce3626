package io.github.panamallama.sampling.strategy;

import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.track.TableTrack;
import java.util.function.Function;

/** A language of letters: token 0 ends texts, 1 is a, 2 is b and so on. And small things that tests of strategies share. */
final class Letters implements Language {
    static final Letters IT = new Letters();
    static final SamplerOptions FREE = SamplerOptions.defaults().withTopK(0).withTopP(1).withMinP(0).withTemperature(1);

    @Override
    public boolean ends(int token) {
        return token == 0;
    }

    @Override
    public int[] tokenize(String text) {
        return text.chars().map(c -> c - 'a' + 1).toArray();
    }

    @Override
    public Reader reader() {
        return new Reader() {
            @Override
            public String push(int token) {
                return token == 0 ? "" : Character.toString('a' + token - 1);
            }

            @Override
            public String rest() {
                return "";
            }
        };
    }

    static StrategyOptions options(int maxTokens) {
        return StrategyOptions.defaults().withMaxTokens(maxTokens);
    }

    /** Logits without the end, so that texts go on. */
    static Function<int[], float[]> endless(Function<int[], float[]> logits) {
        return history -> {
            var row = logits.apply(history);
            row[0] = Float.NEGATIVE_INFINITY;
            return row;
        };
    }

    static TableTrack table(Function<int[], float[]> logits, int size) {
        return new TableTrack(size, 100_000, logits);
    }

    static int[] run(Decoding decoding) {
        try (decoding) {
            while (decoding.advance()) {
            }
            return decoding.tokens();
        }
    }

    static int[] run(Run run) {
        return run(new Decoding(run));
    }

    static int[] plain(Function<int[], float[]> logits, int size, int[] prompt, StrategyOptions options) {
        return run(new PlainRun(table(logits, size), prompt, options, IT));
    }

    /** What a chi-square with this many degrees of freedom hardly ever exceeds. */
    static double bound(int freedom) {
        return freedom + 4.5 * Math.sqrt(2.0 * freedom) + 4;
    }
}
