package io.github.panamallama.sampling;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import io.github.panamallama.runtime.RowMath;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The same row and options through llama.cpp's own samplers give the same candidates and probabilities. */
class LlamaSamplerDifferentialTest {
    @BeforeAll
    static void loadNatives() {
        RowMath.argmax(Reference.row(0));
    }

    private static double[] upstream(float[] logits, SamplerOptions options, int[] history) {
        try (var chain = new UpstreamChain(options, logits.length, MemorySegment.NULL, 1)) {
            chain.accept(history);
            return chain.apply(logits);
        }
    }

    private static double[] ours(float[] logits, SamplerOptions options, int[] history) {
        var sampler = new StandardSampler(options, null);
        for (int token : history) {
            sampler.accept(token);
        }
        var candidates = sampler.distribution(Reference.row(logits));
        var p = new double[logits.length];
        for (int i = 0; i < candidates.size(); i++) {
            p[candidates.token(i)] = candidates.value(i);
        }
        return p;
    }

    private static SamplerOptions random(Random random, int n) {
        var options = SamplerOptions.defaults()
                .withTopK(random.nextInt(3) == 0 ? 0 : random.nextInt(4) == 0 ? 1 + random.nextInt(n + 10) : 1 + random.nextInt(60))
                .withTopP(random.nextInt(3) == 0 ? 1 : random.nextInt(20) == 0 ? 0 : random.nextFloat())
                .withMinP(random.nextInt(2) == 0 ? 0 : (float) Math.pow(10, -3 * random.nextDouble()))
                .withTemperature(random.nextInt(6) == 0 ? 0 : 0.1f + 2 * random.nextFloat());
        if (random.nextBoolean()) {
            options = options.withRepetitionPenalty(0.7f + random.nextFloat()).withFrequencyPenalty(random.nextFloat() - 0.3f)
                    .withPresencePenalty(random.nextFloat() - 0.3f).withPenaltyLastN(random.nextInt(80));
        }
        for (int i = random.nextInt(3); i > 0; i--) {
            options = options.withLogitBias(random.nextInt(n), random.nextInt(3) == 0 ? Float.NEGATIVE_INFINITY
                    : 4 * random.nextFloat() - 2);
        }
        return options;
    }

    @Test
    void smallVocabulariesGiveTheSameCandidatesAndProbabilities() {
        long seed = 50_005;
        System.out.println("LlamaSamplerDifferentialTest seed " + seed);
        var random = new Random(seed);
        for (int round = 0; round < 5_000; round++) {
            int n = 4 + random.nextInt(300);
            float[] logits = Reference.logits(random, n, 0.2 + 4 * random.nextDouble());
            var options = random(random, n);
            int[] history = random.ints(random.nextInt(100), 0, n).toArray();
            double[] expected = upstream(logits, options, history);
            double[] actual = ours(logits, options, history);
            for (int t = 0; t < n; t++) {
                if ((expected[t] > 1e-30) != (actual[t] > 1e-30) || Math.abs(expected[t] - actual[t]) > 1e-5) {
                    fail("token " + t + " of " + n + ": llama.cpp " + expected[t] + ", here " + actual[t] + ", round " + round + ", "
                            + options);
                }
            }
        }
    }

    @Test
    void wholeVocabulariesGiveTheSameCandidatesAndProbabilities() {
        long seed = 50_006;
        System.out.println("LlamaSamplerDifferentialTest seed " + seed);
        var random = new Random(seed);
        for (int round = 0; round < 60; round++) {
            int n = 30_000 + random.nextInt(122_000);
            float[] logits = Reference.logits(random, n, 0.2 + 4 * random.nextDouble());
            for (int i = random.nextInt(30); i > 0; i--) {
                logits[random.nextInt(n)] = 8 + 14 * random.nextFloat();
            }
            var options = random(random, n);
            int[] history = random.ints(random.nextInt(100), 0, n).toArray();
            double[] expected = upstream(logits, options, history);
            double[] actual = ours(logits, options, history);
            // upstream adds up to n probabilities in single precision: where p is crossed deep in a flat tail, its last tokens are
            // uncertain
            double apart = 0;
            double worst = 0;
            for (int t = 0; t < n; t++) {
                apart += Math.abs(expected[t] - actual[t]) / 2;
                worst = Math.max(worst, Math.abs(expected[t] - actual[t]));
            }
            assertTrue(worst < 1e-5, "a probability differs by " + worst + " round " + round + ", " + options);
            boolean exact = options.topP() == 1 || options.topK() > 0 && options.topK() <= 60;
            assertTrue(apart < (exact ? 1e-5 : 1e-3), "total variation " + apart + " round " + round + ", " + options);
        }
    }
}
