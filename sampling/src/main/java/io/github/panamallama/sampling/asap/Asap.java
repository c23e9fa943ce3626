package io.github.panamallama.sampling.asap;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.sampling.Constraint;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.MaskedRow;
import io.github.panamallama.sampling.TokenMask;
import io.github.panamallama.sampling.track.Fingerprint;
import io.github.panamallama.sampling.track.Track;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.function.Function;
import java.util.function.IntPredicate;

/**
 * ASAp, adaptive sampling with approximate expected futures: draws texts that satisfy a constraint, and learns from draw to draw to draw
 * them with the probability that the model gives them among all such texts (Park et al., <i>Grammar-Aligned Decoding</i>, NeurIPS 2024,
 * arXiv 2405.21047).
 *
 * <p>Masking alone ({@link Method#CONSTRAINED}) gives valid texts with other probabilities: what a token costs later is not known when it
 * is chosen. Here a trie holds, for each prefix seen, an over-estimate C of the probability that the model completes it within the
 * constraint. It starts at 1, which is masking alone, falls to the truth as the trie grows, and weighs every choice. With its {@link
 * Draw#logWeight} each draw also says by how much it is still off.
 *
 * <p>Prefixes that were seen cost no evaluation; where a draw leaves the trie, what its sequence lacks is evaluated in one batch. One
 * caller at a time. The engine stays open when this is closed.
 */
public final class Asap implements AutoCloseable {
    /** How to draw. */
    public enum Method {
        /** With what was learned, and learning. */
        ASAP,
        /** By masking alone: valid texts with distorted probabilities. Learns nothing. */
        CONSTRAINED,
        /** Without any mask, again and again until a text satisfies the constraint: exact, and as slow as that is rare. Learns nothing. */
        REJECTION
    }

    private static final int PARKED_TRACKS = 4;

    private final Track root;
    private final int base;
    private final int[] prompt;
    private final Constraint constraint;
    private final AsapOptions options;
    private final IntPredicate ends;
    private final Function<int[], String> text;
    private final byte[] key;
    private final SplittableRandom random;
    private final List<Branch> branches = new ArrayList<>();
    private final List<Row> rows = new ArrayList<>();
    private final MaskedRow masked = new MaskedRow();
    private final Map<Ids, Ids> interned = new HashMap<>();

    private Row promptRow;    // null until the prompt is evaluated
    private Node trie;        // null until the first position is known
    private Node known;       // enumerated; null without
    private long rounds;
    private long draws;
    private long evictions;
    private long deadEnds;
    private long bytes;
    private long nodes;
    private boolean closed;

    /**
     * A sampler of texts behind {@code prompt}, with an empty trie.
     *
     * @param constraint in the state at the text's start; forked
     * @param grammar    names the constraint in saved tries: its source text is best
     * @throws IllegalArgumentException if prompt and texts do not fit the context, or the constraint is of another vocabulary
     */
    public static Asap open(Engine engine, int[] prompt, Constraint constraint, String grammar, AsapOptions options) {
        var vocabulary = engine.model().vocabulary();
        var model = Fingerprint.of(engine.model(), options.adapters());
        var root = Track.open(engine, options.adapters());
        try {
            return new Asap(root, model, prompt, constraint, grammar, options, vocabulary::isEndOfGeneration, tokens -> {
                var decoder = vocabulary.decoder();
                var text = new StringBuilder();
                for (int token : tokens) {
                    text.append(decoder.push(token));
                }
                return text.append(decoder.flush()).toString();
            });
        } catch (RuntimeException | Error e) {
            root.close();   // or its adapters stay in use
            throw e;
        }
    }

