package io.github.panamallama.runtime;

import java.util.List;

/**
 * Chooses the blocks that run for each token of one text while that is written; {@code BudgetControl} of the layers module is one. One
 * caller at a time.
 */
public interface PlanControl {
    /** All plans that it chooses among, so that what doesn't fit a model is refused before anything is written. */
    List<LayerPlan> plans();

    /** The plan of the next token. */
    LayerPlan plan();

    /**
     * A token was evaluated under {@link #plan}.
     *
     * @param nanoseconds it took
     */
    void took(long nanoseconds);
}
