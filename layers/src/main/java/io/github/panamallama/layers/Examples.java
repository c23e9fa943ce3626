package io.github.panamallama.layers;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LlamaException;
import java.util.List;

/** What both kinds of routers do with the examples they learn from. */
final class Examples {
    private Examples() {
    }

    /** Blocks of the model, which all examples must be for. */
    static int check(Engine engine, List<Example> examples, int maxRuns) {
        int blocks = engine.model().layerCount();
        if (examples.isEmpty()) {
            throw new IllegalArgumentException("no examples to learn from");
        }
        for (var example : examples) {
            var plan = example.plan();
            if (plan.blocks() != blocks) {
                throw new IllegalArgumentException("an example's plan is for " + plan.blocks() + " blocks; the model has " + blocks);
            }
            for (int block = 0; block < blocks; block++) {
                if (plan.runs(block) > maxRuns) {
                    throw new IllegalArgumentException("block " + block + " runs " + plan.runs(block) + " times under " + plan
                            + "; these routers choose at most " + maxRuns);
                }
            }
        }
        return blocks;
    }

    /** Shows the states that an example's prompt has when its plan is decided on. */
    static void observe(Engine engine, Example example, Prefill prefill, Router.Seen seen) {
        var plan = prefill == Prefill.SKIP ? example.plan() : LayerPlan.all(example.plan().blocks());
        try (var sequence = engine.newSequence(plan)) {
            Router.observe(sequence, example.prompt(), null, (token, block, state) -> {
                for (float value : state) {
                    if (!Float.isFinite(value)) {
                        throw new LlamaException("the state that enters block " + block + " at token " + token
                                + " of a prompt has the value " + value + ": nothing can be learned from this model");
                    }
                }
                seen.see(token, block, state);
            });
        }
    }
}