    Asap(Track root, byte[] model, int[] prompt, Constraint constraint, String grammar, AsapOptions options, IntPredicate ends,
            Function<int[], String> text) {
        if (prompt.length == 0) {
            throw new IllegalArgumentException("nothing to go on from: the prompt has no tokens");
        }
        base = root.length() + prompt.length;
        if (base + (long) options.maxTokens() > root.contextSize()) {
            throw new IllegalArgumentException("a prompt of " + base + " tokens and texts of up to " + options.maxTokens()
                    + " do not fit the context of " + root.contextSize() + "; lower maxTokens or raise EngineOptions.contextSize");
        }
        if (options.parallel() + 1 > root.maxBranches()) {
            throw new IllegalArgumentException(options.parallel() + " draws at the same time need " + (options.parallel() + 1)
                    + " sequences, the engine has " + root.maxBranches() + "; raise EngineOptions.maxSequences");
        }
        if (constraint.mask().size() != root.vocabularySize()) {
            throw new IllegalArgumentException("the constraint is for a vocabulary of " + constraint.mask().size()
                    + " tokens, the model has "
                    + root.vocabularySize() + "; make it from this model's vocabulary");
        }
        for (int token : options.logitBias().keySet()) {
            if (token >= root.vocabularySize()) {
                throw new IllegalArgumentException("the logitBias is for token " + token + ", the vocabulary has " + root.vocabularySize());
            }
        }
        this.root = root;
        this.prompt = prompt.clone();
        this.constraint = constraint.fork();
        this.options = options;
        this.ends = ends;
        this.text = text;
        random = new SplittableRandom(options.seed());
        key = key(model, grammar);
    }

    /** Everything that the trie's content depends on. */
    private byte[] key(byte[] model, String grammar) {
        var digest = Fingerprint.digest();
        digest.update(model);
        Fingerprint.add(digest, root.tokens());
        Fingerprint.add(digest, prompt);
        Fingerprint.add(digest, grammar);
        for (long word : constraint.mask().words()) {
            Fingerprint.add(digest, word);
        }
        Fingerprint.add(digest, Double.doubleToLongBits(options.temperature()));
        Fingerprint.add(digest, options.maxTokens());
        options.logitBias().entrySet().stream().sorted(Map.Entry.comparingByKey()).forEach(e -> {
            Fingerprint.add(digest, e.getKey());
            Fingerprint.add(digest, Float.floatToIntBits(e.getValue()));
        });
        return digest.digest();
    }

    // --- drawing --------------------------------------------------------------------------------------------------------

    /** Draws one text, and learns. */
    public Draw draw() {
        return draw(1).getFirst();
    }

    /** Draws {@code n} texts, and learns. */
    public List<Draw> draw(int n) {
        return draw(n, Method.ASAP);
    }

    /**
     * Draws texts, {@link AsapOptions#parallel} at a time: those of one round share a batch, and the estimates that stood at its start.
     *
     * @param n at least 0
     * @throws ConstraintException if no text of the language can be reached, or a draw took too many attempts
     * @throws io.github.panamallama.runtime.SamplingException if a row is no distribution; nothing was learned from the round
     */
    public List<Draw> draw(int n, Method method) {
        if (n < 0) {
            throw new IllegalArgumentException("can't draw " + n + " texts");
        }
        if (closed) {
            throw new IllegalStateException("this sampler is closed");
        }
        var result = new ArrayList<Draw>(n);
        while (result.size() < n) {
            result.addAll(round(Math.min(options.parallel(), n - result.size()), method));
        }
        return result;
    }

    private List<Draw> round(int count, Method method) {
        rounds++;
        var walks = new ArrayList<Walk>();
        for (int i = 0; i < count; i++) {
            walks.add(new Walk(method));
        }
        while (true) {
            for (var walk : walks) {
                walk.go();
            }
            var waiting = walks.stream().filter(walk -> walk.needs).toList();
            if (waiting.isEmpty()) {
                break;
            }
            answer(waiting);
        }
        if (method == Method.ASAP) {
            for (var walk : walks) {
                walk.backUp();
            }
            draws += count;
        }
        var result = walks.stream().map(Walk::result).toList();
        if (bytes > options.maxBytes()) {
            evict();
        }
        return result;
    }

    /** One way from the root to an end. */
    private final class Walk {
        final Method method;
        final SplittableRandom own = random.split();
        final List<Node> path = new ArrayList<>();
        int[] tokens = new int[16];
        int depth;
        double logP;
        double logQ;
        int attempts = 1;
        boolean done;
        /** Waits for the row behind its prefix. */
        boolean needs;

        Walk(Method method) {
            this.method = method;
        }

