package io.github.panamallama.layers;

import io.github.panamallama.runtime.CacheReuse;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;

/**
 * A history in which each token has a route of its own: routers decide anew for every token that is appended, as if it were a prompt of one
 * token. That is what the released code of Dr.LLM does while it generates; its paper, and {@link Router#start}, decide once per prompt.
 *
 * <p>What a token goes without is left out with its keys and values kept ({@link LayerPlan#skipKeepingCache}), so that later tokens find
 * those of all before ({@link CacheReuse#APPROXIMATE}). Blocks are skipped or run: a second run would find no keys and values of tokens
 * that had one, so that a router that wants it gets one run.
 *
 * <p>The engine needs two sequences; without a free one a change of plans evaluates the whole text again. One caller at a time.
 */
public final class RoutedSequence implements AutoCloseable {
    /** Whose states decide on the blocks of a token. */
    public enum By {
        /**
         * Its own, as in the source. The state that enters a block is known when the token has run through those before it, so that it is
         * evaluated once more for each block that it goes without: this shows what routes do to texts, and saves nothing.
         */
        ITSELF,
        /**
         * Those of the token before it, or of the prompt, which runs through all blocks: one evaluation each, and fewer blocks. A
         * prediction; the source has nothing like it.
         */
        TOKEN_BEFORE
    }

    private final Router router;
    private final By by;
    private final LayerPlan all;
    private Sequence sequence;
    private LayerPlan next;
    private long evaluations;
    private long blocksLeftOut;

    /**
     * An empty history.
     *
     * @throws io.github.panamallama.runtime.LayerPlanException if the model has other blocks or hidden states than the one that the routers
     *                                                       were trained for, or can't be run so
     */
    public RoutedSequence(Engine engine, Router router, By by) {
        router.check(engine.model());
        this.router = router;
        this.by = by;
        all = LayerPlan.all(router.blocks());
        next = all;
        sequence = engine.newSequence(all);
    }

    /** The history, under the plan of its last token. Another object after each append; append through this one, not to it. */
    public Sequence sequence() {
        return sequence;
    }

    /** Evaluations of tokens, prompts counting as one. */
    public long evaluations() {
        return evaluations;
    }

    /** Blocks that tokens went without, all together; prompts do not count. */
    public long blocksLeftOut() {
        return blocksLeftOut;
    }

    /**
     * Appends a prompt. By {@link By#ITSELF} it has one route, by its windows.
     *
     * @param tokens at least one
     * @param last   receives the logits {@code [n_vocab]} that follow the last of them; null when they are not wanted
     */
    public void append(int[] tokens, Row last) {
        if (tokens.length == 0) {
            throw new IllegalArgumentException("nothing to append: there are no tokens");
        }
        if (by == By.TOKEN_BEFORE) {
            next = all;
        }
        run(tokens, last);
    }

    /**
     * Appends one token under its route.
     *
     * @param row receives the logits {@code [n_vocab]} that follow it; null when they are not wanted
     */
    public void append(int token, Row row) {
        run(new int[] {token}, row);
        for (int block = 0; block < all.blocks(); block++) {
            blocksLeftOut += sequence.plan().runs(block) == 0 ? 1 : 0;
        }
    }

    private void run(int[] tokens, Row last) {
        if (by == By.TOKEN_BEFORE) {
            var look = router.look(tokens.length, startsWithBos(tokens));
            goOn(evaluated(next, tokens, last, look));
            next = all;
            for (int block = 0; block < all.blocks(); block++) {
                next = router.decide(look, block, next) == 0 ? next.skipKeepingCache(block) : next;
            }
            return;
        }
        var plan = all;
        for (int decided = 0; ; ) {
            var look = router.look(tokens.length, startsWithBos(tokens));
            var evaluated = evaluated(plan, tokens, last, look);
            while (decided < all.blocks() && router.decide(look, decided, plan) != 0) {
                decided++;
            }
            if (decided == all.blocks()) {
                goOn(evaluated);
                return;
            }
            evaluated.close();
            plan = plan.skipKeepingCache(decided++);
        }
    }

    private boolean startsWithBos(int[] tokens) {
        return sequence.length() == 0 && Router.startsWithBos(sequence.engine().model(), tokens);
    }

    private Sequence evaluated(LayerPlan plan, int[] tokens, Row last, Router.Look look) {
        var fork = sequence.fork(plan, CacheReuse.APPROXIMATE);
        try {
            Router.observe(fork, tokens, last, look);
            evaluations++;
            return fork;
        } catch (RuntimeException | Error e) {
            fork.close();
            throw e;
        }
    }

    private void goOn(Sequence evaluated) {
        sequence.close();
        sequence = evaluated;
    }

    @Override
    public void close() {
        sequence.close();
    }
}
