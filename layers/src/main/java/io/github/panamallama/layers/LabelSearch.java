package io.github.panamallama.layers;

import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SplittableRandom;

/**
 * Searches, for one question, the smallest plan under which a model still answers it, or answers what it otherwise does not: a tree of
 * edited plans, walked by upper confidence bounds (Dr.LLM, arXiv 2510.12773, with the details of its released code).
 *
 * <p>The root runs every block once. An edit leaves out one or two consecutive runs of blocks, or runs a block once more. Whether an answer
 * is right, {@link Task} says; each plan is asked once. The same seed gives the same search.
 *
 * @param simulations   walks from the root to a leaf
 * @param exploration   factor {@code c} of the confidence bound
 * @param lengthPenalty how much a plan of all blocks loses against an empty one, in units of the reward
 * @param random        probability of a step to any child
 * @param maxRuns       most runs of one block, 1 to {@link LayerPlan#MAX_RUNS}
 * @param spareLayers   most repetitions in a plan: the spare layers of the engine
 * @param enough        runs saved at which a correct plan ends the search; so does any correct plan where the whole model was wrong
 * @param seed          of the walk
 */
public record LabelSearch(int simulations, double exploration, double lengthPenalty, double random, int maxRuns, int spareLayers,
        int enough, long seed) {

    /** Whether a model answers under a plan. */
    @FunctionalInterface
    public interface Task {
        boolean correct(LayerPlan plan);
    }

    /**
     * A prompt, and whether the model does behind it what it should.
     *
     * @param prompt tokens, at least one
     */
    public record Question(int[] prompt, Task task) {
    }

    /**
     * What a search has found.
     *
     * @param plan        the correct plan of the fewest runs, of those the one with the fewest blocks; empty if none was correct
     * @param wholeModel  whether the model as it is was correct
     * @param simulations walks made
     * @param evaluations plans that the task was asked about
     */
    public record Found(Optional<LayerPlan> plan, boolean wholeModel, int simulations, int evaluations) {
        /** Whether a plan is correct where the model as it is was wrong. */
        public boolean repairs() {
            return !wholeModel && plan.isPresent();
        }
    }

    public LabelSearch {
        if (simulations < 1) {
            throw new IllegalArgumentException(simulations + " simulations; at least 1 is needed");
        }
        if (!(exploration >= 0) || !(lengthPenalty >= 0) || !(random >= 0 && random <= 1)) {
            throw new IllegalArgumentException("exploration " + exploration + ", length penalty " + lengthPenalty + ", random " + random
                    + "; none may be negative, and the last is a probability");
        }
        if (maxRuns < 1 || maxRuns > LayerPlan.MAX_RUNS) {
            throw new IllegalArgumentException("maxRuns is " + maxRuns + "; it must be between 1 and " + LayerPlan.MAX_RUNS);
        }
        if (spareLayers < 0 || enough < 1) {
            throw new IllegalArgumentException("spareLayers is " + spareLayers + " and enough " + enough
                    + "; they must be at least 0 and 1");
        }
    }

    /**
     * 50 simulations, exploration 1.8, length penalty 3, one random step in ten, a block twice at most, enough at 2 saved: the source's
     * values. Ending early spares evaluations but teaches no deep skips; {@link #withEnough} changes it.
     */
    public static LabelSearch defaults() {
        return new LabelSearch(50, 1.8, 3, 0.1, 2, EngineOptions.MAX_SPARE_LAYERS, 2, 1);
    }

    public LabelSearch withSimulations(int count) {
        return new LabelSearch(count, exploration, lengthPenalty, random, maxRuns, spareLayers, enough, seed);
    }

    public LabelSearch withMaxRuns(int count) {
        return new LabelSearch(simulations, exploration, lengthPenalty, random, count, spareLayers, enough, seed);
    }

    public LabelSearch withSpareLayers(int count) {
        return new LabelSearch(simulations, exploration, lengthPenalty, random, maxRuns, count, enough, seed);
    }

    public LabelSearch withEnough(int runsSaved) {
        return new LabelSearch(simulations, exploration, lengthPenalty, random, maxRuns, spareLayers, runsSaved, seed);
    }

    public LabelSearch withSeed(long seed) {
        return new LabelSearch(simulations, exploration, lengthPenalty, random, maxRuns, spareLayers, enough, seed);
    }

    /** Searches for a model of {@code blocks}. */
    public Found search(int blocks, Task task) {
        var walk = new Walk(blocks, task);
        walk.run();
        return new Found(Optional.ofNullable(walk.best).map(Path::plan), walk.wholeModel, walk.done, walk.known.size());
    }

    /**
     * Searches for each question, and makes examples of those for which some plan is correct. Plans that only shorten are usually many, and
     * plans that repair are few: of the kind that is too frequent, the last ones are left out.
     *
     * @param repairs share of examples whose plan is correct where the whole model is wrong, above 0 and below 1; the source has 0.3 for
     *                code. Where there are none of one kind, all of the other stay
     */
    public List<Example> examples(int blocks, List<Question> questions, double repairs) {
        if (!(repairs > 0 && repairs < 1)) {
            throw new IllegalArgumentException("a share of " + repairs + " repairs; it must be above 0 and below 1");
        }
        var examples = new ArrayList<Example>();
        var repairing = new ArrayList<Boolean>();
        for (int i = 0; i < questions.size(); i++) {
            var question = questions.get(i);
            var found = withSeed(seed + i).search(blocks, question.task);
            if (found.plan().isPresent()) {
                examples.add(new Example(question.prompt, found.plan().get()));
                repairing.add(found.repairs());
            }
        }
        int many = Collections.frequency(repairing, true);
        int others = examples.size() - many;
        int mostRepairs = others == 0 ? many : (int) Math.round(others * repairs / (1 - repairs));
        int mostOthers = many == 0 ? others : (int) Math.round(many * (1 - repairs) / repairs);
        var balanced = new ArrayList<Example>();
        for (int i = 0; i < examples.size(); i++) {
            if (repairing.get(i) ? mostRepairs-- > 0 : mostOthers-- > 0) {
                balanced.add(examples.get(i));
            }
        }
        return List.copyOf(balanced);
    }

    /** How often each block runs: a plan as the search edits it. */
    private record Path(byte[] runs) {
        int length() {
            int sum = 0;
            for (byte n : runs) {
                sum += n;
            }
            return sum;
        }

        int distinct() {
            int sum = 0;
            for (byte n : runs) {
                sum += n > 0 ? 1 : 0;
            }
            return sum;
        }

        boolean shorterThan(Path other) {
            return other == null || length() < other.length() || length() == other.length() && distinct() < other.distinct();
        }

        LayerPlan plan() {
            var plan = LayerPlan.all(runs.length);
            for (int block = 0; block < runs.length; block++) {
                plan = runs[block] == 0 ? plan.skip(block) : plan.repeat(block, runs[block]);
            }
            return plan;
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof Path path && Arrays.equals(runs, path.runs);
        }

        @Override
        public int hashCode() {
            return Arrays.hashCode(runs);
        }
    }

    private static final class Node {
        final Path path;
        final Node parent;
        double reward;
        int visits;
        List<Node> children = List.of();

        Node(Path path, Node parent) {
            this.path = path;
            this.parent = parent;
        }
    }

    private final class Walk {
        final int blocks;
        final Task task;
        final SplittableRandom dice = new SplittableRandom(seed);
        final Map<Path, Boolean> known = new HashMap<>();
        final Node root;
        Path best;
        boolean wholeModel;
        int done;

        Walk(int blocks, Task task) {
            this.blocks = blocks;
            this.task = task;
            var all = new byte[blocks];
            Arrays.fill(all, (byte) 1);
            root = new Node(new Path(all), null);
        }

        void run() {
            while (done < simulations) {
                done++;
                var node = root;
                while (!node.children.isEmpty()) {
                    node = step(node);
                }
                if (node.visits > 0) {
                    node.children = edits(node);
                    if (!node.children.isEmpty()) {
                        node = node.children.get(dice.nextInt(node.children.size()));
                    }
                }
                boolean correct = known.computeIfAbsent(node.path, path -> task.correct(path.plan()));
                for (var up = node; up != null; up = up.parent) {
                    up.reward += correct ? 1 : 0;
                    up.visits++;
                }
                if (done == 1) {
                    wholeModel = correct;
                }
                if (correct && node.path.shorterThan(best)) {
                    best = node.path;
                }
                if (correct && (!wholeModel || node.path.length() <= blocks - enough)) {
                    return;
                }
            }
        }

        private Node step(Node node) {
            if (dice.nextDouble() < random) {
                return node.children.get(dice.nextInt(node.children.size()));
            }
            Node chosen = null;
            double highest = Double.NEGATIVE_INFINITY;
            int ties = 0;
            for (var child : node.children) {
                double bound = child.visits == 0 ? Double.POSITIVE_INFINITY : child.reward / child.visits
                        + exploration * Math.sqrt(Math.log(done) / child.visits) - lengthPenalty * child.path.length() / blocks;
                if (chosen == null || bound > highest) {
                    chosen = child;
                    highest = bound;
                    ties = 1;
                } else if (bound == highest && dice.nextInt(++ties) == 0) {
                    chosen = child;
                }
            }
            return chosen;
        }

        /** Every plan that is one edit away and not empty, each once. */
        private List<Node> edits(Node node) {
            var children = new ArrayList<Node>();
            byte[] runs = node.path.runs;
            int length = node.path.length();
            for (int block = 0; block < blocks; block++) {
                if (runs[block] == 0) {
                    continue;
                }
                if (length > 1) {
                    children.add(edited(node, block, -1, block, 0));
                }
                if (runs[block] > 1 && length > 2) {
                    children.add(edited(node, block, -2, block, 0));
                }
                int next = block + 1;
                while (next < blocks && runs[next] == 0) {
                    next++;
                }
                if (next < blocks && length > 2) {
                    children.add(edited(node, block, -1, next, -1));
                }
                if (runs[block] < maxRuns && length < 2 * blocks && length - node.path.distinct() < spareLayers) {
                    children.add(edited(node, block, 1, block, 0));
                }
            }
            return children;
        }

        private Node edited(Node node, int block, int change, int other, int otherChange) {
            byte[] runs = node.path.runs.clone();
            runs[block] += (byte) change;
            runs[other] += (byte) otherChange;
            return new Node(new Path(runs), node);
        }
    }
}
