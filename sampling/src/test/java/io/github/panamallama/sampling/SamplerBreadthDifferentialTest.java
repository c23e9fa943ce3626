package io.github.panamallama.sampling;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_model_params;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.Vocabulary;
import io.github.panamallama.sampling.SamplerOptions.Dry;
import io.github.panamallama.sampling.SamplerOptions.DynamicTemperature;
import io.github.panamallama.sampling.SamplerOptions.Mirostat;
import io.github.panamallama.sampling.SamplerOptions.Xtc;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/**
 * Each sampler against llama.cpp's own: the same row, options and history leave the same candidates with the same probabilities. Where
 * logits tie at a border, llama.cpp keeps any of them and here it is the lowest id; then the probabilities are compared without their
 * tokens. What is drawn at random (xtc, mirostat) is compared given the same decision.
 */
class SamplerBreadthDifferentialTest {
    private static final SamplerOptions PLAIN =
            SamplerOptions.defaults().withTopK(0).withTopP(1).withMinP(0).withTemperature(1).withSeed(1);
    private static final Path SHIPPED = Path.of("..", "models", "java-tiny-f16.gguf");

    private static Model model;
    private static Vocabulary vocabulary;
    private static MemorySegment nativeModel;
    private static MemorySegment vocab;

    @BeforeAll
    static void load() {
        model = Model.load(SHIPPED, ModelOptions.defaults().withVocabularyOnly(true));
        vocabulary = model.vocabulary();
        try (var arena = Arena.ofConfined()) {
            var params = LlamaH.llama_model_default_params(arena);
            llama_model_params.vocab_only(params, true);
            nativeModel = LlamaH.llama_model_load_from_file(arena.allocateFrom(SHIPPED.toString()), params);
            vocab = LlamaH.llama_model_get_vocab(nativeModel);
        }
    }

    @AfterAll
    static void unload() {
        LlamaH.llama_model_free(nativeModel);
        model.close();
    }

    /** Random rows: smooth ones, ones with many ties, ones with excluded tokens. */
    private static float[] row(Random random, int n, boolean excluded) {
        return row(random, n, excluded, random.nextInt(3) == 0);
    }

    private static float[] row(Random random, int n, boolean excluded, boolean ties) {
        float[] logits = Reference.logits(random, n, 0.2 + 4 * random.nextDouble());
        if (ties) {
            float grid = random.nextBoolean() ? 1 : 0.25f;
            for (int t = 0; t < n; t++) {
                logits[t] = Math.round(logits[t] / grid) * grid;
            }
        }
        for (int i = excluded ? random.nextInt(n) : 0; i > 0; i--) {
            logits[random.nextInt(n)] = Float.NEGATIVE_INFINITY;
        }
        logits[random.nextInt(n)] = 3 * random.nextFloat();
        return logits;
    }

    private static void compare(float[] logits, SamplerOptions options, int[] history, String where) {
        try (var chain = new UpstreamChain(options, logits.length, vocab, 1)) {
            chain.accept(history);
            var sampler = new StandardSampler(options, vocabulary);
            for (int token : history) {
                sampler.accept(token);
            }
            assertSame(chain.apply(logits), ours(sampler, logits), logits, options, where);
        }
    }

    private static double[] ours(StandardSampler sampler, float[] logits) {
        var row = Reference.row(logits);
        var candidates = sampler.distribution(row);
        assertTrue(Arrays.equals(logits, row.toArray()), "the row is put back");
        var p = new double[logits.length];
        for (int i = 0; i < candidates.size(); i++) {
            p[candidates.token(i)] = candidates.value(i);
        }
        return p;
    }

