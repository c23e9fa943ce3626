package io.github.panamallama.layers;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LlamaException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;

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
     * One round of a tournament.
     *
     * @param survivors how many candidates go on
     * @param tokens    that each is tried on
     */
    public record Stage(int survivors, int tokens) {
        public Stage {
            if (survivors < 1 || tokens < 1) {
                throw new IllegalArgumentException("a stage with " + survivors + " survivors and " + tokens
                        + " tokens; both must be at least 1");
            }
        }
    }

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

    /** Attempts at a new child before a generation goes on with fewer. */
    private static final int ATTEMPTS = 1000;
    private static final int MOST_SWAPS = 3;

    public PlanSearch {
        if (removed < 1) {
            throw new IllegalArgumentException(removed + " blocks to leave out; it must be at least 1");
        }
        if (generations < 0 || offspring < 1 || initial < 1 || initialTokens < 1) {
            throw new IllegalArgumentException("generations is " + generations + ", offspring " + offspring + ", initial " + initial
                    + ", initialTokens " + initialTokens + "; the first must be 0 or more, the others at least 1");
        }
        stages = List.copyOf(stages);
        for (int i = 1; i < stages.size(); i++) {
            if (stages.get(i).tokens < stages.get(i - 1).tokens || stages.get(i).survivors > stages.get(i - 1).survivors) {
                throw new IllegalArgumentException("a stage must have no fewer tokens and no more survivors than the one before: "
                        + stages);
            }
        }
        if (stages.isEmpty() || stages.getLast().survivors != 1) {
            throw new IllegalArgumentException("the last stage must have 1 survivor: " + stages);
        }
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
        int blocks = calibration.blocks();
        if (removed >= blocks) {
            throw new IllegalArgumentException("can't leave out " + removed + " of " + blocks + " blocks; "
                    + (blocks == 1 ? "there is no other" : "1 to " + (blocks - 1) + " can go"));
        }
        if (heldOut.blocks() != blocks) {
            throw new IllegalArgumentException("the held-out texts are for a model of " + heldOut.blocks()
                    + " blocks, the calibration is for one of " + blocks);
        }
        long available = calibration.lengths().stream().mapToLong(Integer::longValue).sum();
        int largest = Math.max(initialTokens, stages.getLast().tokens);
        if (available < largest) {
            throw new LlamaException("the calibration texts have " + available + " tokens, and the largest sample needs " + largest
                    + "; give more text or smaller stages");
        }
        return new Run(calibration, new SplittableRandom(seed)).run(heldOut);
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
    }

    private record Scored(Candidate candidate, double fitness) {
    }

    private final class Run {
        private final PlanFitness fitness;
        private final SplittableRandom random;
        private final List<Step> steps = new ArrayList<>();
        private final int blocks;
        private long tokens;
        private int notFinite;

        Run(PlanFitness fitness, SplittableRandom random) {
            this.fitness = fitness;
            this.random = random;
            this.blocks = fitness.blocks();
        }

        Result run(PlanFitness heldOut) {
            var first = new ArrayList<Candidate>();
            var seen = new HashSet<LayerPlan>();
            for (int attempt = 0; first.size() < initial && attempt < ATTEMPTS; attempt++) {
                var candidate = random();
                if (seen.add(candidate.plan)) {
                    first.add(candidate);
                    attempt = 0;
                }
            }
            var parent = best(select(0, 0, first, 1, initialTokens), 0);
            int rounds = generations > 0 ? generations : (int) Math.ceil(removed * (blocks - removed) / 1.5);
            for (int generation = 1; generation <= rounds; generation++) {
                var candidates = children(parent.candidate);
                List<Scored> left = List.of();
                for (int stage = 1; stage <= stages.size(); stage++) {
                    if (stage == stages.size()) {
                        candidates.add(parent.candidate);
                    }
                    var rule = stages.get(stage - 1);
                    left = select(generation, stage, candidates, rule.survivors, rule.tokens);
                    candidates = new ArrayList<>(left.stream().map(Scored::candidate).toList());
                }
                parent = best(left, generation);
            }
            var all = new ArrayList<PlanFitness.Slice>();
            for (int text = 0; text < heldOut.lengths().size(); text++) {
                all.add(new PlanFitness.Slice(text, heldOut.lengths().get(text)));
                tokens += heldOut.lengths().get(text);
            }
            var plan = parent.candidate.plan;
            return new Result(plan, parent.fitness, heldOut.of(plan, all), List.copyOf(steps), tokens, notFinite);
        }

        private Scored best(List<Scored> left, int generation) {
            if (left.isEmpty()) {
                throw new LlamaException("no plan of generation " + generation + " could be judged: each fitness was NaN or infinite");
            }
            return left.getFirst();
        }

        private Candidate random() {
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

        private ArrayList<Candidate> children(Candidate parent) {
            var children = new ArrayList<Candidate>();
            var seen = new HashSet<LayerPlan>();
            seen.add(parent.plan);
            for (int attempt = 0; children.size() < offspring && attempt < ATTEMPTS; attempt++) {
                var child = mutate(parent);
                if (seen.add(child.plan)) {
                    children.add(child);
                    attempt = 0;
                }
            }
            return children;
        }

        /** Swaps parts left out for parts kept, mostly one. */
        private Candidate mutate(Candidate parent) {
            var out = parent.out.clone();
            for (int kind = 0; kind < out.length; kind++) {
                out[kind] = out[kind].clone();
            }
            int swaps = Math.min(1 + random.nextInt(MOST_SWAPS), 1 + random.nextInt(MOST_SWAPS));
            for (int i = 0; i < swaps; i++) {
                var kind = out[random.nextInt(out.length)];
                int back = pick(kind, true, removed);
                int gone = pick(kind, false, blocks - removed);
                kind[back] = false;
                kind[gone] = true;
            }
            return Candidate.of(out);
        }

        /** One of the {@code count} places with this value. */
        private int pick(boolean[] kind, boolean value, int count) {
            int skip = random.nextInt(count);
            for (int i = 0; ; i++) {
                if (kind[i] == value && skip-- == 0) {
                    return i;
                }
            }
        }

        /** The best candidates on a fresh sample, best first, of equal ones the earlier; those that can't be judged are dropped. */
        private List<Scored> select(int generation, int stage, List<Candidate> candidates, int survivors, int sampleTokens) {
            var sample = sample(sampleTokens);
            var scored = new ArrayList<Scored>();
            for (var candidate : candidates) {
                double value = fitness.of(candidate.plan, sample);
                steps.add(new Step(generation, stage, candidate.plan, sampleTokens, value));
                tokens += sampleTokens;
                if (Double.isFinite(value)) {
                    scored.add(new Scored(candidate, value));
                } else {
                    notFinite++;
                }
            }
            scored.sort(Comparator.comparingDouble(Scored::fitness));
            return scored.subList(0, Math.min(survivors, scored.size()));
        }

        /** Whole texts, each once, the last one cut. */
        private List<PlanFitness.Slice> sample(int wanted) {
            var lengths = fitness.lengths();
            int[] order = IntStream.range(0, lengths.size()).toArray();
            var sample = new ArrayList<PlanFitness.Slice>();
            for (int i = 0; wanted > 0; i++) {
                int j = i + random.nextInt(order.length - i);
                int text = order[j];
                order[j] = order[i];
                int taken = Math.min(wanted, lengths.get(text));
                sample.add(new PlanFitness.Slice(text, taken));
                wanted -= taken;
            }
            return sample;
        }
    }
}
