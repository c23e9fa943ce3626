package io.github.panamallama.sampling.strategy;

import java.util.Arrays;
import java.util.Comparator;
import java.util.SplittableRandom;
import java.util.stream.IntStream;

/**
 * Monte-Carlo tree search for likely continuations in a {@link TrigramTable}, with the constants of the paper's code. Its arrays are used
 * again; no allocation per node.
 */
final class DraftSearch {
    private static final double C1 = 32;
    private static final double C2 = 8;

    /** Tokens to draft and the index of each one's parent, -1 for those behind the last token of the text. */
    record Tree(int[] tokens, int[] parents) {
    }

    private final NGramDrafts settings;
    private final SplittableRandom random;
    private final int[] token;
    private final int[] parent;
    private final int[] depth;       // the root, the last two tokens, counts as 1
    private final int[] firstChild;  // 0 before expansion
    private final int[] children;
    private final int[] visits;
    private final double[] score;
    private final float[] weight;
    private final int[] successors = new int[TrigramTable.SUCCESSORS];
    private final float[] successorWeights = new float[TrigramTable.SUCCESSORS];
    private int size;
    private int before;    // the token before the root's

    DraftSearch(NGramDrafts settings, long seed) {
        this.settings = settings;
        random = new SplittableRandom(seed);
        int most = 1 + settings.iterations() * TrigramTable.SUCCESSORS;
        token = new int[most];
        parent = new int[most];
        depth = new int[most];
        firstChild = new int[most];
        children = new int[most];
        visits = new int[most];
        score = new double[most];
        weight = new float[most];
    }

    /** A draft behind {@code ..., a, b}; without nodes if the table doesn't know the pair. */
    Tree draft(int a, int b) {
        before = a;
        size = 1;
        token[0] = b;
        parent[0] = -1;
        depth[0] = 1;
        firstChild[0] = 0;
        visits[0] = 0;
        score[0] = 0;
        for (int i = 0; i < settings.iterations(); i++) {
            int leaf = select();
            if (depth[leaf] < settings.depth() && expand(leaf)) {
                leaf = firstChild[leaf] + random.nextInt(children[leaf]);
            } else if (leaf == 0) {
                return new Tree(new int[0], new int[0]);
            }
            double value = 1 + along(leaf) + rollOut(leaf);
            for (int node = leaf; node >= 0; node = parent[node]) {
                visits[node]++;
                score[node] += value;
            }
        }
        return merge();
    }

    private int select() {
        int node = 0;
        while (firstChild[node] > 0) {
            double parentVisits = visits[node];
            double explore = (C1 + Math.log((parentVisits + C2 + 1) / C2)) * Math.sqrt(parentVisits);
            int best = -1;
            double bestValue = Double.NEGATIVE_INFINITY;
            for (int child = firstChild[node]; child < firstChild[node] + children[node]; child++) {
                if (visits[child] == 0) {
                    best = child;
                    break;
                }
                double value = score[child] / visits[child] + explore * weight[child] / (1 + visits[child]);
                if (value > bestValue) {
                    bestValue = value;
                    best = child;
                }
            }
            node = best;
        }
        return node;
    }

    private boolean expand(int node) {
        int n = settings.table().successors(parent[node] < 0 ? before : token[parent[node]], token[node], successors, successorWeights);
        if (n == 0) {
            return false;
        }
        firstChild[node] = size;
        children[node] = n;
        for (int i = 0; i < n; i++, size++) {
            token[size] = successors[i];
            weight[size] = successorWeights[i];
            parent[size] = node;
            depth[size] = depth[node] + 1;
            firstChild[size] = 0;
            visits[size] = 0;
            score[size] = 0;
        }
        return true;
    }

    private double along(int node) {
        double sum = 0;
        for (; node > 0; node = parent[node]) {
            sum += weight[node];
        }
        return sum;
    }

    private double rollOut(int node) {
        int a = parent[node] < 0 ? before : token[parent[node]];
        int b = token[node];
        double sum = 0;
        for (int d = depth[node]; d < settings.depth(); d++) {
            int n = settings.table().successors(a, b, successors, successorWeights);
            if (n == 0) {
                break;
            }
            double total = 0;
            for (int i = 0; i < n; i++) {
                total += successorWeights[i];
            }
            double u = random.nextDouble() * total;
            int i = 0;
            while (i < n - 1 && (u -= successorWeights[i]) >= 0) {
                i++;
            }
            sum += successorWeights[i];
            a = b;
            b = successors[i];
        }
        return sum;
    }

    /** The most visited paths, each longer by its most likely successor, put together to a tree. */
    private Tree merge() {
        var order = IntStream.range(1, size).filter(i -> visits[i] > 0).boxed()
                .sorted(Comparator.<Integer>comparingInt(i -> -visits[i]).thenComparing(i -> i)).limit(settings.paths()).toList();
        var tokens = new Ints();
        var parents = new Ints();
        for (int end : order) {
            int[] path = new int[depth[end]];
            int length = depth[end] - 1;
            for (int node = end, i = length - 1; node > 0; node = parent[node]) {
                path[i--] = token[node];
            }
            int a = length == 1 ? token[0] : path[length - 2];
            int n = settings.table().successors(a, path[length - 1], successors, successorWeights);
            int best = 0;
            for (int i = 1; i < n; i++) {
                best = successorWeights[i] > successorWeights[best] ? i : best;
            }
            if (n > 0) {
                path[length++] = successors[best];
            }
            add(Arrays.copyOf(path, length), tokens, parents);
        }
        return new Tree(tokens.toArray(), parents.toArray());
    }

    private void add(int[] path, Ints tokens, Ints parents) {
        int at = -1;
        for (int next : path) {
            int child = -1;
            for (int i = 0; i < tokens.size() && child < 0; i++) {
                child = parents.get(i) == at && tokens.get(i) == next ? i : -1;
            }
            if (child < 0) {
                if (tokens.size() == settings.nodes()) {
                    return;
                }
                child = tokens.size();
                tokens.add(next);
                parents.add(at);
            }
            at = child;
        }
    }
}