    private static void assertSame(double[] expected, double[] actual, float[] logits, SamplerOptions options, String where) {
        // a logit over a small temperature is rounded to its own size
        double tolerance = 1e-5 + (options.temperature() > 0 ? 1e-6 / options.temperature() : 0);
        double[] ordered = expected.clone();
        double[] mine = actual.clone();
        Arrays.sort(ordered);
        Arrays.sort(mine);
        for (int i = 0; i < ordered.length; i++) {
            if (Math.abs(ordered[i] - mine[i]) > tolerance) {
                fail(where + ": probabilities differ, llama.cpp " + ordered[i] + ", here " + mine[i] + ", " + options);
            }
        }
        for (int t = 0; t < expected.length; t++) {
            if ((expected[t] > 1e-30) != (actual[t] > 1e-30) || Math.abs(expected[t] - actual[t]) > tolerance) {
                float logit = logits[t];
                int ties = 0;
                for (float other : logits) {
                    ties += other == logit ? 1 : 0;
                }
                if (ties < 2) {
                    fail(where + ": token " + t + ": llama.cpp " + expected[t] + ", here " + actual[t] + ", " + options);
                }
            }
        }
    }

    private static String seeded(long seed, int round) {
        return "seed " + seed + " round " + round;
    }

    @Test
    void typicalKeepsTheSameTokens() {
        long seed = 71;
        var random = new Random(seed);
        int open = 0;
        for (int round = 0; round < 2_000; round++) {
            float[] logits = row(random, 3 + random.nextInt(300), false);    // where a token is excluded llama.cpp computes 0 * log 0
            var options = PLAIN.withTypicalP(random.nextInt(20) == 0 ? 0 : random.nextFloat()).withTemperature(0.3f + random.nextFloat())
                    .withTopK(random.nextBoolean() ? 0 : 1 + random.nextInt(60));
            if (cutIsOpen(logits, options.topK(), options.typicalP())) {
                open++;
            } else {
                compare(logits, options, new int[0], seeded(seed, round));
            }
        }
        assertTrue(open < 20, open + " rows can be cut in two ways");
    }

    /** Whether single precision, in which llama.cpp computes surprises and sums, may cut these rows elsewhere. */
    private static boolean cutIsOpen(float[] logits, int topK, float p) {
        var sorted = new ArrayList<Float>();
        for (float logit : logits) {
            sorted.add(logit);
        }
        sorted.sort(Collections.reverseOrder());
        var kept = sorted.subList(0, topK == 0 ? sorted.size() : Math.min(topK, sorted.size()));
        double total = kept.stream().mapToDouble(Math::exp).sum();
        double entropy = kept.stream().mapToDouble(logit -> -Math.exp(logit) / total * (logit - Math.log(total))).sum();
        kept.sort(Comparator.comparingDouble(logit -> Math.abs(Math.log(total) - logit - entropy)));
        double mass = 0;
        for (int i = 0; i + 1 < kept.size(); i++) {
            mass += Math.exp(kept.get(i)) / total;
            if (mass > p - 1e-6) {
                double gap = Math.abs(Math.log(total) - kept.get(i + 1) - entropy) - Math.abs(Math.log(total) - kept.get(i) - entropy);
                return mass < p + 1e-6 || gap < 2e-6 && !kept.get(i).equals(kept.get(i + 1));
            }
        }
        return false;
    }

    @Test
    void topNSigmaKeepsTheSameTokens() {
        long seed = 72;
        var random = new Random(seed);
        for (int round = 0; round < 2_000; round++) {
            float[] logits = row(random, 2 + random.nextInt(300), random.nextBoolean());
            compare(logits, PLAIN.withTopNSigma(0.01f + 3 * random.nextFloat()), new int[0], seeded(seed, round));
        }
    }

    @Test
    void temperatureFollowsTheEntropyAlike() {
        long seed = 73;
        var random = new Random(seed);
        for (int round = 0; round < 2_000; round++) {
            float[] logits = row(random, 1 + random.nextInt(300), random.nextBoolean());
            float temperature = random.nextInt(5) == 0 ? 0 : (float) Math.pow(10, 4 * random.nextDouble() - 2);
            var options = PLAIN.withTemperature(temperature)
                    .withDynamicTemperature(new DynamicTemperature(random.nextInt(5) == 0 ? 0 : 2 * random.nextFloat(),
                            3 * random.nextFloat()));
            compare(logits, options.withTopK(random.nextBoolean() ? 0 : 1 + random.nextInt(100)), new int[0], seeded(seed, round));
        }
    }