        Node here() {
            return path.isEmpty() ? null : path.getLast();
        }

        /** Goes on until a row is needed or the text is complete. */
        void go() {
            while (!done && !needs) {
                if (path.size() <= depth) {
                    var next = depth == 0 ? trie : at(path.getLast(), tokens[depth - 1]);
                    if (next == null) {
                        needs = true;
                        return;
                    }
                    path.add(next);
                }
                choose(null, 0);
            }
        }

        private Node at(Node parent, int token) {
            return parent.child(parent.index(token));
        }

        /** Chooses a token at a known node. {@code row} is the node's with its log-sum, null if it isn't at hand. */
        void choose(Row row, double logAll) {
            var node = path.getLast();
            node.visit = rounds;
            boolean learned = method == Method.ASAP;
            if (method == Method.REJECTION && own.nextDouble() >= Math.exp(node.logMass)) {
                again("was rejected");
                return;
            }
            int n = node.ids.length;
            double max = Double.NEGATIVE_INFINITY;
            for (int i = 0; i < n; i++) {
                max = Math.max(max, node.logP[i] + (learned ? node.childEstimate(i) : 0));
            }
            double unseen = node.sparse ? node.unseenMass() : 0;
            max = Math.max(max, Math.log(unseen));
            if (max == Double.NEGATIVE_INFINITY) {
                deadEnds++;
                if (learned) {
                    backUp();
                }
                if (trie.logEstimate == Double.NEGATIVE_INFINITY) {
                    throw new ConstraintException("no string of the grammar is reachable within " + options.maxTokens()
                            + " tokens of this vocabulary");
                }
                again("ended where no token is allowed");
                return;
            }
            double sum = Math.exp(Math.log(unseen) - max);
            for (int i = 0; i < n; i++) {
                sum += Math.exp(node.logP[i] + (learned ? node.childEstimate(i) : 0) - max);
            }
            double rest = own.nextDouble() * sum;
            for (int i = 0; i < n; i++) {
                double weight = node.logP[i] + (learned ? node.childEstimate(i) : 0) - max;
                rest -= Math.exp(weight);
                if (rest < 0 && weight > Double.NEGATIVE_INFINITY) {
                    take(i, weight - Math.log(sum));
                    return;
                }
            }
            if (unseen > 0) {
                if (row == null) {
                    needs = true;
                    pendingUnseen = true;
                    pendingLogQ = Math.log(unseen) - max - Math.log(sum);
                    return;
                }
                takeUnseen(row, logAll, Math.log(unseen) - max - Math.log(sum));
                return;
            }
            for (int i = n - 1; i >= 0; i--) {    // rounding: the last one that has any weight
                double weight = node.logP[i] + (learned ? node.childEstimate(i) : 0) - max;
                if (weight > Double.NEGATIVE_INFINITY) {
                    take(i, weight - Math.log(sum));
                    return;
                }
            }
        }

        boolean pendingUnseen;
        double pendingLogQ;

        /** One of the tokens of a sparse node that were never drawn, by the row behind it. */
        void takeUnseen(Row row, double logAll, double logShare) {
            pendingUnseen = false;
            var node = path.getLast();
            var mask = new TokenMask(row.size());
            mask.copyFrom(allowed(this));
            for (int token : node.ids) {
                mask.clear(token);
            }
            if (mask.isEmpty()) {    // rounding left some mass where there is none
                node.exhausted = true;
                choose(row, logAll);
                return;
            }
            node.exhausted = mask.only() >= 0;
            var candidates = masked.of(row, mask);
            int token = RowMath.sample(candidates, 0, 1, 0, 1, own.nextDouble());
            double logProbability = row.get(token) - logAll;
            double conditional = row.get(token) - RowMath.logSumExp(candidates);
            bytes -= node.bytes();
            int i = node.add(token, (float) logProbability);
            bytes += node.bytes();
            take(i, logShare + conditional);
        }

        private void take(int i, double logShare) {
            var node = path.getLast();
            logP += node.logP[i];
            logQ += logShare;
            if (depth == tokens.length) {
                tokens = Arrays.copyOf(tokens, 2 * depth);
            }
            tokens[depth++] = node.ids[i];
            done = ends.test(node.ids[i]);
        }

