package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.LayerPlan;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class LabelSearchTest {
    private static final int QUESTIONS = 200;

    /** How a search fares over the questions, each of which every plan was tried on. */
    private record Score(int optimal, int endedWell, double evaluations) {
    }

    private static Score score(int blocks, LabelSearch search) {
        long seed = 1;
        var random = new SplittableRandom(seed);
        var plans = everyPlan(blocks);
        int optimal = 0;
        int endedWell = 0;
        double evaluations = 0;
        for (int model = 0; model < 10; model++) {
            var toy = new ToyModel(blocks, random);
            for (int i = 0; i < QUESTIONS / 10; i++) {
                var task = toy.question(random);
                var shortest = plans.stream().filter(task::correct).findFirst().orElseThrow();
                var found = search.withSeed(i).search(blocks, task);
                evaluations += found.evaluations();
                if (found.plan().isPresent()) {
                    var plan = found.plan().get();
                    assertTrue(task.correct(plan), plan + " is not correct");
                    assertTrue(plan.cost() >= shortest.cost(), plan + " is shorter than the shortest, " + shortest);
                    optimal += plan.cost() == shortest.cost() ? 1 : 0;
                    endedWell += found.repairs() || plan.cost() <= blocks - 2 ? 1 : 0;
                }
            }
        }
        var score = new Score(optimal, endedWell, evaluations / QUESTIONS);
        System.out.println(blocks + " blocks, seed " + seed + ", " + search.simulations() + " simulations, enough at " + search.enough()
                + ": " + score + " of " + QUESTIONS);
        return score;
    }

    /** Every plan of at most two runs of each block, but the empty one, cheapest first. */
    static List<LayerPlan> everyPlan(int blocks) {
        var plans = new ArrayList<>(List.of(LayerPlan.all(blocks)));
        for (int block = 0; block < blocks; block++) {
            for (var plan : List.copyOf(plans)) {
                plans.add(plan.skip(block));
                plans.add(plan.repeat(block, 2));
            }
        }
        plans.removeIf(plan -> plan.cost() == 0);
        plans.sort(Comparator.comparingDouble(LayerPlan::cost));
        return plans;
    }

    @Test
    void mostSearchesSaveTwoRunsOrRepairInFiftySimulations() {
        assertTrue(score(8, LabelSearch.defaults()).endedWell >= 160);
    }

    @Test
    void findsMostOptimaOfFiveBlocksInFiftySimulations() {
        assertTrue(score(5, LabelSearch.defaults().withEnough(5)).optimal >= 100);
    }

    @Test
    void comesCloserToTheOptimumTheLongerItMaySearch() {
        var fifty = score(8, LabelSearch.defaults().withEnough(8));
        var thousand = score(8, LabelSearch.defaults().withEnough(8).withSimulations(1000));
        assertTrue(thousand.optimal >= 90 && thousand.optimal > 4 * fifty.optimal, fifty + " and " + thousand);
        assertTrue(thousand.evaluations < 500, "answers of plans are remembered");
    }

    @Test
    void asksNoPlanTwiceAndOnlyPlansWithinItsLimits() {
        var asked = new HashSet<LayerPlan>();
        var found = LabelSearch.defaults().withSimulations(20_000).withSpareLayers(1).search(4, plan -> {
            assertTrue(asked.add(plan), plan + " twice");
            assertTrue(plan.cost() > 0 && plan.cost() <= 8);
            assertTrue(plan.spareLayers() <= 1, plan.toString());
            return false;
        });
        assertEquals(asked.size(), found.evaluations());
        assertEquals(20_000, found.simulations());
        assertTrue(found.plan().isEmpty());
        assertEquals(16 - 1 + 4 * 8, asked.size(), "all plans without a repetition but the empty one, and all with one");
    }

    @Test
    void endsWithTheFirstPlanThatRepairsAnAnswer() {
        var found = LabelSearch.defaults().withSimulations(500).search(6, plan -> plan.runs(3) == 2);
        assertTrue(found.repairs());
        assertFalse(found.wholeModel());
        assertEquals(2, found.plan().orElseThrow().runs(3));
    }

    @Test
    void keepsTheWholeModelWhereNothingElseAnswers() {
        var found = LabelSearch.defaults().search(6, LayerPlan::isFull);
        assertEquals(LayerPlan.all(6), found.plan().orElseThrow());
        assertEquals(50, found.simulations());
    }

    @Test
    void prefersFewerBlocksAmongPlansOfEqualLength() {
        // two runs are needed, whichever: one block twice is fewer blocks than two once
        var found = LabelSearch.defaults().withEnough(3).withSimulations(400).search(3, plan -> plan.cost() >= 2);
        var plan = found.plan().orElseThrow();
        assertEquals(2, plan.cost());
        assertEquals(1, plan.spareLayers(), plan.toString());
    }

    @Test
    void aSeedFixesTheSearch() {
        var random = new SplittableRandom(5);
        var task = new ToyModel(8, random).question(random);
        var order = new ArrayList<LayerPlan>();
        var again = new ArrayList<LayerPlan>();
        var search = LabelSearch.defaults().withEnough(8);
        search.search(8, plan -> {
            order.add(plan);
            return task.correct(plan);
        });
        search.search(8, plan -> {
            again.add(plan);
            return task.correct(plan);
        });
        assertEquals(order, again);
    }

    /** Of ten questions, three are repaired by running block 1 twice, four can lose a block, two are hopeless and one needs all. */
    @Test
    void examplesAreBalancedBetweenRepairsAndShorterPlans() {
        var questions = new ArrayList<LabelSearch.Question>();
        for (int i = 0; i < 10; i++) {
            int kind = i;
            questions.add(new LabelSearch.Question(new int[] {i}, plan -> kind < 3 ? plan.runs(1) == 2 : kind < 7 ? plan.cost() >= 3
                    : kind == 7 && plan.isFull()));
        }
        var search = LabelSearch.defaults();
        assertEquals(List.of(0, 1, 2, 3, 4, 5), prompts(search.examples(4, questions, 0.5)));
        assertEquals(List.of(0, 3, 4, 5, 6, 7), prompts(search.examples(4, questions, 0.2)));
        assertEquals(List.of(3, 4, 5, 6, 7), prompts(search.examples(4, questions.subList(3, 10), 0.3)), "no repairs to balance with");
        assertEquals(List.of(0, 1, 2), prompts(search.examples(4, questions.subList(0, 3), 0.3)), "nothing but repairs");
        for (var example : search.examples(4, questions, 0.5)) {
            assertEquals(example.prompt()[0] < 3 ? 2 : 1, Math.max(example.plan().runs(1), 1));
        }
        assertThrows(IllegalArgumentException.class, () -> search.examples(4, questions, 1));
    }

    private static List<Integer> prompts(List<Example> examples) {
        return examples.stream().map(example -> example.prompt()[0]).toList();
    }

    @Test
    void refusesSettingsWithoutSense() {
        assertThrows(IllegalArgumentException.class, () -> LabelSearch.defaults().withSimulations(0));
        assertThrows(IllegalArgumentException.class, () -> LabelSearch.defaults().withMaxRuns(LayerPlan.MAX_RUNS + 1));
        assertThrows(IllegalArgumentException.class, () -> LabelSearch.defaults().withSpareLayers(-1));
        assertThrows(IllegalArgumentException.class, () -> LabelSearch.defaults().withEnough(0));
        assertThrows(IllegalArgumentException.class, () -> new LabelSearch(50, Double.NaN, 3, 0.1, 2, 8, 2, 1));
        assertThrows(IllegalArgumentException.class, () -> LabelSearch.defaults().search(0, plan -> true));
    }
}
