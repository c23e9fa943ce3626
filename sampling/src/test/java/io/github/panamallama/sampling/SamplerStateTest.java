package io.github.panamallama.sampling;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** Seeds, fork and rollback. */
class SamplerStateTest {
    private static final List<SamplerOptions> OPTIONS = List.of(
            SamplerOptions.defaults().withTopK(0).withTopP(1).withMinP(0).withTemperature(2).withSeed(5),
            SamplerOptions.defaults().withTemperature(1.5f).withFrequencyPenalty(1).withPenaltyLastN(5).withSeed(6),
            SamplerOptions.defaults().withTemperature(1.5f).withRepetitionPenalty(1.4f).withPresencePenalty(0.5f).withPenaltyLastN(Integer.MAX_VALUE).withSeed(7),
            SamplerOptions.greedy().withRepetitionPenalty(1.2f).withPenaltyLastN(1),
            SamplerOptions.defaults().withMirostat(new SamplerOptions.Mirostat(2, 0.3f)).withSeed(8),
            SamplerOptions.defaults().withTemperature(1.5f).withXtc(new SamplerOptions.Xtc(0.5f, 0.1f)).withTypicalP(0.9f).withSeed(9),
            SamplerOptions.defaults().withTemperature(1.5f).withFrequencyPenalty(1).withDry(new SamplerOptions.Dry(2, 1.5f, 0, 9,
            List.of()))
                    .withOrder(SamplerStep.TOP_K, SamplerStep.DRY, SamplerStep.TEMPERATURE, SamplerStep.PENALTIES).withSeed(10));

    /** A toy model: the row is a function of the position. */
    private static int[] generate(Sampler sampler, int from, int count) {
        var tokens = new int[count];
        for (int i = 0; i < count; i++) {
            tokens[i] = sampler.sample(Reference.row(Reference.logits(new Random(31L * (from + i)), 50, 1)));
            sampler.accept(tokens[i]);
        }
        return tokens;
    }

    @Test
    void theSameSeedGivesTheSameTokensAndAnotherSeedOthers() {
        for (var options : OPTIONS) {
            assertArrayEquals(generate(Sampler.of(options), 0, 60), generate(Sampler.of(options), 0, 60));
            if (options.temperature() > 0) {
                assertFalse(Arrays.equals(generate(Sampler.of(options), 0, 60), generate(Sampler.of(options.withSeed(1234)), 0, 60)));
                assertFalse(Arrays.equals(generate(Sampler.of(options.withRandomSeed()), 0, 60),
                        generate(Sampler.of(options.withRandomSeed()), 0, 60)));
            }
        }
    }

    @Test
    void drawsAreTheSameOnEveryPlatform() {
        assertEquals(0.8833108082136426, Draws.uniform(0, 0));
        assertEquals(0.43152799704850997, Draws.uniform(0, 1));
        assertEquals(0.21614837616462668, Draws.uniform(-1, 1_000_000));
    }

    @Test
    void samplingWithoutAcceptingRepeatsItself() {
        var sampler = Sampler.of(OPTIONS.getFirst());
        var row = Reference.row(Reference.logits(new Random(1), 50, 1));
        assertEquals(sampler.sample(row), sampler.sample(row));
    }

    @Test
    void aForkGoesOnLikeTheOriginalAndIndependently() {
        for (var options : OPTIONS) {
            var original = Sampler.of(options);
            generate(original, 0, 20);
            var fork = original.fork();
            var other = original.fork(99);
            int[] expected = generate(original.fork(), 20, 40);
            generate(fork.fork(), 3, 17);    // what a fork of a fork does is nobody else's matter
            assertArrayEquals(expected, generate(original, 20, 40));
            assertArrayEquals(expected, generate(fork, 20, 40));
            assertEquals(options.temperature() == 0, Arrays.equals(expected, generate(other, 20, 40)), "a reseeded fork draws differently");
        }
    }

    @Test
    void rollbackUndoesAcceptsExactly() {
        long seed = 77;
        System.out.println("SamplerStateTest seed " + seed);
        var random = new Random(seed);
        for (var options : OPTIONS) {
            for (int round = 0; round < 30; round++) {
                var sampler = Sampler.of(options);
                int kept = random.nextInt(30);
                int undone = random.nextInt(30);
                generate(sampler, 0, kept);
                int[] expected = generate(sampler.fork(), kept, 20);
                generate(sampler, 1000, undone);
                sampler.rollback(undone);
                assertArrayEquals(expected, generate(sampler, kept, 20), options + " kept " + kept + " undone " + undone);
            }
        }
    }

    @Test
    void mirostatCountsATokenThatWasChosenByAnotherAndForksBetweenLookAndAccept() {
        var options = SamplerOptions.defaults().withTemperature(1).withMirostat(new SamplerOptions.Mirostat(2, 0.5f)).withSeed(3);
        var row = Reference.row(Reference.logits(new Random(5), 50, 1));
        var sampler = new StandardSampler(options, null);
        var candidates = sampler.distribution(row);
        int rare = candidates.token(0);
        var fork = (StandardSampler) sampler.fork();
        sampler.accept(rare);
        fork.accept(rare);
        var unseen = new StandardSampler(options, null);
        unseen.accept(rare);
        assertEquals(sampler.distribution(row).size(), fork.distribution(row).size());
        assertEquals(sampler.distribution(row).value(0), fork.distribution(row).value(0));
        assertEquals(candidates.size(), unseen.distribution(row).size(), "nothing was looked at");
    }

    @Test
    void rollbackIsBoundedByWhatWasAccepted() {
        var sampler = Sampler.of(OPTIONS.get(1));
        generate(sampler, 0, 3);
        assertEquals("rollback must be 0 to 3, the number of accepted tokens, got 4",
                assertThrows(IllegalArgumentException.class, () -> sampler.rollback(4)).getMessage());
        assertThrows(IllegalArgumentException.class, () -> sampler.rollback(-1));
        sampler.rollback(3);
        assertThrows(IllegalArgumentException.class, () -> sampler.rollback(1));
    }

    @Test
    void countsAgreeWithAMapUnderRandomAddsAndRemoves() {
        long seed = 4;
        System.out.println("SamplerStateTest seed " + seed);
        var random = new Random(seed);
        var counts = new TokenCounts();
        var expected = new HashMap<Integer, Integer>();
        for (int step = 0; step < 200_000; step++) {
            int token = random.nextInt(step < 100_000 ? 400 : 40) * 1024;    // shares low bits, so that runs form
            if (expected.containsKey(token) && random.nextInt(20) < 11) {
                counts.remove(token);
                expected.computeIfPresent(token, (t, c) -> c == 1 ? null : c - 1);
            } else {
                counts.add(token);
                expected.merge(token, 1, Integer::sum);
            }
            if (step % 500 == 0) {
                var actual = new HashMap<Integer, Integer>();
                var source = random.nextBoolean() ? counts : new TokenCounts(counts);
                for (int i = 0; i < source.size(); i++) {
                    actual.put(source.token(i), source.count(i));
                }
                assertEquals(expected, actual);
            }
        }
    }
}