        private void again(String why) {
            if (attempts == options.maxAttempts()) {
                throw new ConstraintException("walk " + attempts + " of one draw " + why
                        + ", as all before it; raise maxTokens or maxAttempts, or "
                        + "prompt the model towards the grammar");
            }
            attempts++;
            path.clear();
            depth = 0;
            logP = 0;
            logQ = 0;
        }

        /** Brings what the leaf has learned to the root. */
        void backUp() {
            for (int i = path.size() - 1; i >= 0; i--) {
                var node = path.get(i);
                bytes -= node.bytes();
                node.update();
                bytes += node.bytes();
                if (i > 0) {
                    var parent = path.get(i - 1);
                    bytes -= parent.bytes();
                    parent.childEstimate(parent.index(tokens[i - 1]), node.logEstimate);
                    bytes += parent.bytes();
                }
            }
        }

        int[] prefix() {
            return Arrays.copyOf(tokens, depth);
        }

        Draw result() {
            var drawn = prefix();
            return new Draw(drawn, text.apply(drawn), logP, method == Method.REJECTION ? Double.NaN : logQ, attempts);
        }
    }

    // --- rows -----------------------------------------------------------------------------------------------------------

    /** A sequence behind the prompt, and a constraint, which may differ in how far they are. */
    private final class Branch {
        final Track track;
        int[] tokens = {};    // behind the prompt
        boolean busy;

        Branch(Track track) {
            this.track = track;
        }
    }

    /** Gives the walks that wait the rows behind their prefixes; equal prefixes share one. */
    private void answer(List<Walk> waiting) {
        branches.forEach(branch -> branch.busy = false);
        var prefixes = new HashMap<Ids, Row>();
        var runs = new ArrayList<Track.Run>();
        int used = 0;
        for (var walk : waiting) {
            var prefix = new Ids(walk.prefix());
            if (prefixes.containsKey(prefix) || !walk.pendingUnseen && copyKnown(walk)) {
                continue;
            }
            if (rows.size() == used) {
                rows.add(new Row(root.vocabularySize()));
            }
            var row = rows.get(used++);
            if (walk.depth == 0) {
                row.segment().copyFrom(promptRow().segment());
            } else {
                promptRow();
                runs.add(run(prefix.values, row));
            }
            prefixes.put(prefix, row);
        }
        if (!runs.isEmpty()) {
            root.evaluate(runs);
        }
        // all rows are looked at before anything is learned from one of them
        var logAll = new IdentityHashMap<Row, Double>();
        prefixes.values().forEach(row -> logAll.put(row, scale(row)));
        for (var walk : waiting) {
            walk.needs = false;
            var row = prefixes.get(new Ids(walk.prefix()));
            if (walk.pendingUnseen) {
                walk.takeUnseen(row, logAll.get(row), walk.pendingLogQ);
            } else if (row != null && find(walk) == null) {
                insert(walk, node(row, logAll.get(row), allowed(walk)));
            }
        }
    }

    private Row promptRow() {
        if (promptRow == null) {
            var row = new Row(root.vocabularySize());
            root.append(prompt, row);
            promptRow = row;
        }
        return promptRow;
    }

    /** What to evaluate for the row behind a prefix: the branch with the longest common start goes on. */
    private Track.Run run(int[] prefix, Row row) {
        Branch best = null;
        int shared = -1;
        for (var branch : branches) {
            int common = branch.busy ? -1 : Math.min(Track.commonPrefix(branch.tokens, prefix), branch.track.length() - base);
            if (common > shared) {
                best = branch;
                shared = common;
            }
        }
        int most = Math.min(root.maxBranches() - 1, Math.max(options.parallel(), PARKED_TRACKS));
        // a branch with nothing in common is worth no more than a new one; a full house gives its least useful
        if (best == null || shared == 0 && branches.size() < most) {
            best = new Branch(root.fork());
            branches.add(best);
            shared = 0;
        } else if (shared < best.tokens.length && branches.size() < most) {
            best = new Branch(best.track.fork());
            branches.add(best);
        }
        branches.remove(best);
        branches.add(best);    // the first in the list was used longest ago
        int keep = Math.min(shared, prefix.length - 1);
        best.track.truncate(base + keep);
        best.tokens = prefix;
        best.busy = true;
        return Track.Run.last(best.track, Arrays.copyOfRange(prefix, keep, prefix.length), row);
    }