    @Test
    void extremeTemperaturesGiveTheSameDistribution() {
        long seed = 74;
        var random = new Random(seed);
        for (int round = 0; round < 1_000; round++) {
            float[] logits = row(random, 2 + random.nextInt(300), random.nextBoolean());
            compare(logits, PLAIN.withTemperature((float) Math.pow(10, 8 * random.nextDouble() - 3)), new int[0], seeded(seed, round));
        }
    }

    @Test
    void xtcExcludesTheSameTokensOnceDecided() {
        long seed = 75;
        var random = new Random(seed);
        for (int round = 0; round < 2_000; round++) {
            float[] logits = row(random, 1 + random.nextInt(100), random.nextBoolean());
            var xtc = new Xtc(1, random.nextInt(10) == 0 ? 0.5f : 0.5f * random.nextFloat());
            compare(logits, PLAIN.withXtc(xtc).withTopK(random.nextBoolean() ? 0 : 1 + random.nextInt(20)), new int[0], seeded(seed,
                    round));
        }
    }

    @Test
    void xtcIsDecidedAsOftenAsAskedAndNeverOtherwiseThanUpstreamMight() {
        long seed = 76;
        float[] logits = Reference.logits(new Random(seed), 12, 1);
        for (float probability : new float[] {0.1f, 0.5f, 0.85f}) {
            var options = PLAIN.withXtc(new Xtc(probability, 0.05f)).withSeed(seed);
            double[] without = new double[12];
            double[] with = new double[12];
            try (var never = new UpstreamChain(PLAIN, 12, vocab, 1);
                    var always = new UpstreamChain(PLAIN.withXtc(new Xtc(1, 0.05f)), 12, vocab, 1)) {
                without = never.apply(logits);
                with = always.apply(logits);
            }
            int excluded = 0;
            int positions = 10_000;
            var sampler = new StandardSampler(options, null);
            for (int i = 0; i < positions; i++) {
                double[] p = ours(sampler, logits);
                boolean changed = Math.abs(p[0] - with[0]) + Math.abs(p[1] - with[1]) + Math.abs(p[2] - with[2]) < 1e-5;
                assertSame(changed ? with : without, p, logits, options, "position " + i);
                excluded += changed ? 1 : 0;
                sampler.accept(i % 12);
            }
            double deviation = Math.sqrt(positions * probability * (1 - probability));
            assertTrue(Math.abs(excluded - positions * probability) < 4.5 * deviation, excluded + " of " + positions + " at "
                    + probability);
        }
    }

    @Test
    void mirostatFollowsTheSameBound() {
        long seed = 77;
        var random = new Random(seed);
        for (int round = 0; round < 60; round++) {
            var options = PLAIN.withTemperature(0.5f + random.nextFloat()).withMirostat(new Mirostat(0.5f + 4 * random.nextFloat(),
                    random.nextFloat()));
            int n = 2 + random.nextInt(300);
            try (var chain = new UpstreamChain(options, n, vocab, 1 + round)) {
                var sampler = new StandardSampler(options, null);
                for (int position = 0; position < 60; position++) {
                    float[] logits = row(random, n, random.nextBoolean());
                    double[] expected = chain.apply(logits);
                    assertSame(expected, ours(sampler, logits), logits, options, seeded(seed, round) + " position " + position);
                    if (expectedElsewhere(sampler, chain.selected())) {
                        break;    // a tie was cut another way, so that the two texts part
                    }
                    chain.accept(chain.selected());
                    sampler.accept(chain.selected());
                }
            }
        }
    }

    private static boolean expectedElsewhere(StandardSampler sampler, int token) {
        return sampler.looked().indexOf(token) < 0;
    }

