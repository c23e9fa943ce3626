package io.github.panamallama.layers;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.PlanControl;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;

/**
 * Chooses among plans so that tokens keep to a budget: a share of the whole model's work on average, or a time per token. Ask for
 * {@link #plan} when a generation begins, and say of each token how long it {@link #took}.
 *
 * <p>The choice stays for at least {@value #DWELL} tokens. For a time per token it goes by the median of the last {@value #WINDOW} tokens:
 * one plan down when that is above the goal, one plan up when it is expected to stay a tenth below it there. How much slower a plan is
 * than the one below it is measured at each change, and taken in proportion to their costs before the first.
 *
 * <p>One caller at a time. Reads no clock; whoever writes does, such as the strategy {@code PlanSwitching} of the sampling module or a
 * {@link BudgetedSequence}.
 */
public final class BudgetControl implements PlanControl {
    /** Tokens whose median counts. */
    public static final int WINDOW = 31;
    /** Fewest tokens between two changes. */
    public static final int DWELL = 64;

    private static final double ROOM = 0.9;

    private final List<LayerPlan> plans;
    /** Highest mean cost in blocks, or infinity. */
    private final double cost;
    /** Longest time of a token in nanoseconds, or infinity. */
    private final double nanos;
    /** How many times as long a token takes under the plan above this one. */
    private final double[] steps;

    private final long[] times = new long[WINDOW];
    private int current;
    private int since;
    private long tokens;
    private double spent;
    /** The plan before the last change and its median then; -1 once that change has been measured. */
    private int before = -1;
    private double medianBefore;

    private BudgetControl(List<LayerPlan> plans, double cost, double nanos) {
        this.plans = List.copyOf(plans);
        this.cost = cost;
        this.nanos = nanos;
        if (plans.isEmpty()) {
            throw new IllegalArgumentException("no plans to choose among");
        }
        for (int i = 0; i < plans.size(); i++) {
            double least = i == 0 ? 0 : plans.get(i - 1).cost();
            var plan = plans.get(i);
            if (plan.blocks() != plans.getFirst().blocks() || !(plan.cost() > least)) {
                throw new IllegalArgumentException("plan " + i + " (" + plan + ") costs " + plan.cost() + " of " + plan.blocks()
                        + " blocks; plans must be for one model, and each cost more than the one before and than 0");
            }
        }
        steps = new double[plans.size() - 1];
        Arrays.setAll(steps, this::costStep);
    }

    /**
     * A budget of work: the mean over all tokens stays at or below a share of the whole model's cost, as near as the plans allow. Begins
     * with the dearest plan within it.
     *
     * @param plans cheapest first
     * @param share of one run of every block, above 0
     */
    public static BudgetControl ofWork(List<LayerPlan> plans, double share) {
        if (!(share > 0)) {
            throw new IllegalArgumentException("a share of " + share + " of the work; it must be above 0");
        }
        var control = new BudgetControl(plans, plans.isEmpty() ? 0 : share * plans.getFirst().blocks(), Double.POSITIVE_INFINITY);
        while (control.current + 1 < plans.size() && plans.get(control.current + 1).cost() <= control.cost) {
            control.current++;
        }
        return control;
    }

    /**
     * A budget of time: the dearest plan whose tokens take no longer.
     *
     * @param plans    cheapest first; begins with the dearest
     * @param perToken above 0
     */
    public static BudgetControl ofTime(List<LayerPlan> plans, Duration perToken) {
        if (!perToken.isPositive()) {
            throw new IllegalArgumentException("a token can't take " + perToken + "; the time must be above 0");
        }
        var control = new BudgetControl(plans, Double.POSITIVE_INFINITY, perToken.toNanos());
        control.current = plans.size() - 1;
        return control;
    }

    /**
     * Plans that can follow one another in one text, cheapest first, the whole model last: where one leaves out what another runs, it keeps
     * the keys and values. Those that cost as much as one before are left out, and so are those that cost no less than the whole model.
     *
     * @param plans for one model, at least one, in any order
     * @throws io.github.panamallama.runtime.LayerPlanException if two of them can't follow one another all the same: one runs a
     *                                            feed-forward part alone where another attends, or blocks are repeated
     */
    public static List<LayerPlan> ladder(List<LayerPlan> plans) {
        var all = new ArrayList<>(plans);
        var whole = LayerPlan.all(plans.getFirst().blocks());
        all.sort(Comparator.comparingDouble(LayerPlan::cost));
        all.removeIf(plan -> plan.cost() >= whole.cost());
        all.add(whole);
        var ladder = new ArrayList<LayerPlan>();
        for (var plan : all) {
            if (ladder.isEmpty() || plan.cost() > ladder.getLast().cost()) {
                var kept = plan;
                for (var other : all) {
                    kept = kept.keepingCacheFor(other);
                }
                ladder.add(kept);
            }
        }
        ladder.forEach(plan -> ladder.forEach(plan::requireCacheOf));
        return List.copyOf(ladder);
    }

    /** All plans that it chooses among, cheapest first. */
    @Override
    public List<LayerPlan> plans() {
        return plans;
    }

    /** The plan to use from here on. */
    @Override
    public LayerPlan plan() {
        return plans.get(current);
    }

    /**
     * A token was generated under {@link #plan}.
     *
     * @param nanoseconds it took
     */
    @Override
    public void took(long nanoseconds) {
        if (nanoseconds < 0) {
            throw new IllegalArgumentException("a token took " + nanoseconds + " ns");
        }
        times[(int) (tokens++ % WINDOW)] = nanoseconds;
        spent += plan().cost();
        if (++since < DWELL) {
            return;
        }
        if (nanos < Double.POSITIVE_INFINITY) {
            keepToTime();
        } else {
            keepToWork();
        }
    }

    private void keepToWork() {
        int next = 0;
        while (next + 1 < plans.size() && spent + DWELL * plans.get(next + 1).cost() <= cost * (tokens + DWELL)) {
            next++;
        }
        // no further than to the first plan above the budget: what was saved is spent evenly
        while (next > 0 && plans.get(next - 1).cost() >= cost) {
            next--;
        }
        change(next);
    }

    private void keepToTime() {
        double median = median();
        if (before >= 0) {
            int lower = Math.min(before, current);
            double step = current > before ? median / medianBefore : medianBefore / median;
            // a token costs no less than its blocks: what lies outside is a change of the machine's load
            steps[lower] = Math.clamp(step, 1, costStep(lower));
            before = -1;
        }
        if (median > nanos && current > 0) {
            remember(median);
            change(current - 1);
        } else if (current < plans.size() - 1 && median * steps[current] <= ROOM * nanos) {
            remember(median);
            change(current + 1);
        }
    }

    private void remember(double median) {
        before = current;
        medianBefore = median;
    }

    private void change(int next) {
        if (next != current) {
            current = next;
            since = 0;
        }
    }

    private double costStep(int lower) {
        return plans.get(lower + 1).cost() / plans.get(lower).cost();
    }

    private double median() {
        long[] sorted = times.clone();
        Arrays.sort(sorted);
        return sorted[WINDOW / 2];
    }
}
