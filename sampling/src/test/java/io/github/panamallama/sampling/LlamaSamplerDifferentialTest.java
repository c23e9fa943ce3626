package io.github.panamallama.sampling;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_logit_bias;
import io.github.panamallama.bindings.llama_token_data;
import io.github.panamallama.bindings.llama_token_data_array;
import io.github.panamallama.runtime.RowMath;
import java.lang.foreign.Arena;
import java.util.Random;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The same row and options through llama.cpp's own samplers give the same candidates and probabilities. */
class LlamaSamplerDifferentialTest {
    @BeforeAll
    static void loadNatives() {
        RowMath.argmax(Reference.row(0));
    }

    /** {@code [n_vocab]} probabilities by a chain of llama.cpp's samplers in the order of its common/sampling.cpp. */
    private static double[] upstream(float[] logits, SamplerOptions options, int[] history) {
        try (var arena = Arena.ofConfined()) {
            var chain = LlamaH.llama_sampler_chain_init(LlamaH.llama_sampler_chain_default_params(arena));
            var bias = llama_logit_bias.allocateArray(Math.max(1, options.logitBias().size()), arena);
            int b = 0;
            for (var entry : options.logitBias().entrySet()) {
                var slot = llama_logit_bias.asSlice(bias, b++);
                llama_logit_bias.token(slot, entry.getKey());
                llama_logit_bias.bias(slot, entry.getValue());
            }
            LlamaH.llama_sampler_chain_add(chain, LlamaH.llama_sampler_init_logit_bias(logits.length, b, bias));
            var penalties = LlamaH.llama_sampler_init_penalties(logits.length, options.penaltyLastN(),
                    options.repetitionPenalty(), options.frequencyPenalty(), options.presencePenalty());
            LlamaH.llama_sampler_chain_add(chain, penalties);
            LlamaH.llama_sampler_chain_add(chain, LlamaH.llama_sampler_init_top_k(options.topK()));
            LlamaH.llama_sampler_chain_add(chain, LlamaH.llama_sampler_init_top_p(options.topP(), 0));
            LlamaH.llama_sampler_chain_add(chain, LlamaH.llama_sampler_init_min_p(options.minP(), 0));
            LlamaH.llama_sampler_chain_add(chain, LlamaH.llama_sampler_init_temp(options.temperature()));
            LlamaH.llama_sampler_chain_add(chain, LlamaH.llama_sampler_init_dist(1));
            for (int token : history) {
                LlamaH.llama_sampler_accept(chain, token);
            }

            var data = llama_token_data.allocateArray(logits.length, arena);
            for (int t = 0; t < logits.length; t++) {
                var slot = llama_token_data.asSlice(data, t);
                llama_token_data.id(slot, t);
                llama_token_data.logit(slot, logits[t]);
            }
            var array = llama_token_data_array.allocate(arena);
            llama_token_data_array.data(array, data);
            llama_token_data_array.size(array, logits.length);
            llama_token_data_array.selected(array, -1);
            LlamaH.llama_sampler_apply(chain, array);

            var p = new double[logits.length];
            long size = llama_token_data_array.size(array);
            var kept = llama_token_data_array.data(array).reinterpret(size * llama_token_data.sizeof());
            for (long i = 0; i < size; i++) {
                var slot = llama_token_data.asSlice(kept, i);
                p[llama_token_data.id(slot)] = llama_token_data.p(slot);
            }
            LlamaH.llama_sampler_free(chain);
            return p;
        }
    }

    private static double[] ours(float[] logits, SamplerOptions options, int[] history) {
        var sampler = new StandardSampler(options);
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
            options = options.withLogitBias(random.nextInt(n), random.nextInt(3) == 0 ? Float.NEGATIVE_INFINITY : 4 * random.nextFloat() - 2);
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
                    fail("token " + t + " of " + n + ": llama.cpp " + expected[t] + ", here " + actual[t] + ", round " + round + ", " + options);
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
            // upstream adds up to n probabilities in single precision: where p is crossed deep in a flat tail, its last tokens are uncertain
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