    private Node find(Walk walk) {
        if (walk.depth == 0) {
            return trie;
        }
        var parent = walk.path.getLast();
        return parent.child(parent.index(walk.tokens[walk.depth - 1]));
    }

    /** Applies bias and temperature; gives the log of the sum over the whole vocabulary. */
    private double scale(Row row) {
        options.logitBias().forEach((token, bias) -> row.set(token, row.get(token) + bias));
        if (options.temperature() != 1) {
            for (int i = 0; i < row.size(); i++) {
                row.set(i, (float) (row.get(i) / options.temperature()));
            }
        }
        return RowMath.logSumExp(row);
    }

    private int[] constrained = {};

    /** The tokens allowed behind a walk's prefix. */
    private TokenMask allowed(Walk walk) {
        int shared = Track.commonPrefix(constrained, walk.prefix());
        constraint.rollback(constrained.length - shared);
        constrained = Arrays.copyOf(constrained, shared);
        for (int i = shared; i < walk.depth; i++) {
            constraint.accept(walk.tokens[i]);
            constrained = Arrays.copyOf(constrained, i + 1);
            constrained[i] = walk.tokens[i];
        }
        var mask = constraint.mask();
        if (walk.depth < options.maxTokens()) {
            return mask;
        }
        var ending = new TokenMask(mask.size());
        for (int token = mask.next(0); token >= 0; token = mask.next(token + 1)) {
            if (ends.test(token)) {
                ending.set(token);
            }
        }
        return ending;
    }

    private Node node(Row row, double logAll, TokenMask mask) {
        int n = mask.cardinality();
        if (n > options.denseLimit()) {
            return Node.sparse(Math.min(0, RowMath.logSumExp(masked.of(row, mask)) - logAll));
        }
        return dense(row, logAll, mask, n);
    }

    private Node dense(Row row, double logAll, TokenMask mask, int n) {
        var ids = new int[n];
        var logP = new float[n];
        for (int i = 0, token = mask.next(0); i < n; i++, token = mask.next(token + 1)) {
            ids[i] = token;
            logP[i] = Math.min(0, (float) (row.get(token) - logAll));
        }
        var key = new Ids(ids);
        var shared = interned.putIfAbsent(key, key);
        if (shared == null) {
            bytes += 64 + 4L * n;
        }
        return Node.dense(shared == null ? ids : shared.values, logP);
    }

    private void insert(Walk walk, Node node) {
        node.visit = rounds;
        bytes += node.bytes();
        nodes++;
        if (walk.depth == 0) {
            trie = node;
        } else {
            var parent = walk.path.getLast();
            int i = parent.index(walk.tokens[walk.depth - 1]);
            bytes -= parent.bytes();
            parent.child(i, node);
            bytes += parent.bytes();
            node.logEstimate = Math.min(node.logEstimate, parent.childEstimate(i));    // learned before it was forgotten
        }
    }

    /** Takes a node's probabilities from the enumeration instead of evaluating them again. */
    private boolean copyKnown(Walk walk) {
        var node = known;
        for (int i = 0; node != null && i < walk.depth; i++) {
            int at = node.index(walk.tokens[i]);
            node = at < 0 ? null : node.child(at);
        }
        if (node == null || find(walk) != null) {
            return node != null;
        }
        insert(walk, node.ids.length > options.denseLimit() ? Node.sparse(node.logMass) : Node.dense(node.ids, node.logP));
        return true;
    }

    // --- memory ---------------------------------------------------------------------------------------------------------

    private record Place(Node parent, int index, Node node, int depth) {
    }

