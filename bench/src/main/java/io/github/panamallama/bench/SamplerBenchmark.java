package io.github.panamallama.bench;

import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.sampling.Sampler;
import io.github.panamallama.sampling.SamplerOptions;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/**
 * Choosing one token: sample and accept, per sampler and vocabulary. Sixteen rows take turns; every 2,048 tokens the sampler goes back
 * to the start, as a new generation would. Run with {@code -prof gc} for the bytes allocated per token: none.
 *
 * <p>Medians in microseconds at 4,096 / 32,000 / 151,936 tokens, sample mode, AMD EPYC (Zen 5), one thread of a busy two-core virtual
 * machine, JDK 25, GCC 12:
 * <pre>
 * GREEDY         0.46 / 3.2 / 14.8
 * TOP_K_TOP_P    5.8 / 7.3 / 23.0
 * PENALTIES      6.6 / 8.4 / 24.4
 * TOP_P          3.8 / 12.6 / 49.9
 * MIN_P          1.7 / 4.7 / 17.0
 * TEMPERATURE    1.8 / 11.0 / 52.2
 * </pre>
 * At 4,096 / 32,000 / 151,936 / 262,144 tokens on a Zen 4, one thread with the core for itself, a quarter of a second per iteration:
 * <pre>
 * GREEDY         0.48 / 3.4 / 15.1 / 28.1
 * DRY            5.9 / 13.3 / 25.0 / 50.7
 * CHAIN          31 / 197 / 845 / 1521
 * MIROSTAT       46 / 384 / 1786 / 2997
 * TYPICAL        91 / 629 / 3033 / 5130
 * </pre>
 * Sixteen rows of 262,144 tokens take 16.8 MB: where others use the shared cache too, their memory is measured, not the sampler. Greedy
 * sampling looks at each logit once, at 43 GB/s from a cache.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
public class SamplerBenchmark {
    /** What is sampled. */
    public enum Kind {
        GREEDY(SamplerOptions.greedy()),
        /** Temperature, top-k 40, top-p 0.95. */
        TOP_K_TOP_P(SamplerOptions.defaults().withMinP(0).withSeed(1)),
        /** The defaults, and penalties over the last 64 tokens. */
        PENALTIES(SamplerOptions.defaults().withRepetitionPenalty(1.1f).withFrequencyPenalty(0.1f).withSeed(1)),
        /** Top-p 0.95 over the whole vocabulary. */
        TOP_P(SamplerOptions.defaults().withTopK(0).withMinP(0).withSeed(1)),
        /** Min-p 0.05 over the whole vocabulary. */
        MIN_P(SamplerOptions.defaults().withTopK(0).withTopP(1).withSeed(1)),
        /** The whole vocabulary at temperature 0.8. */
        TEMPERATURE(SamplerOptions.defaults().withTopK(0).withTopP(1).withMinP(0).withSeed(1)),
        /** The defaults, and DRY over the last 64 tokens. */
        DRY(SamplerOptions.defaults().withDry(new SamplerOptions.Dry(0.8f, 1.75f, 2, 64, List.of())).withSeed(1)),
        /** The defaults, with top-n-sigma 1.5 before them, typical 0.95, XTC every second time, and dynamic temperature. */
        CHAIN(SamplerOptions.defaults().withTopNSigma(1.5f).withTypicalP(0.95f).withXtc(new SamplerOptions.Xtc(0.5f, 0.1f))
                .withDynamicTemperature(new SamplerOptions.DynamicTemperature(0.3f, 1)).withSeed(1)),
        /** Typical 0.95 over the whole vocabulary. */
        TYPICAL(SamplerOptions.defaults().withTopK(0).withTopP(1).withMinP(0).withTypicalP(0.95f).withSeed(1)),
        MIROSTAT(SamplerOptions.defaults().withMirostat(SamplerOptions.Mirostat.defaults()).withSeed(1));

        final SamplerOptions options;

        Kind(SamplerOptions options) {
            this.options = options;
        }
    }

    @Param({"4096", "32000", "151936"})
    public int vocabulary;

    @Param
    public Kind kind;

    private Row[] rows;
    private Sampler sampler;
    private int tokens;

    @Setup
    public void prepare() {
        rows = Rows.peaked(16, vocabulary);
        sampler = Sampler.of(kind.options);
    }

    @Benchmark
    public int sampleAndAccept() {
        if (tokens == 2048) {
            sampler.rollback(tokens);
            tokens = 0;
        }
        int token = sampler.sample(rows[tokens & 15]);
        sampler.accept(token);
        tokens++;
        return token;
    }

    @Benchmark
    public double logProbability() {
        return RowMath.logProbability(rows[tokens++ & 15], 7);
    }
}
