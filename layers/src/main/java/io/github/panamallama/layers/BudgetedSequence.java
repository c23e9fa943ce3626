package io.github.panamallama.layers;

import io.github.panamallama.runtime.CacheReuse;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.PlanControl;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import java.util.function.LongSupplier;

/**
 * A history whose tokens keep to a budget: each is evaluated under the plan that a {@link BudgetControl}, or another {@link PlanControl},
 * asks for, and its time is told to the control. The keys and values of all plans stand in one cache ({@link CacheReuse#APPROXIMATE}), so
 * that a change costs a fork and a new graph, but no token is evaluated again.
 *
 * <p>No plan may leave holes where another one reads: what one leaves out and another runs is left out with its keys and values kept
 * ({@link LayerPlan#skipKeepingCache}, {@code 4:kv} in a plan's text), and a block that repeats does so as often in all plans.
 * {@link BudgetControl#ladder} makes plans so. Keeping them costs two of a block's matrices.
 *
 * <p>The engine needs two sequences for a change; without a free one the whole text is evaluated again. One caller at a time.
 */
public final class BudgetedSequence implements AutoCloseable {
    private final PlanControl control;
    private final LongSupplier nanoTime;
    private Sequence sequence;
    private long changes;

    /**
     * An empty history.
     *
     * @param control told of each token; for one history at a time
     * @throws LayerPlanException if a plan of the control doesn't fit the model or the engine, or reads keys and values that another one
     *                            doesn't make
     */
    public BudgetedSequence(Engine engine, PlanControl control) {
        this(engine, control, System::nanoTime);
    }

    /** With another clock, in nanoseconds. */
    BudgetedSequence(Engine engine, PlanControl control, LongSupplier nanoTime) {
        this.control = control;
        this.nanoTime = nanoTime;
        for (var plan : control.plans()) {
            engine.newSequence(plan).close(); // refused now rather than in the middle of a text
            control.plans().forEach(plan::requireCacheOf);
        }
        sequence = engine.newSequence(control.plan());
    }

    /** The history. Another object after each change of plans; append through this one, not to it. */
    public Sequence sequence() {
        return sequence;
    }

    /** How often the plan has changed. */
    public long changes() {
        return changes;
    }

    /**
     * Appends tokens that were not generated, such as a prompt. They run under the plan in force, and the control is not told of them.
     *
     * @param last receives the logits {@code [n_vocab]} that follow the last of them; null when they are not wanted
     */
    public void append(int[] tokens, Row last) {
        follow();
        sequence.append(tokens, last);
    }

    /**
     * Appends a generated token under the plan that the control asks for, and tells it how long that took.
     *
     * @param row receives the logits {@code [n_vocab]} that follow it; null when they are not wanted
     */
    public void append(int token, Row row) {
        long begin = nanoTime.getAsLong();
        follow();
        sequence.append(token, row);
        control.took(nanoTime.getAsLong() - begin);
    }

    private void follow() {
        if (!sequence.plan().equals(control.plan())) {
            var old = sequence;
            sequence = old.fork(control.plan(), CacheReuse.APPROXIMATE);
            old.close();
            changes++;
        }
    }

    @Override
    public void close() {
        sequence.close();
    }
}
