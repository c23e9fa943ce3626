package io.github.panamallama.layers;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.PlanControl;
import java.time.Duration;
import java.util.List;
import java.util.function.Supplier;

/**
 * A budget as data: what makes a {@link BudgetControl} for each text, in this process or in another one. For the strategy
 * {@code PlanSwitching} of the sampling module: {@code new PlanSwitching(Budget.ofWork(BudgetControl.ladder(plans), 0.8))}.
 *
 * @param plans    that may follow one another in one text, cheapest first: {@link BudgetControl#ladder}
 * @param share    of the whole model's work that a token may take on average; null for a budget of time
 * @param perToken time that a token may take; null for a budget of work
 */
public record Budget(List<LayerPlan> plans, Double share, Duration perToken) implements Supplier<PlanControl> {
    /** @throws IllegalArgumentException as {@link BudgetControl#ofWork} and {@link BudgetControl#ofTime} */
    public Budget {
        plans = List.copyOf(plans);
        if ((share == null) == (perToken == null)) {
            throw new IllegalArgumentException("a budget is either a share of the work or a time per token; these are " + share + " and "
                    + perToken);
        }
        control(plans, share, perToken);    // refuses here what it would refuse when a text begins
    }

    /** A share of the whole model's work, above 0. */
    public static Budget ofWork(List<LayerPlan> plans, double share) {
        return new Budget(plans, share, null);
    }

    /** A time above 0 for each token. */
    public static Budget ofTime(List<LayerPlan> plans, Duration perToken) {
        return new Budget(plans, null, perToken);
    }

    /** The control of one text. */
    @Override
    public PlanControl get() {
        return control(plans, share, perToken);
    }

    private static PlanControl control(List<LayerPlan> plans, Double share, Duration perToken) {
        return share != null ? BudgetControl.ofWork(plans, share) : BudgetControl.ofTime(plans, perToken);
    }
}
