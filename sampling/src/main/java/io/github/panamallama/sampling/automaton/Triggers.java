package io.github.panamallama.sampling.automaton;

import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Looks for the first of several texts in a stream of bytes (Aho and Corasick 1975): a state is the longest beginning of one of them
 * that the stream ends with. Immutable but for the masks it keeps; not safe for several threads at once.
 */
public final class Triggers {
    /** The state before any byte. */
    public static final int START = 0;
    /** All texts together, in bytes. */
    public static final int MAX_BYTES = 1 << 12;

    private final int[][] next;
    private final int[] fired;
    private final Map<Integer, long[]> masks = new HashMap<>();

    /** @param texts none of them empty */
    public Triggers(List<byte[]> texts) {
        int total = texts.stream().mapToInt(t -> t.length).sum();
        if (total > MAX_BYTES) {
            throw new LimitException("triggers of " + total + " bytes; at most " + MAX_BYTES);
        }
        next = new int[total + 1][];
        fired = new int[total + 1];
        Arrays.fill(fired, -1);
        next[START] = new int[256];
        int size = 1;
        for (int i = 0; i < texts.size(); i++) {
            int state = START;
            for (byte b : texts.get(i)) {
                int to = next[state][b & 0xff];
                if (to == 0) {
                    to = next[state][b & 0xff] = size;
                    next[size++] = new int[256];
                }
                state = to;
            }
            if (fired[state] < 0) {
                fired[state] = i;
            }
        }
        // breadth first: where no text goes on, go on as the longest shorter suffix does
        var fallback = new int[size];
        var queue = new ArrayDeque<Integer>(List.of(START));
        while (!queue.isEmpty()) {
            int state = queue.remove();
            for (int b = 0; b < 256; b++) {
                int to = next[state][b];
                int otherwise = state == START ? START : next[fallback[state]][b];
                if (to == 0 || to == otherwise && state != START) {
                    next[state][b] = otherwise;
                } else {
                    fallback[to] = state == START ? START : otherwise;
                    if (fired[to] < 0) {
                        fired[to] = fired[fallback[to]];
                    }
                    queue.add(to);
                }
            }
        }
    }

    public int next(int state, int b) {
        return next[state][b & 0xff];
    }

    /** The text that ends with this state, the longest if there are several; -1 for none. */
    public int fired(int state) {
        return fired[state];
    }

    /**
     * The tokens allowed while the grammar sleeps: all but those that wake it and go on as it does not allow. Shared, not to be changed.
     *
     * @param awake the grammar's state after each text
     */
    public long[] mask(int state, TokenTable table, Recogniser recogniser, int[] awake) {
        return masks.computeIfAbsent(state, s -> {
            var refused = new long[table.size() + 63 >> 6];
            var trie = table.all();
            var path = new int[trie.maxDepth + 1]; // a trigger state, or -1 - a grammar state
            path[0] = s;
            for (int i = 0; i < trie.size(); ) {
                int before = path[trie.depths[i] - 1];
                int after;
                if (before >= 0) {
                    after = next(before, trie.bytes[i]);
                    after = fired(after) >= 0 ? -1 - awake[fired(after)] : after;
                } else {
                    after = -1 - recogniser.push(-1 - before, trie.bytes[i]);
                }
                if (after == -1 - Recogniser.DEAD) {
                    for (int end = trie.ends[i]; i < end; i++) {
                        trie.mark(i, refused);
                    }
                } else {
                    path[trie.depths[i++]] = after;
                }
            }
            var bits = new long[refused.length];
            for (int t = 0; t < table.size(); t++) {
                bits[t >> 6] |= ~refused[t >> 6] & 1L << t;
            }
            return bits;
        });
    }
}
