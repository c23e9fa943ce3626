package io.github.panamallama.bench;

import io.github.panamallama.bench.Report.TokenCost;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.openjdk.jmh.profile.GCProfiler;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.OptionsBuilder;

/** Runs the JMH benchmarks of a token and holds them against their limits. */
final class TokenCosts {
    private static final String VOCABULARY = " at 151,936 tokens";

    private TokenCosts() {
    }

    static List<TokenCost> measure() throws RunnerException {
        var results = new Runner(new OptionsBuilder()
                .include(TokenBenchmark.class.getName() + "\\.").include(ParkBenchmark.class.getName() + "\\.")
                .addProfiler(GCProfiler.class).addProfiler(OutsideOfDecode.class)
                .shouldFailOnError(true).build()).run();
        var costs = new ArrayList<TokenCost>();
        costs.add(outside(results, "evaluate", "row copy and engine" + VOCABULARY, Double.POSITIVE_INFINITY));
        costs.add(outside(results, "greedy", "greedy, without text" + VOCABULARY, Double.POSITIVE_INFINITY));
        costs.add(outside(results, "greedyText", "greedy" + VOCABULARY, 60));
        costs.add(outside(results, "draw", "temperature, top-k, top-p, without text" + VOCABULARY, Double.POSITIVE_INFINITY));
        costs.add(outside(results, "drawText", "temperature, top-k, top-p" + VOCABULARY, 150));
        costs.add(allocated(results, TokenBenchmark.class, "drawText", "allocated, with the token's text" + VOCABULARY,
                Double.POSITIVE_INFINITY));
        // on a small model, where the few kB that JMH itself allocates in an iteration are spread over many tokens
        costs.add(allocated(results, ParkBenchmark.class, "tokenAlone", "allocated, direct path, temperature, top-k, top-p", 0.99));
        var park = allocated(results, ParkBenchmark.class, "parkAndUnpark", "allocated, one park and unpark of a virtual thread",
                Double.POSITIVE_INFINITY);
        costs.add(park);
        costs.add(allocated(results, ParkBenchmark.class, "token", "allocated, token through virtual threads", park.value() + 64));
        return costs;
    }

    private static TokenCost outside(Collection<RunResult> results, String benchmark, String name, double limit) {
        var result = find(results, TokenBenchmark.class, benchmark).getSecondaryResults().get(OutsideOfDecode.LABEL);
        return new TokenCost("outside of llama_decode: " + name, result.getScore(), result.getScoreError(), "µs", limit);
    }

    private static TokenCost allocated(Collection<RunResult> results, Class<?> where, String benchmark, String name, double limit) {
        var secondary = find(results, where, benchmark).getSecondaryResults();
        var result = secondary.entrySet().stream().filter(entry -> entry.getKey().endsWith("gc.alloc.rate.norm")).findFirst()
                .orElseThrow(() -> new IllegalStateException("no allocation among " + secondary.keySet())).getValue();
        return new TokenCost(name, result.getScore(), result.getScoreError(), "B", limit);
    }

    private static RunResult find(Collection<RunResult> results, Class<?> where, String benchmark) {
        var wanted = where.getName() + "." + benchmark;
        return results.stream().filter(result -> result.getParams().getBenchmark().equals(wanted)).findFirst()
                .orElseThrow(() -> new IllegalStateException("no result of " + wanted));
    }
}