    /** Forgets the nodes visited longest ago. A node is never visited later than its parent, so what goes first has no children left. */
    private void evict() {
        var all = new ArrayList<Place>();
        collect(all);
        all.sort(Comparator.comparingLong((Place place) -> place.node.visit).thenComparing(place -> -place.depth));
        long target = options.maxBytes() / 4 * 3;
        for (var place : all) {
            if (bytes <= target) {
                break;
            }
            place.parent.children[place.index] = null;
            bytes -= place.node.bytes();
            nodes--;
            evictions++;
        }
        // lists of ids that nobody shares any more
        var alive = new IdentityHashMap<int[], Boolean>();
        alive.put(trie.ids, true);
        all.clear();
        collect(all);
        all.forEach(place -> alive.put(place.node.ids, true));
        interned.keySet().removeIf(ids -> {
            boolean dead = !alive.containsKey(ids.values);
            if (dead) {
                bytes -= 64 + 4L * ids.values.length;
            }
            return dead;
        });
    }

    private void collect(List<Place> into) {
        record At(Node node, int depth) {
        }
        var stack = new ArrayDeque<At>();
        stack.push(new At(trie, 0));
        while (!stack.isEmpty()) {
            var at = stack.pop();
            if (at.node.children != null) {
                for (int i = 0; i < at.node.children.length; i++) {
                    var child = at.node.children[i];
                    if (child != null) {
                        into.add(new Place(at.node, i, child, at.depth + 1));
                        stack.push(new At(child, at.depth + 1));
                    }
                }
            }
        }
    }

    // --- what it knows --------------------------------------------------------------------------------------------------

    /**
     * Logarithm of the estimate at the root: an upper bound of the probability that the model's text satisfies the constraint. 0 at first.
     */
    public double logMassBound() {
        return trie == null ? 0 : trie.logEstimate;
    }

    /** What it has cost and learned. */
    public AsapStats stats() {
        return new AsapStats(draws, root.tally().rows(), root.tally().batches(), nodes, bytes, evictions, deadEnds);
    }

    /**
     * Evaluates every position of a small language that the model can reach, apart from the trie: the truth that the sampler comes near
     * to. A text has many tokenisations; a bias of -infinity on byte tokens makes them fewer. Draws afterwards take their probabilities
     * from here instead of evaluating them again, so that both speak of the same rows.
     *
     * @param limit most positions
     * @throws LlamaException if there are more
     */
    public Target enumerate(int limit) {
        var walk = new Walk(Method.CONSTRAINED);
        if (known == null) {
            known = enumerateAll(walk, limit);
        }
        return new Target(this, known);
    }

    private record Frame(Node node, int next) {
    }

    private Node enumerateAll(Walk walk, int limit) {
        Node top = null;
        var stack = new ArrayDeque<Frame>();
        int count = 0;
        var row = new Row(root.vocabularySize());
        while (true) {
            // the position behind the walk's prefix
            if (++count > limit) {
                throw new LlamaException("the language has more than " + limit + " positions within " + options.maxTokens()
                        + " tokens; enumerate a smaller one");
            }
            var node = rowOf(walk, row);
            if (stack.isEmpty()) {
                top = node;
            } else {
                var above = stack.peek();
                above.node.child(above.next - 1, node);
            }
            stack.push(new Frame(node, 0));
            // on to the next child that goes on
            while (true) {
                if (stack.isEmpty()) {
                    return top;
                }
                var frame = stack.pop();
                if (frame.next == frame.node.ids.length) {
                    frame.node.update();
                    if (!stack.isEmpty()) {
                        var above = stack.peek();
                        above.node.childEstimate(above.next - 1, frame.node.logEstimate);
                        walk.depth--;
                    }
                    continue;
                }
                stack.push(new Frame(frame.node, frame.next + 1));
                int token = frame.node.ids[frame.next];
                if (!ends.test(token) && frame.node.logP[frame.next] > Float.NEGATIVE_INFINITY) {
                    if (walk.depth == walk.tokens.length) {
                        walk.tokens = Arrays.copyOf(walk.tokens, 2 * walk.depth);
                    }
                    walk.tokens[walk.depth++] = token;
                    break;
                }
            }
        }
    }

