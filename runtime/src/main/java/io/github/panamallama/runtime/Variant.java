package io.github.panamallama.runtime;

import java.util.Objects;

/**
 * What a model is evaluated as: under which adapters, and with which blocks.
 *
 * @param plan null for every block once
 */
record Variant(AdapterSet adapters, LayerPlan plan) {
    /** The model as it is. */
    static final Variant PLAIN = new Variant(AdapterSet.none(), null);

    Variant {
        Objects.requireNonNull(adapters, "adapters");
        plan = plan != null && plan.isFull() ? null : plan;
    }
}
