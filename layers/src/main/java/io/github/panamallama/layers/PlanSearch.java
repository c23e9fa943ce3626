package io.github.panamallama.layers;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.search.Slice;
import io.github.panamallama.runtime.search.Stage;
import io.github.panamallama.runtime.search.Tournament;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Consumer;

/**
 * Searches the plan of a given cost under which the model does best, by evolution (EvoPress, arXiv 2410.14649): a parent, children that
 * leave out other blocks in place of some of the parent's, and a tournament over growing samples of text. Nothing is assumed about how
 * blocks act together, every candidate is evaluated as a whole.
 *
 * <p>The parent takes part in the last stage of each generation only, and a child that does as well takes its place. Fitness values of
 * different generations come from different samples and can't be compared; the plan that is found is judged once more, on texts
 * that the search has not seen. The same seed gives the same {@linkplain Step log}. Immutable.
 *
 * <pre>{@code
 * var found = PlanSearch.removing(2).withHalves(true).withSeed(7)
 *         .run(new PlanDivergence(engine, texts), new PlanDivergence(engine, heldOut));
 * }</pre>
 *
 * @param removed     blocks' worth of work to leave out, at least 1 and less than the model has
 * @param halves      whether attention and feed-forward parts are left out independently, {@code removed} of each, rather than whole blocks
 * @param generations 0 for {@code removed * (blocks - removed) / 1.5}
 * @param offspring   children of each generation; fewer where there are not so many different ones
 * @param initial     random plans of which the best is the first parent
 * @param initialTokens that they are tried on
 * @param stages      of each generation, with no fewer tokens and no more survivors than the one before; the last one keeps 1
 * @param seed        of all random choices
 */