    /** The position's probabilities: those in the trie, or of a row evaluated now. */
    private Node rowOf(Walk walk, Row row) {
        var node = trie;
        for (int i = 0; node != null && i < walk.depth; i++) {
            int at = node.index(walk.tokens[i]);
            node = at < 0 ? null : node.child(at);
        }
        if (node != null && !node.sparse) {
            return Node.dense(node.ids, node.logP);
        }
        if (walk.depth == 0) {
            row.segment().copyFrom(promptRow().segment());
        } else {
            promptRow();
            branches.forEach(branch -> branch.busy = false);
            root.evaluate(List.of(run(walk.prefix(), row)));
        }
        double logAll = scale(row);
        var mask = allowed(walk);
        return dense(row, logAll, mask, mask.cardinality());
    }

    /**
     * The sampler's log-probability of these tokens, as it stands; NaN if it depends on a position that neither trie nor enumeration knows.
     */
    double logProposal(int[] tokens) {
        var node = trie;
        var truth = known;
        double sum = 0;
        for (int token : tokens) {
            var from = node != null && !node.sparse ? node : truth;
            if (from == null) {
                return Double.NaN;
            }
            double max = Double.NEGATIVE_INFINITY;
            double[] weights = new double[from.ids.length];
            for (int i = 0; i < weights.length; i++) {
                int at = node == null ? -1 : node.index(from.ids[i]);
                weights[i] = from.logP[i] + (at < 0 ? 0 : node.childEstimate(at));
                max = Math.max(max, weights[i]);
            }
            double total = 0;
            for (double weight : weights) {
                total += Math.exp(weight - max);
            }
            int chosen = from.index(token);
            if (chosen < 0) {
                return Double.NEGATIVE_INFINITY;
            }
            sum += weights[chosen] - max - Math.log(total);
            int at = node == null ? -1 : node.index(token);
            node = at < 0 ? null : node.child(at);
            truth = truth == null ? null : truth.child(chosen == truth.index(token) ? chosen : truth.index(token));
        }
        return sum;
    }

    /** Whether a token ends a text. */
    boolean ends(int token) {
        return ends.test(token);
    }

    String text(int[] tokens) {
        return text.apply(tokens);
    }

    /** For tests: the trie as it is. */
    Node trie() {
        return trie;
    }

    // --- keeping it -----------------------------------------------------------------------------------------------------

    /**
     * Writes the trie. It fits only a sampler of the same model, adapters, prompt, grammar, temperature, bias, limit of tokens.
     *
     * @throws LlamaException if it can't be written; what was there before is there still
     */
    public void save(Path file) {
        TrieFile.write(file, key, draws, trie);
    }

    /**
     * Takes over a saved trie in place of the present one.
     *
     * @throws LlamaException if it belongs to another model, adapter set, prompt, grammar or setting, or is damaged; the present one stays
     *                        then
     */
    public void load(Path file) {
        var loaded = TrieFile.read(file, key, root.vocabularySize(), options.maxTokens());
        trie = loaded.trie();
        draws = loaded.draws();
        rounds = Math.max(rounds, trie == null ? 0 : trie.visit);    // every round visits the root, so that no node is younger
        interned.clear();
        bytes = 0;
        nodes = 0;
        if (trie != null) {
            var all = new ArrayList<Place>();
            collect(all);
            all.add(new Place(null, 0, trie, 0));
            for (var place : all) {
                var node = place.node;
                if (!node.sparse) {
                    var ids = new Ids(node.ids);
                    var shared = interned.putIfAbsent(ids, ids);
                    if (shared == null) {
                        bytes += 64 + 4L * node.ids.length;
                    } else {
                        node.ids = shared.values;
                    }
                }
                bytes += node.bytes();
                nodes++;
            }
        }
    }

    /** Gives the cells of the engine back. What was learned is lost unless it was saved. */
    @Override
    public void close() {
        closed = true;
        branches.forEach(branch -> branch.track.close());
        branches.clear();
        root.close();
    }

    /** Tokens as a key. */
    private static final class Ids {
        final int[] values;
        private final int hash;

        Ids(int[] values) {
            this.values = values;
            hash = Arrays.hashCode(values);
        }

        @Override
        public boolean equals(Object o) {
            return o instanceof Ids other && Arrays.equals(values, other.values);
        }

        @Override
        public int hashCode() {
            return hash;
        }
    }
}
