package io.github.panamallama.sampling.automaton;

import java.util.Arrays;

/**
 * Tokens by their bytes, laid out for the walk: nodes in depth-first order, each with its byte, its depth and where its subtree ends,
 * so that going on is the next index and leaving a subtree one look-up.
 */
final class TokenTrie {
    final byte[] bytes;
    /** One past the last node of the subtree. */
    final int[] ends;
    /** From 1 for the first byte of a token. */
    final short[] depths;
    /** The token that ends here, -1 for none, -2 - t if t is the first of several with the same bytes. */
    final int[] tokens;
    /** By token: the next one with the same bytes, -1 for none; shared by all tries of a vocabulary. */
    private final int[] same;
    final int maxDepth;

    /**
     * @param sorted tokens by ascending bytes, unsigned
     * @param pieces bytes by token
     */
    TokenTrie(int[] sorted, byte[][] pieces, int[] same) {
        this.same = same;
        int nodes = 0;
        int longest = 0;
        byte[] last = {};
        for (int token : sorted) {
            nodes += pieces[token].length - common(last, pieces[token]);
            last = pieces[token];
            longest = Math.max(longest, last.length);
        }
        bytes = new byte[nodes];
        ends = new int[nodes];
        depths = new short[nodes];
        tokens = new int[nodes];
        maxDepth = longest;
        Arrays.fill(tokens, -1);
        var path = new int[longest + 1]; // the node at each depth
        int n = 0;
        int depth = 0;
        last = new byte[0];
        for (int token : sorted) {
            var piece = pieces[token];
            int shared = common(last, piece);
            while (depth > shared) {
                ends[path[depth--]] = n;
            }
            while (depth < piece.length) {
                bytes[n] = piece[depth++];
                depths[n] = (short) depth;
                path[depth] = n++;
            }
            int node = path[depth];
            if (tokens[node] != -1) {
                int before = tokens[node] < 0 ? -2 - tokens[node] : tokens[node];
                tokens[node] = -2 - before;
                while (same[before] >= 0 && same[before] != token) {
                    before = same[before];
                }
                same[before] = token;
            } else {
                tokens[node] = token;
            }
            last = piece;
        }
        while (depth > 0) {
            ends[path[depth--]] = n;
        }
    }

    /** Sets the bits of the tokens that end at a node. */
    void mark(int node, long[] bits) {
        int token = tokens[node];
        if (token >= 0) {
            bits[token >> 6] |= 1L << token;
        } else if (token < -1) {
            for (int t = -2 - token; t >= 0; t = same[t]) {
                bits[t >> 6] |= 1L << t;
            }
        }
    }

    /** A token at or below a node. */
    int below(int node) {
        while (tokens[node] == -1) {
            node++;
        }
        return tokens[node] < 0 ? -2 - tokens[node] : tokens[node];
    }

    int size() {
        return bytes.length;
    }

    private static int common(byte[] a, byte[] b) {
        int n = Arrays.mismatch(a, b);
        return n < 0 ? a.length : n;
    }
}
