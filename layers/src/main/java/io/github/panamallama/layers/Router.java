package io.github.panamallama.layers;

import io.github.panamallama.runtime.CacheReuse;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.Tap;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.IntStream;

/**
 * Chooses a layer plan for a prompt by the hidden states that the prompt leaves behind: one small classifier per block, which sees what
 * enters the block. The plan holds for the whole sequence, so that no block that runs ever misses keys and values; a
 * {@link RoutedSequence} decides token by token instead.
 *
 * <p>Routers are trained for one model, and kept in a {@link RouterFile}. Immutable but for a count; any number of threads.
 */
public abstract sealed class Router permits FirstRouter, DrLlmRouter {
    private static final System.Logger LOG = System.getLogger("panamallama.layers");

    private final int blocks;
    private final int width;
    private final Prefill prefill;
    private final AtomicLong undecided = new AtomicLong();

    Router(int blocks, int width, Prefill prefill) {
        this.blocks = blocks;
        this.width = width;
        this.prefill = prefill;
    }

    /** Blocks of the model that it was trained for. */
    public int blocks() {
        return blocks;
    }

    /** Size of that model's hidden states. */
    public int width() {
        return width;
    }

    /** What its decisions mean for the prompt. */
    public Prefill prefill() {
        return prefill;
    }

    /** Decisions that could not be made because a score was not a number. The block was run then. */
    public long undecided() {
        return undecided.get();
    }

    /**
     * Evaluates a prompt, decides by it, and gives back a sequence that holds it under the plan decided on ({@link Sequence#plan}). Costs
     * one evaluation of the prompt; with {@link Prefill#SKIP} another one for each block that is not just run.
     *
     * @param prompt tokens; none makes an empty sequence under the plan of all blocks
     * @param last   receives the logits that follow the prompt: with {@link Prefill#FULL} those of the whole model; may be null
     * @throws LayerPlanException if the model has other blocks or hidden states than the one it was trained for, or can't be run so
     */
    public final Sequence start(Engine engine, int[] prompt, Row last) {
        check(engine.model());
        var plan = LayerPlan.all(blocks);
        if (prompt.length == 0) {
            return engine.newSequence(plan);
        }
        for (int decided = 0; ; ) {
            var sequence = engine.newSequence(plan);
            boolean done = false;
            try {
                var look = look(prompt.length, startsWithBos(engine.model(), prompt));
                observe(sequence, prompt, last, look);
                if (prefill == Prefill.FULL) {
                    var chosen = decide(look);
                    done = chosen.isFull();
                    return done ? sequence : sequence.fork(chosen, CacheReuse.APPROXIMATE);
                }
                int runs = 1;
                while (decided < blocks && (runs = decide(look, decided, plan)) == 1) {
                    decided++;
                }
                if (runs == 1) {
                    done = true;
                    return sequence;
                }
                plan = with(plan, decided++, runs);
            } finally {
                if (!done) {
                    sequence.close();
                }
            }
        }
    }

    /** The plan that {@link #start} would decide on, at the same cost. */
    public final LayerPlan plan(Engine engine, int[] prompt) {
        try (var sequence = start(engine, prompt, null)) {
            return sequence.plan();
        }
    }

    /** How the decisions for the prompts of examples compare with the examples' own plans. */
    public final Agreement agreement(Engine engine, List<Example> examples) {
        var counts = new long[Mlp.CLASSES][Mlp.CLASSES];
        for (var example : examples) {
            var chosen = plan(engine, example.prompt());
            for (int block = 0; block < blocks; block++) {
                counts[Math.min(2, example.plan().runs(block))][Math.min(2, chosen.runs(block))]++;
            }
        }
        return new Agreement(counts);
    }

    /** Decides on all blocks by what was seen of one evaluation. */
    final LayerPlan decide(Look look) {
        var plan = LayerPlan.all(blocks);
        for (int block = 0; block < blocks; block++) {
            plan = with(plan, block, decide(look, block, plan));
        }
        return plan;
    }

    /** How often a block shall run where those before it run as {@code plan} says; at least one of all does. */
    final int decide(Look look, int block, LayerPlan plan) {
        int runs = look.runs(block);
        if (runs < 0) {
            if (undecided.getAndIncrement() == 0) {
                LOG.log(System.Logger.Level.WARNING, "the score of block {0} is not a number; the block is run, here and from now on"
                        + " wherever that happens", block);
            }
            return 1;
        }
        return runs == 0 && block == blocks - 1 && keepsNothingBefore(plan, block) ? 1 : runs;
    }

    private static boolean keepsNothingBefore(LayerPlan plan, int block) {
        return IntStream.range(0, block).allMatch(b -> plan.runs(b) == 0);
    }

    private static LayerPlan with(LayerPlan plan, int block, int runs) {
        return runs == 0 ? plan.skip(block) : plan.repeat(block, runs);
    }

    /** What a router sees of one prompt, and makes of it. */
    interface Look extends Seen {
        /** How often the block shall run, or -1 if a score is not a number. */
        int runs(int block);
    }

    /** Is shown an evaluation, token by token. */
    @FunctionalInterface
    interface Seen {
        /**
         * The state that enters a block.
         *
         * @param token index in the prompt; each comes once, in order
         * @param state {@code [width]}, borrowed
         */
        void see(int token, int block, float[] state);
    }

    /** Begins to look at a prompt. */
    abstract Look look(int tokens, boolean startsWithBos);

    /** Evaluates a prompt behind a sequence and shows the states that enter each block. */
    static void observe(Sequence sequence, int[] prompt, Row last, Seen seen) {
        int blocks = sequence.plan().blocks();
        var state = new float[sequence.engine().model().embeddingSize()];
        int[] behind = IntStream.range(-1, blocks - 1).toArray();
        int start = sequence.length();
        sequence.tap(Tap.hidden(behind), new Tap.Sink() {
            private int next = start;

            @Override
            public void read(Tap.Reading reading) {
                if (reading.position() != next) {
                    return;    // evaluated again, after it had lost its cells
                }
                for (int block = 0; block < blocks; block++) {
                    reading.hidden(block - 1, state);
                    seen.see(next - start, block, state);
                }
                next++;
            }
        });
        try {
            sequence.append(prompt, last);
        } finally {
            sequence.untap();
        }
    }

    static boolean startsWithBos(Model model, int[] prompt) {
        return prompt[0] == model.vocabulary().bos();
    }

    final void check(Model model) {
        if (model.layerCount() != blocks || model.embeddingSize() != width) {
            throw new LayerPlanException("routers for a model of " + blocks + " blocks and width " + width + ", but " + model.description()
                    + " has " + model.layerCount() + " and " + model.embeddingSize());
        }
    }
}
