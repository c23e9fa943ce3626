package io.github.panamallama.sampling;

import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import io.github.panamallama.runtime.Row;
import java.lang.management.ManagementFactory;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** Once compiled, choosing a token allocates nothing. */
class SamplerAllocationTest {
    private static final int TOKENS = 2_000;
    private static final int MOST_ROUNDS = 300;

    @Test
    void noSamplerAllocatesPerToken() {
        var threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        var random = new Random(1);
        var rows = IntStream.range(0, 16).mapToObj(i -> Reference.row(Reference.logits(random, 500, 2))).toArray(Row[]::new);
        for (var options : List.of(SamplerOptions.defaults(),
                SamplerOptions.defaults().withRepetitionPenalty(1.1f).withFrequencyPenalty(0.1f),
                SamplerOptions.defaults().withTypicalP(0.9f).withXtc(new SamplerOptions.Xtc(0.5f, 0.05f)).withTopNSigma(2)
                        .withDynamicTemperature(new SamplerOptions.DynamicTemperature(0.3f, 1)),
                SamplerOptions.defaults().withDry(new SamplerOptions.Dry(1, 1.75f, 0, 64, List.of())),
                SamplerOptions.defaults().withFrequencyPenalty(0.1f).withOrder(SamplerStep.TOP_K, SamplerStep.PENALTIES,
                SamplerStep.TEMPERATURE),
                SamplerOptions.defaults().withMirostat(SamplerOptions.Mirostat.defaults()))) {
            var sampler = Sampler.of(options.withSeed(1));
            long least = Long.MAX_VALUE;
            for (int round = 0; round < MOST_ROUNDS && least > 0; round++) {
                long before = threads.getCurrentThreadAllocatedBytes();
                for (int i = 0; i < TOKENS; i++) {
                    sampler.accept(sampler.sample(rows[i & 15]));
                }
                least = Math.min(least, threads.getCurrentThreadAllocatedBytes() - before);
                sampler.rollback(TOKENS);
            }
            assertTrue(least == 0, "at least " + least + " bytes for " + TOKENS + " tokens with " + options);
        }
    }
}
