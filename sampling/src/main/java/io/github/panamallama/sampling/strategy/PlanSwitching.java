package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.PlanControl;
import java.util.function.Supplier;

/**
 * As {@link Plain}, with blocks left out as a {@link PlanControl} says, token by token: to keep to a time per token or to a share of the
 * model's work ({@code BudgetControl} of the layers module), or for whatever else a control goes by.
 *
 * <p>The prompt is evaluated by the sequence itself under its own plan. What is generated is evaluated on forks, which go on with the keys
 * and values of all plans before them ({@link io.github.panamallama.runtime.CacheReuse#APPROXIMATE}); the sequence is left with its prompt,
 * so that its keys and values are those of its own plan, and whoever goes on behind the text evaluates it again. A change of plans costs a
 * fork and a new graph.
 *
 * <p>The engine needs three sequences; without a free one a change evaluates the whole text again. Counts {@code changes}, and under the
 * text of each plan the tokens that were evaluated with it.
 *
 * @param control makes the control of one text, when that begins
 */
public record PlanSwitching(Supplier<? extends PlanControl> control) implements Strategy {
    public PlanSwitching {
        if (control == null) {
            throw new IllegalArgumentException("a control must be given: what chooses the plan of each token");
        }
    }
}
