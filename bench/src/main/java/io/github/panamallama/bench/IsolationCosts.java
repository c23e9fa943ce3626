package io.github.panamallama.bench;

import io.github.panamallama.GenerationOptions;
import io.github.panamallama.IsolationOptions;
import io.github.panamallama.Llama;
import io.github.panamallama.LlamaOptions;
import io.github.panamallama.TextModel;
import io.github.panamallama.sampling.SamplerOptions;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;

/** What a worker process costs: the same completion read from it and from this process, in turn, and the answer to an empty question. */
final class IsolationCosts {
    private static final int CONTEXT = 1024;
    private static final int WARM_UPS = 20;
    private static final int QUESTIONS = 1_000;
    /** Microseconds per token that a worker may cost. */
    private static final double LIMIT = 100;

    private IsolationCosts() {
    }

    static void measure(BenchModels.BenchModel bench, int threads, int tokens, double seconds, int pairs, SplittableRandom random,
            Report report) throws IOException {
        var options = LlamaOptions.defaults().withContextSize(CONTEXT).withThreads(threads);
        try (var here = Llama.load(bench.path(), options);
                var there = Llama.isolated(bench.path(), options, IsolationOptions.defaults())) {
            var sampling = SamplerOptions.greedy();
            for (int token : here.model().vocabulary().endOfGeneration()) {
                sampling = sampling.withLogitBias(token, Float.NEGATIVE_INFINITY);
            }
            var generation = GenerationOptions.defaults().withSampling(sampling).withMaxTokens(tokens);
            double rate = rate(here, generation, 1);
            for (int i = 1; i < (bench.shipped() ? WARM_UPS : 1); i++) {
                rate = rate(here, generation, 1);
                rate(there, generation, 1);
            }
            int texts = (int) Math.max(1, seconds * rate / tokens);
            var measured = new ArrayList<Comparison.Pair>();
            for (int i = 0; i < pairs; i++) {
                boolean first = random.nextBoolean();
                double isolated = first ? rate(there, generation, texts) : 0;
                double alone = rate(here, generation, texts);
                measured.add(new Comparison.Pair(first ? isolated : rate(there, generation, texts), alone, first));
            }
            var comparison = new Comparison("isolated", bench.name(), texts + " texts of " + tokens + " tokens, greedy", threads,
                    "in a worker process", "in this process", 0, measured);
            report.add(comparison);
            double cost = Statistics.median(measured.stream().mapToDouble(pair -> 1e6 / pair.ours() - 1e6 / pair.baseline()).toArray());
            System.out.printf(Locale.ROOT, "  isolated: %.2f t/s, in this process %.2f, ratio %.4f, %.1f us per token%n",
                    comparison.medianOurs(), comparison.medianBaseline(), comparison.ratio(), cost);
            double opened = opened(there, generation) - opened(here, generation);
            System.out.printf(Locale.ROOT, "  isolated: a text opened and closed unread, %.1f us%n", opened);
            report.add(List.of(new Report.TokenCost("a token through a worker process, " + bench.name(), cost, Double.NaN, "µs", LIMIT),
                    new Report.TokenCost("a text of a worker process, opened and closed unread", opened, Double.NaN, "µs",
                            Double.POSITIVE_INFINITY)));
        }
    }

    /** Tokens per second, prompts included. */
    private static double rate(TextModel model, GenerationOptions generation, int texts) {
        long tokens = 0;
        long start = System.nanoTime();
        for (int i = 0; i < texts; i++) {
            var completion = model.complete(GenerationWork.JAVA_PROMPT, generation);
            completion.forEach(piece -> { });
            tokens += completion.stats().generatedTokens();
        }
        return tokens * 1e9 / (System.nanoTime() - start);
    }

    /** Microseconds for a completion that nobody reads: its request and answer, nothing evaluated. */
    private static double opened(TextModel model, GenerationOptions generation) {
        for (int i = 0; i < QUESTIONS; i++) {
            model.complete("x", generation).close();
        }
        long start = System.nanoTime();
        for (int i = 0; i < QUESTIONS; i++) {
            model.complete("x", generation).close();
        }
        return (System.nanoTime() - start) / 1e3 / QUESTIONS;
    }
}
