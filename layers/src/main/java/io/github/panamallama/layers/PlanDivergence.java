package io.github.panamallama.layers;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.search.Divergence;
import io.github.panamallama.runtime.search.Slice;
import io.github.panamallama.runtime.search.Texts;
import java.util.List;

/**
 * The mean over positions of the {@link Divergence} of a model under a plan from the whole model: 0 for a plan that changes nothing. The
 * whole model is evaluated on a text when that is first asked for.
 *
 * <p>One caller at a time.
 */
public final class PlanDivergence implements PlanFitness {
    /** What the whole model's logits may take unless told otherwise, in bytes. */
    public static final long DEFAULT_MEMORY = Divergence.DEFAULT_MEMORY;

    private final Engine engine;
    private final List<Integer> lengths;
    private final Divergence divergence;

    /** On these texts, with {@link #DEFAULT_MEMORY}. */
    public PlanDivergence(Engine engine, List<int[]> texts) {
        this(engine, texts, DEFAULT_MEMORY);
    }

    /**
     * On these texts.
     *
     * @param texts  tokenised, each as long as the context at most
     * @param memory bytes that the whole model's logits may take
     * @throws LlamaException if a text is empty or too long, or the logits of all texts would take more memory
     */
    public PlanDivergence(Engine engine, List<int[]> texts, long memory) {
        Texts.check(engine, texts);
        this.engine = engine;
        this.lengths = texts.stream().map(text -> text.length).toList();
        this.divergence = new Divergence(texts, engine.model().vocabulary().size(), memory);
    }

    @Override
    public int blocks() {
        return engine.model().layerCount();
    }

    @Override
    public List<Integer> lengths() {
        return lengths;
    }

    @Override
    public double of(LayerPlan plan, List<Slice> sample) {
        double sum = 0;
        long positions = 0;
        for (var slice : sample) {
            if (!divergence.knows(slice.text())) {
                try (var whole = engine.newSequence()) {
                    divergence.refer(slice.text(), whole);
                }
            }
            try (var planned = engine.newSequence(plan)) {
                sum += divergence.sum(planned, slice);
            }
            positions += slice.tokens();
        }
        return sum / positions;
    }
}