    @Test
    void dryPenalisesTheSameRepetitions() {
        long seed = 78;
        var random = new Random(seed);
        int[] text = vocabulary.tokenize("int max = a > b ? a : b;\n\tint min = a > b ? b : a;\nString s = \"a: b\" + '*';\n", false,
                false);
        int n = vocabulary.size();
        int penalised = 0;
        for (int round = 0; round < 1_000; round++) {
            var breakers = new ArrayList<>(List.of("\n", ":", "\"", "*", "a > b", " ? ", "int m", ";\n\tint"));
            Collections.shuffle(breakers, random);
            var dry = new Dry(0.1f + 2 * random.nextFloat(), 1 + random.nextFloat(), random.nextInt(4), 1 + random.nextInt(120),
                    breakers.subList(0, random.nextInt(breakers.size())));
            int[] history = new int[random.nextInt(150)];
            for (int i = 0; i < history.length; ) {
                int from = random.nextInt(text.length);
                for (int length = 1 + random.nextInt(12); length > 0 && i < history.length; length--) {
                    history[i++] = text[from++ % text.length];
                }
            }
            float[] logits = Reference.logits(random, n, 1);
            var options = PLAIN.withDry(dry).withTopK(40);
            for (int token : text) {
                logits[token] += 4;
            }
            compare(logits, options, history, seeded(seed, round));
            var repetitions = new Repetitions(dry, Breakers.of(dry.breakers(), vocabulary));
            repetitions.find(history, history.length);
            penalised += repetitions.size() > 0 ? 1 : 0;
        }
        assertTrue(penalised > 200, "only " + penalised + " histories repeat themselves");
    }

    @Test
    void infillEndsOrMergesAlike() {
        long seed = 79;
        var random = new Random(seed);
        int n = vocabulary.size();
        int[] ends = vocabulary.endOfGeneration();
        for (int round = 0; round < 1_000; round++) {
            float[] logits = Reference.logits(random, n, 1);
            for (int i = random.nextInt(6); i > 0; i--) {
                logits[random.nextInt(n)] = 8 + 6 * random.nextFloat();
            }
            if (random.nextBoolean()) {
                logits[ends[random.nextInt(ends.length)]] = 4 + 8 * random.nextFloat();
            }
            var options = PLAIN.withTopK(1 + random.nextInt(60)).withTopP(random.nextBoolean() ? 1 : 0.99f)
                    .withOrder(SamplerStep.TOP_K, SamplerStep.TOP_P, SamplerStep.INFILL, SamplerStep.TEMPERATURE);
            compare(logits, options, new int[0], seeded(seed, round));
        }
    }

    @Test
    void infillNeverEndsATextWhoseEndIsExcluded() {
        int n = vocabulary.size();
        float[] logits = Reference.logits(new Random(5), n, 0.1);    // nothing is likely, so that it would end
        var options = PLAIN.withTopK(40).withOrder(SamplerStep.TOP_K, SamplerStep.INFILL);
        for (int end : vocabulary.endOfGeneration()) {
            logits[end] = 0;
        }
        double[] free = ours(new StandardSampler(options, vocabulary), logits);
        assertEquals(1, free[vocabulary.eot() >= 0 ? vocabulary.eot() : vocabulary.eos()]);
        for (int end : vocabulary.endOfGeneration()) {
            logits[end] = Float.NEGATIVE_INFINITY;
        }
        double[] bound = ours(new StandardSampler(options, vocabulary), logits);
        assertEquals(40, Arrays.stream(bound).filter(p -> p > 0).count(), "the candidates stay as they are");
    }

    /** llama.cpp's typical sampler computes 0 * log 0 there, and keeps what its sort happens to leave. */
    @Test
    void typicalKnowsExcludedTokens() {
        float[] logits = {3, Float.NEGATIVE_INFINITY, 2, 2.5f, -4, Float.NEGATIVE_INFINITY};
        double[] p = ours(new StandardSampler(PLAIN.withTopNSigma(2).withTypicalP(0.9f), null), logits);
        assertEquals(1, Arrays.stream(p).sum(), 1e-6);
        assertEquals(0, p[1] + p[5]);
        assertTrue(p[0] > 0 && p[2] > 0 && p[3] > 0, Arrays.toString(p));
    }

