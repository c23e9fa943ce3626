package io.github.panamallama.layers;

import io.github.panamallama.runtime.LayerPlan;
import java.util.List;

/** How well a model does under a plan, on texts that are tried in samples. What {@link PlanSearch} minimises. */
public interface PlanFitness {
    /** The beginning of a text. */
    record Slice(int text, int tokens) {
    }

    /** Blocks of the model. */
    int blocks();

    /** The number of tokens of each text. */
    List<Integer> lengths();

    /**
     * Evaluates a plan.
     *
     * @return the less the better; NaN or infinite where the plan can't be judged. The same for the same arguments
     */
    double of(LayerPlan plan, List<Slice> sample);
}
