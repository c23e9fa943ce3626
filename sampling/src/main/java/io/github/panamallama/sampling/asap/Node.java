package io.github.panamallama.sampling.asap;

import java.util.Arrays;

/**
 * What is known about the position behind one prefix. Dense: every allowed token with its probability. Sparse: the tokens that were
 * drawn, and the mass of all allowed ones together. The estimate C of a child stands here, in its parent, so that it outlives the child.
 */
final class Node {
    private static final int HEADER = 16;
    private static final int OBJECT = 64;

    final boolean sparse;
    /** Ascending; shared between nodes where dense. */
    int[] ids;
    float[] logP;
    /** Log of the children's estimates; null means 0 for all. */
    double[] logC;
    Node[] children;
    /** Log of the probability of all allowed tokens together; -infinity at a dead end. */
    final double logMass;
    /** Log of this node's own estimate; never rises. */
    double logEstimate;
    /** Number of the last round that came by. */
    long visit;
    /** Of a sparse node: every allowed token was drawn, so that what rounding leaves of the mass belongs to none. */
    boolean exhausted;

    Node(boolean sparse, int[] ids, float[] logP, double logMass) {
        this.sparse = sparse;
        this.ids = ids;
        this.logP = logP;
        this.logMass = Math.min(0, logMass);    // rounding
        this.logEstimate = this.logMass;
    }

    static Node dense(int[] ids, float[] logP) {
        double mass = 0;
        for (float p : logP) {
            mass += Math.exp(p);
        }
        return new Node(false, ids, logP, logSum(logP, mass));
    }

    static Node sparse(double logMass) {
        return new Node(true, new int[0], new float[0], logMass);
    }

    private static double logSum(float[] logP, double mass) {
        if (mass > 1e-200) {
            return Math.log(mass);
        }
        double max = Double.NEGATIVE_INFINITY;
        for (float p : logP) {
            max = Math.max(max, p);
        }
        if (max == Double.NEGATIVE_INFINITY) {
            return max;
        }
        double sum = 0;
        for (float p : logP) {
            sum += Math.exp(p - max);
        }
        return max + Math.log(sum);
    }

    int index(int token) {
        return Arrays.binarySearch(ids, token);
    }

    double childEstimate(int i) {
        return logC == null ? 0 : logC[i];
    }

    void childEstimate(int i, double estimate) {
        if (logC == null) {
            logC = new double[ids.length];
        }
        logC[i] = Math.min(logC[i], estimate);
    }

    Node child(int i) {
        return children == null ? null : children[i];
    }

    void child(int i, Node child) {
        if (children == null) {
            children = new Node[ids.length];
        }
        children[i] = child;
    }

    /** The index of a token of a sparse node, which is added if it is new. */
    int add(int token, float logProbability) {
        int i = index(token);
        if (i >= 0) {
            return i;
        }
        i = -i - 1;
        ids = insert(ids, i);
        ids[i] = token;
        var p = Arrays.copyOf(logP, logP.length + 1);
        System.arraycopy(logP, i, p, i + 1, logP.length - i);
        p[i] = logProbability;
        logP = p;
        if (logC != null) {
            var c = Arrays.copyOf(logC, logC.length + 1);
            System.arraycopy(logC, i, c, i + 1, logC.length - i);
            c[i] = 0;
            logC = c;
        }
        if (children != null) {
            var n = Arrays.copyOf(children, children.length + 1);
            System.arraycopy(children, i, n, i + 1, children.length - i);
            n[i] = null;
            children = n;
        }
        return i;
    }

    private static int[] insert(int[] a, int i) {
        var b = Arrays.copyOf(a, a.length + 1);
        System.arraycopy(a, i, b, i + 1, a.length - i);
        return b;
    }

    /** Of a sparse node: the mass of the allowed tokens that were never drawn. */
    double unseenMass() {
        if (exhausted) {
            return 0;
        }
        double mass = Math.exp(logMass);
        for (float p : logP) {
            mass -= Math.exp(p);
        }
        return Math.max(0, mass);
    }

    /** What the children say this node's estimate is. */
    double fromChildren() {
        double max = Double.NEGATIVE_INFINITY;
        for (int i = 0; i < ids.length; i++) {
            max = Math.max(max, logP[i] + childEstimate(i));
        }
        double unseen = sparse ? unseenMass() : 0;
        double top = Math.max(max, Math.log(unseen));
        if (top == Double.NEGATIVE_INFINITY) {
            return top;
        }
        double sum = unseen / Math.exp(top);
        if (unseen > 0 && Math.exp(top) == 0) {
            sum = 1;
        }
        for (int i = 0; i < ids.length; i++) {
            sum += Math.exp(logP[i] + childEstimate(i) - top);
        }
        return Math.min(top + Math.log(sum), logMass);
    }

    void update() {
        logEstimate = Math.min(logEstimate, fromChildren());
    }

    /** Bytes of this node alone; its ids are counted elsewhere if they are shared. */
    long bytes() {
        long n = ids.length;
        return OBJECT + HEADER + 4 * n + (sparse ? HEADER + 4 * n : 0) + (logC == null ? 0 : HEADER + 8 * n)
                + (children == null ? 0 : HEADER + 8 * n);
    }
}
