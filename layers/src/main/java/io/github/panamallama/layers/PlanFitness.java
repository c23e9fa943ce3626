package io.github.panamallama.layers;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.search.Tournament;

/** How well a model does under a plan, on texts that are tried in samples. What {@link PlanSearch} minimises. */
public interface PlanFitness extends Tournament.Fitness<LayerPlan> {
    /** Blocks of the model. */
    int blocks();
}