public record PlanSearch(int removed, boolean halves, int generations, int offspring, int initial, int initialTokens, List<Stage> stages,
        long seed) {

    /**
     * One evaluation.
     *
     * @param generation 0 for the random plans, then from 1 on
     * @param stage      from 1 on; 0 for the random plans
     * @param tokens     that the plan was tried on
     * @param fitness    as {@link PlanFitness#of}, of this generation's and stage's sample
     */
    public record Step(int generation, int stage, LayerPlan plan, int tokens, double fitness) {
    }

    /**
     * What was found.
     *
     * @param fitness   on the last sample of the search
     * @param heldOut   on all of the held-out texts
     * @param steps     every evaluation, in order
     * @param tokens    tokens evaluated under candidate plans, the held-out ones included
     * @param notFinite evaluations whose fitness was NaN or infinite; their plans were dropped
     */
    public record Result(LayerPlan plan, double fitness, double heldOut, List<Step> steps, long tokens, int notFinite) {
    }

    private static final int MOST_SWAPS = 3;

    public PlanSearch {
        if (removed < 1) {
            throw new IllegalArgumentException(removed + " blocks to leave out; it must be at least 1");
        }
        if (generations < 0) {
            throw new IllegalArgumentException("generations is " + generations + "; it must be 0 or more");
        }
        stages = List.copyOf(stages);
        new Tournament(Math.max(1, generations), offspring, initial, initialTokens, stages, seed);  // refuses the rest
    }

    /** A search with the paper's values: 32 children, tournaments on 2048 and 32768 tokens, 64 random plans on 2048, seed 1. */
    public static PlanSearch removing(int blocks) {
        return new PlanSearch(blocks, false, 0, 32, 64, 2048, List.of(new Stage(2, 2048), new Stage(1, 32768)), 1);
    }

    public PlanSearch withHalves(boolean halves) {
        return new PlanSearch(removed, halves, generations, offspring, initial, initialTokens, stages, seed);
    }

    public PlanSearch withGenerations(int generations) {
        return new PlanSearch(removed, halves, generations, offspring, initial, initialTokens, stages, seed);
    }

    public PlanSearch withOffspring(int offspring) {
        return new PlanSearch(removed, halves, generations, offspring, initial, initialTokens, stages, seed);
    }

    public PlanSearch withInitial(int plans, int tokens) {
        return new PlanSearch(removed, halves, generations, offspring, plans, tokens, stages, seed);
    }

    public PlanSearch withStages(Stage... stages) {
        return new PlanSearch(removed, halves, generations, offspring, initial, initialTokens, List.of(stages), seed);
    }

    public PlanSearch withSeed(long seed) {
        return new PlanSearch(removed, halves, generations, offspring, initial, initialTokens, stages, seed);
    }

    /**
     * Runs the search.
     *
     * @param calibration what candidates are tried on
     * @param heldOut     the same measure on other texts, for the final score
     * @throws IllegalArgumentException if so much can't be left out of this model, or the two are of different models
     * @throws LlamaException           if the calibration has fewer tokens than the largest sample, or no candidate can be judged
     */
    public Result run(PlanFitness calibration, PlanFitness heldOut) {
        return run(calibration, heldOut, step -> { });
    }

    /** Most evaluations of candidates, for a model of so many blocks. */
    public int evaluations(int blocks) {
        return tournament(blocks).evaluations();
    }

    private Tournament tournament(int blocks) {
        int rounds = generations > 0 ? generations : (int) Math.ceil(removed * (blocks - removed) / 1.5);
        return new Tournament(rounds, offspring, initial, initialTokens, stages, seed);
    }

    /**
     * As {@link #run(PlanFitness, PlanFitness)}.
     *
     * @param log told of each evaluation, in the thread that works; what it throws ends the search
     */
    public Result run(PlanFitness calibration, PlanFitness heldOut, Consumer<Step> log) {
        int blocks = calibration.blocks();
        if (removed >= blocks) {
            throw new IllegalArgumentException("can't leave out " + removed + " of " + blocks + " blocks; "
                    + (blocks == 1 ? "there is no other" : "1 to " + (blocks - 1) + " can go"));
        }
        if (heldOut.blocks() != blocks) {
            throw new IllegalArgumentException("the held-out texts are for a model of " + heldOut.blocks()
                    + " blocks, the calibration is for one of " + blocks);
        }
        var found = tournament(blocks).run(new Candidates(blocks), new Tournament.Fitness<Candidate>() {
                    @Override
                    public List<Integer> lengths() {
                        return calibration.lengths();
                    }

                    @Override
                    public double of(Candidate candidate, List<Slice> sample) {
                        return calibration.of(candidate.plan, sample);
                    }
                }, step -> log.accept(of(step)));
        var plan = found.best().plan;
        long tokens = found.tokens() + heldOut.lengths().stream().mapToLong(Integer::longValue).sum();
        return new Result(plan, found.fitness(), heldOut.of(plan, Slice.all(heldOut.lengths())),
                found.steps().stream().map(PlanSearch::of).toList(), tokens, found.notFinite());
    }

    private static Step of(Tournament.Step<Candidate> step) {
        return new Step(step.generation(), step.stage(), step.candidate().plan, step.tokens(), step.fitness());
    }

    /** Which parts a candidate leaves out: {@code [kind][block]}, one kind of whole blocks or attention and feed-forward parts. */
    private record Candidate(LayerPlan plan, boolean[][] out) {
        static Candidate of(boolean[][] out) {
            int blocks = out[0].length;
            var plan = LayerPlan.all(blocks);
            for (int block = 0; block < blocks; block++) {
                boolean attention = out[0][block];
                boolean feedForward = out[out.length - 1][block];
                if (attention && feedForward) {
                    plan = plan.skip(block);
                } else if (attention) {
                    plan = plan.skipAttention(block);
                } else if (feedForward) {
                    plan = plan.skipFeedForward(block);
                }
            }
            return new Candidate(plan, out);
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof Candidate candidate && plan.equals(candidate.plan);
        }

        @Override
        public int hashCode() {
            return plan.hashCode();
        }
    }

    private final class Candidates implements Tournament.Species<Candidate> {
        private final int blocks;

        Candidates(int blocks) {
            this.blocks = blocks;
        }

        @Override
        public Candidate first(SplittableRandom random) {
            var out = new boolean[halves ? 2 : 1][blocks];
            for (var kind : out) {
                int left = removed; // block by block, with the probability that gives each choice the same
                for (int block = 0; block < blocks; block++) {
                    if (random.nextInt(blocks - block) < left) {
                        kind[block] = true;
                        left--;
                    }
                }
            }
            return Candidate.of(out);
        }

        /** Swaps parts left out for parts kept, mostly one. */
        @Override
        public Candidate child(Candidate parent, SplittableRandom random) {
            var out = parent.out.clone();
            for (int kind = 0; kind < out.length; kind++) {
                out[kind] = out[kind].clone();
            }
            int swaps = Math.min(1 + random.nextInt(MOST_SWAPS), 1 + random.nextInt(MOST_SWAPS));
            for (int i = 0; i < swaps; i++) {
                var kind = out[random.nextInt(out.length)];
                int back = pick(kind, true, removed, random);
                int gone = pick(kind, false, blocks - removed, random);
                kind[back] = false;
                kind[gone] = true;
            }
            return Candidate.of(out);
        }

        /** One of the {@code count} places with this value. */
        private int pick(boolean[] kind, boolean value, int count, SplittableRandom random) {
            int skip = random.nextInt(count);
            for (int i = 0; ; i++) {
                if (kind[i] == value && skip-- == 0) {
                    return i;
                }
            }
        }
    }
}
