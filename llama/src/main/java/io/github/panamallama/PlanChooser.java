package io.github.panamallama;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;

/**
 * Chooses by the prompt which blocks of the model run. A trained router of the layers module is one: {@code router::plan}, and in a file
 * {@link RoutedPlans}.
 */
@FunctionalInterface
public interface PlanChooser {
    /**
     * The plan for a prompt and all that follows it.
     *
     * @param engine the one that the prompt will be evaluated by
     * @param prompt its tokens, not to be changed
     */
    LayerPlan choose(Engine engine, int[] prompt);
}
