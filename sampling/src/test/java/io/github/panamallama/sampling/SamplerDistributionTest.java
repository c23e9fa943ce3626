package io.github.panamallama.sampling;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.SamplingException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** What is drawn, and how often, on vocabularies small enough to enumerate. */
class SamplerDistributionTest {
    private static final SamplerOptions PLAIN = SamplerOptions.defaults().withTopK(0).withTopP(1).withMinP(0).withTemperature(1).withSeed(7);

    /** Every combination of two or three values per option. */
    private static List<SamplerOptions> combinations() {
        var all = new ArrayList<SamplerOptions>();
        for (int topK : new int[] {0, 1, 3, 1000}) {
            for (float topP : new float[] {0, 0.5f, 0.9f, 1}) {
                for (float minP : new float[] {0, 0.1f, 1}) {
                    for (float temperature : new float[] {0, 0.5f, 1, 3}) {
                        for (var penalties : List.of(PLAIN, PLAIN.withRepetitionPenalty(1.3f),
                                PLAIN.withFrequencyPenalty(0.4f).withPresencePenalty(-0.3f).withPenaltyLastN(3),
                                PLAIN.withLogitBias(Map.of(0, 1.5f, 2, Float.NEGATIVE_INFINITY)))) {
                            all.add(penalties.withTopK(topK).withTopP(topP).withMinP(minP).withTemperature(temperature));
                        }
                    }
                }
            }
        }
        return all;
    }

    private static Sampler sampler(SamplerOptions options, int[] history) {
        var sampler = Sampler.of(options);
        for (int token : history) {
            sampler.accept(token);
        }
        return sampler;
    }

    private static double[] dense(Sampler sampler, Row row) {
        var candidates = ((StandardSampler) sampler).distribution(row);
        var p = new double[row.size()];
        for (int i = 0; i < candidates.size(); i++) {
            p[candidates.token(i)] = candidates.value(i);
        }
        return p;
    }

    private static void assertSameDistribution(double[] expected, double[] actual, Object what) {
        for (int t = 0; t < expected.length; t++) {
            assertEquals(expected[t] > 0, actual[t] > 0, "token " + t + " kept? " + what);
            assertEquals(expected[t], actual[t], 1e-6, "probability of token " + t + ", " + what);
        }
    }

    @Test
    void everyCombinationOfOptionsGivesTheEnumeratedDistribution() {
        long seed = 8121;
        System.out.println("SamplerDistributionTest seed " + seed);
        var random = new Random(seed);
        int cases = 0;
        for (var options : combinations()) {
            for (int n : new int[] {3, 9, 40}) {
                float[] logits = Reference.logits(random, n, 2);
                int[] history = random.ints(random.nextInt(8), 0, n).toArray();
                var row = Reference.row(logits);
                assertSameDistribution(Reference.distribution(logits, options, history), dense(sampler(options, history), row), options);
                assertArrayEquals(logits, row.toArray(), "the row is put back");
                cases++;
            }
        }
        assertEquals(4 * 4 * 3 * 4 * 4 * 3, cases);
    }

    @Test
    void largeVocabulariesPeakedAndFlatGiveTheEnumeratedDistribution() {
        long seed = 99;
        System.out.println("SamplerDistributionTest seed " + seed);
        var random = new Random(seed);
        for (double spread : new double[] {0, 0.001, 0.5, 2, 6, 30}) {
            for (int n : new int[] {2000, 20_011}) {
                float[] logits = Reference.logits(random, n, spread);
                var row = Reference.row(logits);
                for (var options : List.of(PLAIN.withTopP(0.95f), PLAIN.withTopP(0.5f).withMinP(0.01f), PLAIN.withMinP(0.02f),
                        PLAIN.withTopK(40).withTopP(0.9f), PLAIN.withTopK(n / 3).withTopP(0.7f), PLAIN.withTopP(1e-6f),
                        PLAIN.withTopP(Math.nextDown(1.0f)).withMinP(1e-5f))) {
                    double[] expected = Reference.distribution(logits, options, new int[0]);
                    double[] actual = dense(Sampler.of(options), row);
                    // where the mass crosses p, single and double precision may differ by the tokens whose mass is below the sum's error
                    double apart = 0;
                    for (int t = 0; t < n; t++) {
                        apart += Math.abs(expected[t] - actual[t]) / 2;
                    }
                    assertTrue(apart < 2e-4, "spread " + spread + " n " + n + " " + options + ": total variation " + apart);
                }
            }
        }
    }

    @Test
    void tokensAreDrawnAsOftenAsTheirProbabilitySays() {
        int draws = 60_000;
        long seed = 424242;
        System.out.println("SamplerDistributionTest seed " + seed);
        var random = new Random(seed);
        float[] logits = Reference.logits(random, 12, 1.5);
        for (var options : List.of(PLAIN, PLAIN.withTemperature(0.5f), PLAIN.withTemperature(3), PLAIN.withTopK(5), PLAIN.withTopP(0.8f),
                PLAIN.withMinP(0.1f), PLAIN.withTopK(8).withTopP(0.9f).withMinP(0.05f).withTemperature(0.8f),
                PLAIN.withRepetitionPenalty(1.5f).withFrequencyPenalty(0.2f).withPenaltyLastN(4), PLAIN.withLogitBias(3, 2))) {
            int[] history = {1, 4, 4, 7};
            double[] p = Reference.distribution(logits, options, history);
            var row = Reference.row(logits);
            int[] counts = new int[p.length];
            for (int i = 0; i < draws; i++) {
                counts[sampler(options.withSeed(seed + i), history).sample(row)]++;
            }
            double chiSquare = 0;
            int kept = 0;
            for (int t = 0; t < p.length; t++) {
                if (p[t] == 0) {
                    assertEquals(0, counts[t], "token " + t + " was excluded, " + options);
                } else {
                    kept++;
                    double expected = p[t] * draws;
                    chiSquare += (counts[t] - expected) * (counts[t] - expected) / expected;
                }
            }
            // 4.5 standard deviations of a chi-square with kept - 1 degrees of freedom
            double bound = kept - 1 + 4.5 * Math.sqrt(2.0 * (kept - 1)) + 4;
            assertTrue(chiSquare < bound, "chi-square " + chiSquare + " above " + bound + " for " + options);
        }
    }

