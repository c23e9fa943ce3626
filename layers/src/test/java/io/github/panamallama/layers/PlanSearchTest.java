package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.layers.PlanSearch.Step;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.search.Slice;
import io.github.panamallama.runtime.search.Stage;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.CancellationException;
import java.util.function.ToDoubleFunction;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class PlanSearchTest {
    /** A fitness that depends on the plan alone, over ten texts of 10 to 100 tokens; remembers the samples. */
    private static final class Synthetic implements PlanFitness {
        private final int blocks;
        private final ToDoubleFunction<LayerPlan> function;
        private final List<List<Slice>> samples = new ArrayList<>();

        Synthetic(int blocks, ToDoubleFunction<LayerPlan> function) {
            this.blocks = blocks;
            this.function = function;
        }

        @Override
        public int blocks() {
            return blocks;
        }

        @Override
        public List<Integer> lengths() {
            return IntStream.rangeClosed(1, 10).mapToObj(i -> 10 * i).toList();
        }

        @Override
        public double of(LayerPlan plan, List<Slice> sample) {
            samples.add(sample);
            return function.applyAsDouble(plan);
        }
    }

    /** Costs of single parts and, as large, of pairs of parts that go together: blocks can't be judged one by one. */
    private static ToDoubleFunction<LayerPlan> landscape(int blocks, long seed) {
        var random = new SplittableRandom(seed);
        var single = new double[2 * blocks];
        var pair = new double[2 * blocks][2 * blocks];
        for (int i = 0; i < single.length; i++) {
            single[i] = random.nextDouble();
            for (int j = 0; j < i; j++) {
                pair[i][j] = random.nextDouble() - 0.5;
            }
        }
        return plan -> {
            double sum = 2 * blocks;
            for (int i = 0; i < single.length; i++) {
                for (int j = 0; j <= i; j++) {
                    sum += gone(plan, i) && gone(plan, j) ? i == j ? single[i] : pair[i][j] : 0;
                }
            }
            return sum;
        };
    }

    private static boolean gone(LayerPlan plan, int part) {
        return part % 2 == 0 ? !plan.attention(part / 2) : !plan.feedForward(part / 2);
    }

    /** Every plan that a search may come to. */
    static List<LayerPlan> all(int blocks, int removed, boolean halves) {
        var plans = new ArrayList<LayerPlan>();
        for (int attention = 0; attention < 1 << blocks; attention++) {
            for (int feedForward = 0; feedForward < 1 << blocks; feedForward++) {
                if (Integer.bitCount(attention) != removed || Integer.bitCount(feedForward) != removed
                        || !halves && attention != feedForward) {
                    continue;
                }
                var plan = LayerPlan.all(blocks);
                for (int block = 0; block < blocks; block++) {
                    boolean noAttention = (attention >> block & 1) == 1;
                    boolean noFeedForward = (feedForward >> block & 1) == 1;
                    plan = noAttention && noFeedForward ? plan.skip(block)
                            : noAttention ? plan.skipAttention(block)
                            : noFeedForward ? plan.skipFeedForward(block) : plan;
                }
                plans.add(plan);
            }
        }
        return plans;
    }

    private static PlanSearch small(int removed) {
        return PlanSearch.removing(removed).withInitial(16, 50).withOffspring(16).withStages(new Stage(4, 50), new Stage(1, 200));
    }

    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 4, 5})
    void findsTheBestOfAllSetsOfBlocks(long seed) {
        var fitness = new Synthetic(10, landscape(10, seed));
        var found = small(4).withSeed(seed).withGenerations(20).run(fitness, fitness);
        double best = all(10, 4, false).stream().mapToDouble(fitness.function).min().orElseThrow();
        assertEquals(best, found.fitness(), "seed " + seed + ": " + found.plan());
        assertEquals(found.fitness(), fitness.function.applyAsDouble(found.plan()));
        assertEquals(found.fitness(), found.heldOut());
    }

    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3})
    void findsAmongTheBestOfAllSetsOfHalves(long seed) {
        var fitness = new Synthetic(8, landscape(8, seed));
        var found = small(3).withHalves(true).withSeed(seed).withGenerations(40).run(fitness, fitness);
        var values = all(8, 3, true).stream().mapToDouble(fitness.function).sorted().toArray();
        assertEquals(56 * 56, values.length);
        assertTrue(found.fitness() <= values[9], "seed " + seed + ": " + found.fitness() + ", the best are " + values[0] + " to "
                + values[9]);
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void everyCandidateHasTheSameCost(boolean halves) {
        var fitness = new Synthetic(8, landscape(8, 9));
        var found = small(3).withHalves(halves).run(fitness, fitness);
        for (var step : found.steps()) {
            assertEquals(5, step.plan().cost(), step.toString());
            int attention = 0;
            for (int block = 0; block < 8; block++) {
                attention += step.plan().attention(block) ? 1 : 0;
                assertTrue(halves || step.plan().attention(block) == step.plan().feedForward(block), step.toString());
            }
            assertEquals(5, attention, step.toString());
        }
        assertTrue(found.steps().stream().map(Step::plan).distinct().count() > 30);
        assertFalse(found.plan().isFull());
    }

    @Test
    void theParentIsOnlyInTheLastStageAndNeverGetsWorse() {
        var fitness = new Synthetic(10, landscape(10, 3));
        var found = small(4).withGenerations(12).run(fitness, fitness);
        var steps = found.steps();
        var parent = steps.stream().filter(step -> step.generation() == 0).min(Comparator.comparingDouble(Step::fitness)).orElseThrow();
        for (int generation = 1; generation <= 12; generation++) {
            int number = generation;
            var last = parent.plan();
            assertFalse(steps.stream().anyMatch(step -> step.generation() == number && step.stage() == 1 && step.plan().equals(last)));
            var finalists = steps.stream().filter(step -> step.generation() == number && step.stage() == 2).toList();
            assertEquals(5, finalists.size());
            assertTrue(finalists.stream().anyMatch(step -> step.plan().equals(last)));
            var best = finalists.stream().min(Comparator.comparingDouble(Step::fitness)).orElseThrow();
            assertTrue(best.fitness() <= parent.fitness());
            parent = best;
        }
        assertEquals(parent.plan(), found.plan());
        assertEquals(parent.fitness(), found.fitness());
    }

    @Test
    void eachEvaluationIsToldOfAndMayEndTheSearch() {
        var fitness = new Synthetic(10, landscape(10, 3));
        var search = small(4).withGenerations(12);
        var told = new ArrayList<Step>();
        var found = search.run(fitness, fitness, told::add);
        assertEquals(found.steps(), told);
        assertTrue(told.size() <= search.evaluations(10) && told.size() > search.evaluations(10) / 2, told.size() + " evaluations");
        assertThrows(CancellationException.class, () -> search.run(fitness, fitness, step -> {
            throw new CancellationException();
        }));
    }

    @Test
    void childrenOfAGenerationAreDifferentAndNotTheParent() {
        var fitness = new Synthetic(10, landscape(10, 3));
        var steps = small(4).withGenerations(12).run(fitness, fitness).steps();
        for (int generation = 0; generation <= 12; generation++) {
            int number = generation;
            var plans = steps.stream().filter(step -> step.generation() == number && step.stage() <= 1).map(Step::plan).toList();
            assertEquals(16, plans.size());
            assertEquals(16, new HashSet<>(plans).size());
        }
    }

    @Test
    void theSameSeedGivesTheSameLogAndAnotherSeedAnother() {
        var one = small(4).withSeed(5).run(new Synthetic(10, landscape(10, 1)), new Synthetic(10, landscape(10, 1)));
        var two = small(4).withSeed(5).run(new Synthetic(10, landscape(10, 1)), new Synthetic(10, landscape(10, 1)));
        assertEquals(one, two);
        var other = small(4).withSeed(6).run(new Synthetic(10, landscape(10, 1)), new Synthetic(10, landscape(10, 1)));
        assertNotEquals(one.steps(), other.steps());
    }

    @Test
    void samplesAreWholeTextsEachOnceButForACutLastOne() {
        var fitness = new Synthetic(10, landscape(10, 1));
        small(4).withSeed(2).run(fitness, new Synthetic(10, landscape(10, 1)));
        var used = new HashSet<Integer>();
        for (var sample : fitness.samples) {
            int tokens = sample.stream().mapToInt(Slice::tokens).sum();
            assertTrue(tokens == 50 || tokens == 200, sample.toString());
            assertEquals(sample.size(), sample.stream().map(Slice::text).distinct().count(), sample.toString());
            for (int i = 0; i < sample.size(); i++) {
                int length = fitness.lengths().get(sample.get(i).text());
                int taken = sample.get(i).tokens();
                assertTrue(taken == length || i == sample.size() - 1 && taken < length, sample.toString());
                used.add(sample.get(i).text());
            }
        }
        assertEquals(10, used.size());
    }

    @Test
    void tokensAreCounted() {
        var calibration = new Synthetic(10, landscape(10, 1));
        var heldOut = new Synthetic(10, landscape(10, 1));
        var found = small(4).run(calibration, heldOut);
        assertEquals(found.steps().stream().mapToLong(Step::tokens).sum() + 550, found.tokens());
        assertEquals(calibration.samples.size(), found.steps().size());
        assertEquals(1, heldOut.samples.size());
        assertEquals(16, found.steps().getLast().generation());  // 4 * 6 / 1.5
    }

    @Test
    void whatCanNotBeJudgedIsCountedAndNeverTheParent() {
        var landscape = landscape(8, 4);
        // every plan without block 2 breaks, among them the best
        ToDoubleFunction<LayerPlan> broken = plan -> plan.runs(2) > 0 ? landscape.applyAsDouble(plan) : plan.runs(3) > 0 ? Double.NaN
                : Double.POSITIVE_INFINITY;
        var fitness = new Synthetic(8, broken);
        var found = small(3).run(fitness, fitness);
        assertEquals(1, found.plan().runs(2));
        assertTrue(found.notFinite() > 0);
        assertEquals(found.steps().stream().filter(step -> !Double.isFinite(step.fitness())).count(), found.notFinite());

        var hopeless = new Synthetic(8, plan -> Double.NaN);
        var refused = assertThrows(LlamaException.class, () -> small(3).run(hopeless, hopeless));
        assertTrue(refused.getMessage().contains("NaN"), refused.getMessage());
    }

    @Test
    void aSpaceSmallerThanAGenerationIsSearchedToo() {
        for (boolean halves : new boolean[] {false, true}) {
            var fitness = new Synthetic(2, landscape(2, 8));
            var found = small(1).withHalves(halves).run(fitness, fitness);
            assertEquals(all(2, 1, halves).stream().mapToDouble(fitness.function).min().orElseThrow(), found.fitness());
        }
    }

    @Test
    void whatCanNotBeReachedIsRefusedWithWhatCan() {
        var fitness = new Synthetic(8, landscape(8, 1));
        for (int removed : new int[] {8, 9, 100}) {
            var refused = assertThrows(IllegalArgumentException.class, () -> small(removed).run(fitness, fitness));
            assertTrue(refused.getMessage().contains("can't leave out " + removed + " of 8 blocks; 1 to 7 can go"), refused.getMessage());
        }
        assertThrows(IllegalArgumentException.class, () -> small(0));
        var one = new Synthetic(1, plan -> 0);
        assertThrows(IllegalArgumentException.class, () -> small(1).run(one, one));
        var other = new Synthetic(6, landscape(6, 1));
        assertThrows(IllegalArgumentException.class, () -> small(1).run(fitness, other));
    }

    @Test
    void tooLittleTextIsRefused() {
        var fitness = new Synthetic(8, landscape(8, 1));
        var enough = small(3).withStages(new Stage(2, 50), new Stage(1, 550));
        assertEquals(550, enough.run(fitness, fitness).steps().getLast().tokens());
        var larger = small(3).withStages(new Stage(2, 50), new Stage(1, 551));
        var refused = assertThrows(LlamaException.class, () -> larger.run(fitness, fitness));
        assertTrue(refused.getMessage().contains("have 550 tokens, and the largest sample needs 551"), refused.getMessage());
        assertThrows(LlamaException.class, () -> small(3).withInitial(4, 551).run(fitness, fitness));
    }

    @Test
    void stagesMustNarrow() {
        assertThrows(IllegalArgumentException.class, () -> small(3).withStages());
        assertThrows(IllegalArgumentException.class, () -> small(3).withStages(new Stage(2, 50)));
        assertThrows(IllegalArgumentException.class, () -> small(3).withStages(new Stage(2, 50), new Stage(1, 40)));
        assertThrows(IllegalArgumentException.class, () -> small(3).withStages(new Stage(2, 50), new Stage(3, 60), new Stage(1, 70)));
        assertThrows(IllegalArgumentException.class, () -> new Stage(0, 10));
        assertThrows(IllegalArgumentException.class, () -> new Stage(1, 0));
        assertThrows(IllegalArgumentException.class, () -> small(3).withOffspring(0));
        assertThrows(IllegalArgumentException.class, () -> small(3).withGenerations(-1));
    }
}
