package io.github.panamallama.runtime.search;

import io.github.panamallama.runtime.LlamaException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import java.util.stream.IntStream;

/**
 * A search by evolution (EvoPress, arXiv 2410.14649): a parent, children that differ from it in a few places, and rounds over growing
 * samples of text. Nothing is assumed about how places act together, every candidate is evaluated as a whole.
 *
 * <p>The parent takes part in the last stage of each generation only, and a child that does as well takes its place. Fitness values of
 * different generations come from different samples and can't be compared. The same seed gives the same {@linkplain Step log}. Immutable.
 *
 * @param generations   at least 1
 * @param offspring     children of each generation; fewer where there are not so many different ones
 * @param initial       first candidates, of which the best is the first parent
 * @param initialTokens that they are tried on
 * @param stages        of each generation, with no fewer tokens and no more survivors than the one before; the last one keeps 1
 * @param seed          of all random choices
 */
public record Tournament(int generations, int offspring, int initial, int initialTokens, List<Stage> stages, long seed) {
    /** Attempts at a new candidate before the search goes on with fewer. */
    private static final int ATTEMPTS = 1000;

    /** Makes candidates, which are equal where they stand for the same. */
    public interface Species<C> {
        /** One that stands for itself. */
        C first(SplittableRandom random);

        /** One that differs from its parent in little; the parent itself where the attempt failed. */
        C child(C parent, SplittableRandom random);
    }

    /** How well a candidate does, on texts that are tried in samples. */
    public interface Fitness<C> {
        /** The number of tokens of each text. */
        List<Integer> lengths();

        /**
         * Evaluates a candidate.
         *
         * @return the less the better; NaN or infinite where it can't be judged. The same for the same arguments
         */
        double of(C candidate, List<Slice> sample);
    }

    /**
     * One evaluation.
     *
     * @param generation 0 for the first candidates, then from 1 on
     * @param stage      from 1 on; 0 for the first candidates
     * @param tokens     that the candidate was tried on
     * @param fitness    on this generation's and stage's sample
     */
    public record Step<C>(int generation, int stage, C candidate, int tokens, double fitness) {
    }

    /**
     * What was found.
     *
     * @param fitness   on the last sample
     * @param steps     every evaluation, in order
     * @param tokens    that were evaluated
     * @param notFinite evaluations whose fitness was NaN or infinite; their candidates were dropped
     */
    public record Result<C>(C best, double fitness, List<Step<C>> steps, long tokens, int notFinite) {
    }

    public Tournament {
        if (generations < 1 || offspring < 1 || initial < 1 || initialTokens < 1) {
            throw new IllegalArgumentException("generations is " + generations + ", offspring " + offspring + ", initial " + initial
                    + ", initialTokens " + initialTokens + "; each must be at least 1");
        }
        stages = List.copyOf(stages);
        for (int i = 1; i < stages.size(); i++) {
            if (stages.get(i).tokens() < stages.get(i - 1).tokens() || stages.get(i).survivors() > stages.get(i - 1).survivors()) {
                throw new IllegalArgumentException("a stage must have no fewer tokens and no more survivors than the one before: "
                        + stages);
            }
        }
        if (stages.isEmpty() || stages.getLast().survivors() != 1) {
            throw new IllegalArgumentException("the last stage must have 1 survivor: " + stages);
        }
    }

    /** Tokens of the largest sample. */
    public int largestSample() {
        return Math.max(initialTokens, stages.getLast().tokens());
    }

    /** Evaluations that a search takes at most. */
    public int evaluations() {
        int each = offspring + 1;
        for (var stage : stages.subList(0, stages.size() - 1)) {
            each += stage.survivors();
        }
        return initial + generations * each;
    }