    @Test
    void oneStreamOfDrawsIsAsGoodAsManySeeds() {
        float[] logits = {0, 1, 2, 0.5f};
        double[] p = Reference.distribution(logits, PLAIN, new int[0]);
        var row = Reference.row(logits);
        var sampler = Sampler.of(PLAIN);
        int draws = 40_000;
        int[][] pairs = new int[4][4];
        int previous = 0;
        for (int i = 0; i < draws; i++) {
            int token = sampler.sample(row);
            sampler.accept(token);
            pairs[previous][token]++;
            previous = token;
        }
        double chiSquare = 0;    // successive draws are independent: 15 degrees of freedom
        for (int a = 0; a < 4; a++) {
            for (int b = 0; b < 4; b++) {
                double expected = p[a] * p[b] * draws;
                chiSquare += (pairs[a][b] - expected) * (pairs[a][b] - expected) / expected;
            }
        }
        assertTrue(chiSquare < 45, "chi-square " + chiSquare);
    }

    @Test
    void greedyTakesTheBestAndTheLowestIdAmongEquals() {
        assertEquals(2, Sampler.greedy().sample(Reference.row(0, 1, 3, 3, 2)));
        assertEquals(3, Sampler.of(SamplerOptions.greedy().withLogitBias(3, 0.5f)).sample(Reference.row(0, 1, 3, 3, 2)));
        assertEquals(2, Sampler.of(PLAIN.withTopK(1)).sample(Reference.row(0, 1, 3, 3, 2)));
        assertEquals(2, Sampler.of(PLAIN.withTopP(0)).sample(Reference.row(0, 1, 3, 3, 2)));
    }

    @Test
    void extremesOfEveryOptionStayDefined() {
        float[] logits = {1, 2, 3};
        var row = Reference.row(logits);
        for (var options : List.of(PLAIN.withTemperature(Float.MIN_VALUE), PLAIN.withTopK(Integer.MAX_VALUE).withTemperature(1e-30f),
                PLAIN.withMinP(1), PLAIN.withTopP(Float.MIN_VALUE))) {
            assertEquals(2, Sampler.of(options).sample(row), options.toString());
        }
        assertSameDistribution(new double[] {1 / 3.0, 1 / 3.0, 1 / 3.0}, dense(Sampler.of(PLAIN.withTemperature(Float.MAX_VALUE)), row),
                "hot");
        assertEquals(0, Sampler.of(SamplerOptions.defaults()).sample(Reference.row(-5)));
        assertEquals(0, Sampler.greedy().sample(Reference.row(-5)));
    }

    @Test
    void rowsThatAreNoDistributionAreRefusedAndPutBack() {
        var row = Reference.row(1, Float.NaN, 2);
        for (var options : List.of(SamplerOptions.greedy(), SamplerOptions.defaults(), PLAIN, PLAIN.withTopP(0.5f),
                PLAIN.withLogitBias(0, 3))) {
            var thrown = assertThrows(SamplingException.class, () -> Sampler.of(options).sample(row));
            assertTrue(thrown.getMessage().startsWith("row holds NaN at token 1"), thrown.getMessage());
            assertEquals(1, row.get(0));
        }
        var banned = PLAIN.withLogitBias(Map.of(0, Float.NEGATIVE_INFINITY, 1, Float.NEGATIVE_INFINITY));
        assertTrue(assertThrows(SamplingException.class, () -> Sampler.of(banned).sample(Reference.row(1, 2)))
                .getMessage().startsWith("all 2 tokens of the row are at -infinity"));
        var overflow = PLAIN.withLogitBias(0, Float.MAX_VALUE);
        assertTrue(assertThrows(SamplingException.class, () -> Sampler.of(overflow).sample(Reference.row(Float.MAX_VALUE, 2)))
                .getMessage().startsWith("row holds +infinity at token 0"));
    }

    @Test
    void tokensOfAnotherVocabularyAreNamed() {
        var biased = Sampler.of(PLAIN.withLogitBias(5, 1));
        assertTrue(assertThrows(SamplingException.class, () -> biased.sample(Reference.row(1, 2)))
                .getMessage().contains("token 5 of the sampler's logitBias is outside the row of 2 tokens"));
        var row = Reference.row(1, 2);
        var penalised = Sampler.of(PLAIN.withRepetitionPenalty(2));
        penalised.accept(0);
        penalised.accept(9);
        assertTrue(assertThrows(SamplingException.class, () -> penalised.sample(row))
                .getMessage().contains("token 9 of the sampler's history is outside the row of 2 tokens"));
        assertArrayEquals(new float[] {1, 2}, row.toArray());
        assertThrows(SamplingException.class, () -> penalised.accept(-1));
    }
}
