package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import java.time.Duration;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.ToDoubleFunction;
import org.junit.jupiter.api.Test;

class BudgetControlTest {
    private static final LayerPlan ALL = LayerPlan.all(8);
    /** Of 4, 6, 7 and 8 blocks. */
    private static final List<LayerPlan> PLANS = List.of(ALL.skip(2, 3, 4, 5), ALL.skip(3, 4), ALL.skip(4), ALL);

    /** Milliseconds of a token: 2 beside the blocks, and 1 per block. */
    private static double plain(LayerPlan plan) {
        return 2 + plan.cost();
    }

    /** Generates tokens, each as long as {@code millis} says and up to a tenth longer. Counts changes of plan. */
    private static int generate(BudgetControl control, int tokens, ToDoubleFunction<LayerPlan> millis, SplittableRandom random) {
        int changes = 0;
        int stay = 0;
        for (int i = 0; i < tokens; i++) {
            var plan = control.plan();
            control.took((long) (1e6 * millis.applyAsDouble(plan) * random.nextDouble(1, 1.1)));
            stay++;
            if (!control.plan().equals(plan)) {
                assertTrue(changes == 0 || stay >= BudgetControl.DWELL, "changed again after " + stay + " tokens");
                changes++;
                stay = 0;
            }
        }
        return changes;
    }

    @Test
    void settlesOnTheDearestPlanWithinTheTimeAndStaysThere() {
        var random = new SplittableRandom(1);
        var control = BudgetControl.ofTime(PLANS, Duration.ofMillis(9));    // 8 to 8.8 ms with 6 blocks, 9 to 9.9 ms with 7
        generate(control, 1000, BudgetControlTest::plain, random);
        assertEquals(PLANS.get(1), control.plan());
        assertEquals(0, generate(control, 5000, BudgetControlTest::plain, random));
    }

    @Test
    void followsTheMachineDownAndUpAgain() {
        var random = new SplittableRandom(2);
        var control = BudgetControl.ofTime(PLANS, Duration.ofMillis(14));
        assertEquals(0, generate(control, 1000, BudgetControlTest::plain, random));
        assertEquals(ALL, control.plan());
        int down = generate(control, 1000, plan -> 2 * plain(plan), random);
        assertEquals(PLANS.getFirst(), control.plan());
        assertEquals(3, down);
        int up = generate(control, 2000, BudgetControlTest::plain, random);
        assertEquals(ALL, control.plan());
        assertEquals(3, up);
    }

    @Test
    void singleSlowTokensChangeNothing() {
        var random = new SplittableRandom(3);
        var control = BudgetControl.ofTime(PLANS, Duration.ofMillis(12));
        assertEquals(0, generate(control, 5000, plan -> random.nextInt(10) == 0 ? 500 : plain(plan), random));
    }

    @Test
    void aPlanThatIsExpectedToBeTooSlowIsNotTried() {
        var random = new SplittableRandom(4);
        var control = BudgetControl.ofTime(PLANS, Duration.ofMillis(1));    // below all: ends at the cheapest
        assertEquals(3, generate(control, 3000, BudgetControlTest::plain, random));
        assertEquals(PLANS.getFirst(), control.plan());
    }

    @Test
    void spendsAShareOfTheWorkAndNoMore() {
        for (double share : new double[] {0.5, 0.6, 0.7, 0.8, 0.9, 1}) {
            var control = BudgetControl.ofWork(PLANS, share);
            double spent = 0;
            int changes = 0;
            int tokens = 200 * BudgetControl.DWELL;
            for (int i = 0; i < tokens; i++) {
                var plan = control.plan();
                spent += plan.cost();
                control.took(0);
                changes += control.plan().equals(plan) ? 0 : 1;
            }
            double mean = spent / tokens / 8;
            assertTrue(mean <= share + 1e-9 && mean > share - 0.01, share + " was asked for, " + mean + " spent");
            assertTrue(changes <= 200, changes + " changes");
        }
    }

    @Test
    void staysAtTheEndsWhereTheBudgetIsOutsideOfThePlans() {
        var little = BudgetControl.ofWork(PLANS, 0.1);
        var much = BudgetControl.ofWork(PLANS, 3);
        for (int i = 0; i < 1000; i++) {
            little.took(0);
            much.took(0);
        }
        assertEquals(PLANS.getFirst(), little.plan());
        assertEquals(ALL, much.plan());
    }

    @Test
    void aLadderKeepsWhatItsOtherPlansReadAndEndsWithTheWholeModel() {
        var all = LayerPlan.all(6);
        assertEquals(List.of("0,1-2:kv,3-5", "0,1:kv,2-5", "0-5"), BudgetControl.ladder(List.of(all.skip(1), all.skip(1, 2), all.skip(4)))
                .stream().map(LayerPlan::toString).toList(), "a second plan of 5 blocks has no place");
        assertEquals(List.of("0,1:kv,2-3,4:kv,5", "0-5"), BudgetControl.ladder(List.of(all.skip(1, 4))).stream().map(LayerPlan::toString)
                .toList());
        assertEquals(List.of(all), BudgetControl.ladder(List.of(all)));
        assertThrows(LayerPlanException.class, () -> BudgetControl.ladder(List.of(all.skipAttention(2))));
        assertThrows(LayerPlanException.class, () -> BudgetControl.ladder(List.of(all.skip(1, 2).repeat(3, 2))));
    }

    @Test
    void refusesWhatIsNoBudget() {
        assertThrows(IllegalArgumentException.class, () -> BudgetControl.ofWork(List.of(), 0.5));
        assertThrows(IllegalArgumentException.class, () -> BudgetControl.ofWork(PLANS, 0));
        assertThrows(IllegalArgumentException.class, () -> BudgetControl.ofWork(PLANS, Double.NaN));
        assertThrows(IllegalArgumentException.class, () -> BudgetControl.ofTime(PLANS, Duration.ZERO));
        assertThrows(IllegalArgumentException.class, () -> BudgetControl.ofTime(PLANS.reversed(), Duration.ofMillis(1)));
        var twoModels = List.of(ALL.skip(1), LayerPlan.all(9));
        assertThrows(IllegalArgumentException.class, () -> BudgetControl.ofTime(twoModels, Duration.ofMillis(1)));
        assertThrows(IllegalArgumentException.class, () -> BudgetControl.ofTime(PLANS, Duration.ofMillis(1)).took(-1));
    }
}