    @Test
    void anyOrderOfStepsGivesTheSameDistribution() {
        long seed = 80;
        System.out.println("SamplerBreadthDifferentialTest seed " + seed);
        var random = new Random(seed);
        for (int round = 0; round < 4_000; round++) {
            int n = 4 + random.nextInt(200);
            boolean typical = random.nextBoolean();
            float[] logits = row(random, n, !typical, false);    // which of equals is cut matters to what penalises it later
            var order = new ArrayList<>(SamplerStep.USUAL);
            Collections.shuffle(order, random);
            var options = PLAIN.withOrder(order.subList(0, 1 + random.nextInt(order.size())))
                    .withTopK(random.nextBoolean() ? 0 : 1 + random.nextInt(n)).withTopP(random.nextBoolean() ? 1 : random.nextFloat())
                    .withMinP(random.nextBoolean() ? 0 : 0.3f * random.nextFloat()).withTemperature(0.2f + 1.5f * random.nextFloat())
                    .withXtc(random.nextBoolean() ? null : new Xtc(1, 0.3f * random.nextFloat()));
            // what llama.cpp excludes without taking it away makes its typical sampler compute 0 * log 0
            options = typical ? options.withTypicalP(random.nextFloat()) : options.withTopNSigma(random.nextBoolean() ? 0
            : 3 * random.nextFloat())
                    .withDynamicTemperature(random.nextBoolean() ? null : new DynamicTemperature(0.2f * random.nextFloat(), 1
                            + random.nextFloat()));
            if (random.nextBoolean()) {
                options = options.withRepetitionPenalty(0.7f + random.nextFloat()).withFrequencyPenalty(random.nextFloat() - 0.3f)
                        .withPresencePenalty(random.nextFloat() - 0.3f).withPenaltyLastN(random.nextInt(80));
            }
            if (random.nextBoolean()) {
                options = options.withDry(new Dry(1, 1.5f, 1, 50, List.of()));
            }
            compare(logits, options, random.ints(random.nextInt(100), 0, Math.min(n, 12)).toArray(), seeded(seed, round));
        }
    }

    @Test
    void wholeVocabulariesGiveTheSameCandidatesAndProbabilities() {
        long seed = 81;
        var random = new Random(seed);
        for (int round = 0; round < 20; round++) {
            int n = 30_000 + random.nextInt(122_000);
            float[] logits = Reference.logits(random, n, 1);
            for (int i = 0; i < 20; i++) {
                logits[random.nextInt(n)] = 10 + 6 * random.nextFloat();
            }
            compare(logits, switch (round % 4) {
                case 0 -> PLAIN.withTopNSigma(1 + 2 * random.nextFloat());
                case 1 -> PLAIN.withXtc(new Xtc(1, 0.05f)).withMinP(0.01f);
                case 2 -> PLAIN.withDynamicTemperature(new DynamicTemperature(0.5f, 1)).withTopK(60);
                default -> PLAIN.withMirostat(new Mirostat(3, 0.1f));
            }, new int[0], seeded(seed, round));
        }
    }

    @Test
    void mirostatDrawsAsOftenAsItsDistributionSays() {
        long seed = 82;
        float[] logits = Reference.logits(new Random(seed), 8, 1);
        var options = PLAIN.withMirostat(new Mirostat(1.5f, 0.1f));
        double[] p = ours(new StandardSampler(options, null), logits);
        int draws = 20_000;
        int[] counts = new int[8];
        for (int i = 0; i < draws; i++) {
            counts[new StandardSampler(options.withSeed(seed + i), null).sample(Reference.row(logits))]++;
        }
        for (int t = 0; t < 8; t++) {
            double deviation = Math.sqrt(draws * p[t] * (1 - p[t]));
            assertEquals(draws * p[t], counts[t], 4.5 * deviation + 1e-9, "token " + t);
        }
    }
}
