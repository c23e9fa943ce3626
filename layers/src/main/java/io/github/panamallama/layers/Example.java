package io.github.panamallama.layers;

import io.github.panamallama.runtime.LayerPlan;

/**
 * A prompt and the plan that a router shall learn to choose for it.
 *
 * @param prompt tokens, at least one
 * @param plan   whole runs alone: no block in part
 */
public record Example(int[] prompt, LayerPlan plan) {
    public Example {
        if (prompt.length == 0) {
            throw new IllegalArgumentException("an example without a prompt teaches nothing");
        }
        for (int block = 0; block < plan.blocks(); block++) {
            if (plan.runs(block) == 0 && (plan.cached(block) || plan.feedForward(block))) {
                throw new IllegalArgumentException("block " + block + " runs in part under " + plan
                        + "; routers choose whole blocks");
            }
        }
    }
}
