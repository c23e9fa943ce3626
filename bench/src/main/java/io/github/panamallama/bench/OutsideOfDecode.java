package io.github.panamallama.bench;

import io.github.panamallama.runtime.EngineStats;
import java.util.Collection;
import java.util.List;
import org.openjdk.jmh.infra.BenchmarkParams;
import org.openjdk.jmh.infra.IterationParams;
import org.openjdk.jmh.profile.InternalProfiler;
import org.openjdk.jmh.results.AggregationPolicy;
import org.openjdk.jmh.results.IterationResult;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.ScalarResult;

/**
 * Splits the time of a {@link TokenBenchmark} operation: the engine counts its nanoseconds in {@code llama_decode}, the rest is
 * Java's part, row copy and native sampling kernels included. Both come from the same iteration, so that a slow machine
 * doesn't show as overhead.
 */
public final class OutsideOfDecode implements InternalProfiler {
    static final String LABEL = "outside";

    private EngineStats before;

    @Override
    public String getDescription() {
        return "time per operation outside of llama_decode";
    }

    @Override
    public void beforeIteration(BenchmarkParams benchmark, IterationParams iteration) {
        var engine = TokenBenchmark.measured;
        before = engine == null ? null : engine.stats();
    }

    @Override
    @SuppressWarnings("rawtypes")
    public Collection<? extends Result> afterIteration(BenchmarkParams benchmark, IterationParams iteration, IterationResult result) {
        var engine = TokenBenchmark.measured;
        if (before == null || engine == null) {
            return List.of();
        }
        var after = engine.stats();
        double decode = 1e-3 * (after.decodeNanos() - before.decodeNanos()) / (after.steps() - before.steps());
        return List.of(
                new ScalarResult("decode", decode, "us/op", AggregationPolicy.AVG),
                new ScalarResult(LABEL, result.getPrimaryResult().getScore() - decode, "us/op", AggregationPolicy.AVG));
    }
}
