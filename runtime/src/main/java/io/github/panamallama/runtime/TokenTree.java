package io.github.panamallama.runtime;

import java.util.Arrays;

/**
 * Branches behind one sequence, evaluated in a single decode: drafts to verify, or look-ahead candidates. Every node sees the
 * sequence and its own ancestors, nothing else. Evaluate it with {@link Engine#decode(TokenTree, Row[])}, then {@link #keep} the
 * branch that holds, or close it to drop all of them. Until then the sequence can't be used otherwise.
 *
 * <p>A tree with {@code n} leaves holds {@code n - 1} more sequence ids of the engine while it is open. Models with recurrent
 * state refuse trees. Thread rule: as the sequence, one caller at a time.
 */
public final class TokenTree implements AutoCloseable {
    private enum State {
        NEW, OPEN, DONE
    }

    private final Sequence sequence;
    private final int[] tokens;
    private final int[] parents;
    private final int[] depths;
    /** Leaf under or at each node, the first in order: any of them leads through it. */
    private final int[] anyLeaf;
    /** For each node the leaves below it. */
    private final int[][] leavesBelow;
    private final int leaves;
    private State state = State.NEW;

    // the leader's
    private final int[] leafIds;
    private int idsHeld;
    private final int[][] idsOfNode;
    /** Hidden states of the nodes, for an engine with an MTP head. */
    float[] states;

    /**
     * A tree behind {@code sequence}.
     *
     * @param tokens  the token of each node
     * @param parents the index of each node's parent, which comes before it; -1 for those that follow the sequence itself
     */
    public TokenTree(Sequence sequence, int[] tokens, int[] parents) {
        int n = tokens.length;
        if (n == 0 || parents.length != n) {
            throw new IllegalArgumentException(n + " tokens and " + parents.length + " parents; give one parent per token, at least one");
        }
        this.sequence = sequence;
        this.tokens = tokens.clone();
        this.parents = parents.clone();
        this.depths = new int[n];
        var children = new int[n];
        for (int i = 0; i < n; i++) {
            int parent = parents[i];
            if (parent < -1 || parent >= i) {
                throw new IllegalArgumentException("node " + i + " has parent " + parent + "; it must be -1 or an earlier node");
            }
            depths[i] = parent < 0 ? 0 : depths[parent] + 1;
            if (parent >= 0) {
                children[parent]++;
            }
        }
        var leafOf = new int[n];
        int count = 0;
        for (int i = 0; i < n; i++) {
            leafOf[i] = children[i] == 0 ? count++ : -1;
        }
        this.leaves = count;
        var below = new int[n];
        for (int i = n - 1; i >= 0; i--) {
            below[i] += children[i] == 0 ? 1 : 0;
            if (parents[i] >= 0) {
                below[parents[i]] += below[i];
            }
        }
        this.leavesBelow = new int[n][];
        for (int i = 0; i < n; i++) {
            leavesBelow[i] = new int[below[i]];
        }
        Arrays.fill(below, 0);
        for (int i = 0; i < n; i++) {
            if (leafOf[i] >= 0) {
                for (int node = i; node >= 0; node = parents[node]) {
                    leavesBelow[node][below[node]++] = leafOf[i];
                }
            }
        }
        this.anyLeaf = new int[n];
        for (int i = 0; i < n; i++) {
            anyLeaf[i] = leavesBelow[i][0];
        }
        this.leafIds = new int[leaves];
        this.idsOfNode = new int[n][];
        sequence.engine().checkTree(this);
    }

    /** The sequence that this tree stands behind. */
    public Sequence sequence() {
        return sequence;
    }

    /** Number of nodes. */
    public int size() {
        return tokens.length;
    }

    /** Number of nodes without children. */
    public int leaves() {
        return leaves;
    }

    /** Distance of a node from the first level, 0 for nodes that follow the sequence itself. */
    public int depth(int node) {
        return depths[node];
    }

    /** The token of a node. */
    public int token(int node) {
        return tokens[node];
    }

    /** The parent of a node, -1 on the first level. */
    public int parent(int node) {
        return parents[node];
    }

    /** Appends the branch that ends in {@code node} to the sequence, without evaluating anything again, and drops the others. */
    public void keep(int node) {
        if (node < 0 || node >= tokens.length) {
            throw new IndexOutOfBoundsException("node " + node + " of a tree of " + tokens.length);
        }
        if (state != State.OPEN) {
            throw new IllegalStateException("this tree is " + (state == State.NEW ? "not evaluated yet" : "closed"));
        }
        end(anyLeaf[node], depths[node] + 1, node);
        for (int i = node; i >= 0; i = parents[i]) {
            sequence.tokens[sequence.length + depths[i]] = tokens[i];
        }
        sequence.length += depths[node] + 1;
        sequence.unchanged = sequence.length;
        sequence.activate(sequence.length);
        sequence.leave();
    }

    /** Drops all branches if none was kept. */
    @Override
    public void close() {
        if (state == State.OPEN) {
            try {
                end(0, 0, -1);
                sequence.leave();
            } catch (ClosedException e) {
                // the engine is gone, and the branches with it
            }
        }
        state = State.DONE;
    }

    private void end(int leaf, int depth, int node) {
        state = State.DONE;
        var prune = new Work.Prune(this, leaf, depth, node);
        sequence.engine().loop().call(sequence.ticket(), prune);
        if (prune.failure != null) {
            sequence.unchanged = 0;
            sequence.leave();
            throw prune.failure;
        }
    }

    // --- for the engine -------------------------------------------------------------------------------------------------

    void evaluate(Row[] rows) {
        if (state != State.NEW) {
            throw new IllegalStateException("a tree is evaluated once");
        }
        sequence.enter();
        boolean ok = false;
        try {
            sequence.stage(Append.all(sequence, tokens, rows));
            sequence.request.tree = this;
            sequence.prepare(tokens.length);
            sequence.engine().loop().call(sequence.ticket(), sequence.request);
            var failure = sequence.request.failure;
            sequence.unchanged = sequence.length;
            if (failure != null) {
                throw failure;
            }
            state = State.OPEN;
            ok = true;
        } finally {
            if (!ok) {
                state = State.DONE;
                sequence.leave();
            }
        }
    }

    int idsHeld() {
        return idsHeld;
    }

    int leafId(int leaf) {
        return leafIds[leaf];
    }

    void giveId(int id) {
        leafIds[idsHeld++] = id;
        if (idsHeld == leaves) {
            for (int i = 0; i < tokens.length; i++) {
                var below = leavesBelow[i];
                idsOfNode[i] = new int[below.length];
                for (int j = 0; j < below.length; j++) {
                    idsOfNode[i][j] = leafIds[below[j]];
                }
            }
        }
    }

    void clearIds() {
        idsHeld = 0;
    }

    /** Native ids of all branches that a node belongs to. */
    int[] ids(int node) {
        return idsOfNode[node];
    }
}