    /**
     * Runs the search.
     *
     * @param log told each evaluation when it is done; what it throws ends the search
     * @throws LlamaException if the texts have fewer tokens than the largest sample, or no candidate can be judged
     */
    public <C> Result<C> run(Species<C> species, Fitness<C> fitness, Consumer<Step<C>> log) {
        long available = fitness.lengths().stream().mapToLong(Integer::longValue).sum();
        if (available < largestSample()) {
            throw new LlamaException("the calibration texts have " + available + " tokens, and the largest sample needs " + largestSample()
                    + "; give more text or smaller stages");
        }
        return new Run<>(species, fitness, log).run();
    }

    private record Scored<C>(C candidate, double fitness) {
    }

    private final class Run<C> {
        private final Species<C> species;
        private final Fitness<C> fitness;
        private final Consumer<Step<C>> log;
        private final SplittableRandom random = new SplittableRandom(seed);
        private final List<Step<C>> steps = new ArrayList<>();
        private long tokens;
        private int notFinite;

        Run(Species<C> species, Fitness<C> fitness, Consumer<Step<C>> log) {
            this.species = species;
            this.fitness = fitness;
            this.log = log;
        }

        Result<C> run() {
            var first = new ArrayList<C>();
            var seen = new HashSet<C>();
            for (int attempt = 0; first.size() < initial && attempt < ATTEMPTS; attempt++) {
                var candidate = species.first(random);
                if (seen.add(candidate)) {
                    first.add(candidate);
                    attempt = 0;
                }
            }
            var parent = best(select(0, 0, first, 1, initialTokens), 0);
            for (int generation = 1; generation <= generations; generation++) {
                var candidates = children(parent.candidate);
                List<Scored<C>> left = List.of();
                for (int stage = 1; stage <= stages.size(); stage++) {
                    if (stage == stages.size()) {
                        candidates.add(parent.candidate);
                    }
                    var rule = stages.get(stage - 1);
                    left = select(generation, stage, candidates, rule.survivors(), rule.tokens());
                    candidates = new ArrayList<>(left.stream().map(Scored::candidate).toList());
                }
                parent = best(left, generation);
            }
            return new Result<>(parent.candidate, parent.fitness, List.copyOf(steps), tokens, notFinite);
        }

        private Scored<C> best(List<Scored<C>> left, int generation) {
            if (left.isEmpty()) {
                throw new LlamaException("no candidate of generation " + generation
                        + " could be judged: each fitness was NaN or infinite");
            }
            return left.getFirst();
        }

        private ArrayList<C> children(C parent) {
            var children = new ArrayList<C>();
            var seen = new HashSet<C>();
            seen.add(parent);
            for (int attempt = 0; children.size() < offspring && attempt < ATTEMPTS; attempt++) {
                var child = species.child(parent, random);
                if (seen.add(child)) {
                    children.add(child);
                    attempt = 0;
                }
            }
            return children;
        }

        /** The best candidates on a fresh sample, best first, of equal ones the earlier; those that can't be judged are dropped. */
        private List<Scored<C>> select(int generation, int stage, List<C> candidates, int survivors, int sampleTokens) {
            var sample = sample(sampleTokens);
            var scored = new ArrayList<Scored<C>>();
            for (var candidate : candidates) {
                var step = new Step<>(generation, stage, candidate, sampleTokens, fitness.of(candidate, sample));
                steps.add(step);
                tokens += sampleTokens;
                if (Double.isFinite(step.fitness)) {
                    scored.add(new Scored<>(candidate, step.fitness));
                } else {
                    notFinite++;
                }
                log.accept(step);
            }
            scored.sort(Comparator.comparingDouble(Scored::fitness));
            return scored.subList(0, Math.min(survivors, scored.size()));
        }

        /** Whole texts, each once, the last one cut. */
        private List<Slice> sample(int wanted) {
            var lengths = fitness.lengths();
            int[] order = IntStream.range(0, lengths.size()).toArray();
            var sample = new ArrayList<Slice>();
            for (int i = 0; wanted > 0; i++) {
                int j = i + random.nextInt(order.length - i);
                int text = order[j];
                order[j] = order[i];
                int taken = Math.min(wanted, lengths.get(text));
                sample.add(new Slice(text, taken));
                wanted -= taken;
            }
            return sample;
        }
    }
}
