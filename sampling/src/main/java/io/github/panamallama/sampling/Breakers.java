package io.github.panamallama.sampling;

import io.github.panamallama.runtime.Vocabulary;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.WeakHashMap;

/**
 * Texts that no repetition goes across, as tokens: each token that holds one or ends with the beginning of one, with what must follow it,
 * as llama.cpp splits them.
 */
final class Breakers {
    static final Breakers NONE = new Breakers(new TreeMap<>());
    /** Of what must follow; the rest of a long breaker is not looked for. */
    private static final int MOST_TOKENS = 20;

    /** Looking at every token of a vocabulary takes tens of milliseconds. */
    private static final Map<Vocabulary, Map<List<String>, Breakers>> KNOWN = new WeakHashMap<>();

    private final int[] heads;      // ascending
    private final int[][][] tails;  // of each head

    private Breakers(TreeMap<Integer, List<int[]>> found) {
        heads = found.keySet().stream().mapToInt(Integer::intValue).toArray();
        tails = found.values().stream().map(all -> all.toArray(int[][]::new)).toArray(int[][][]::new);
    }

    static Breakers of(List<String> texts, Vocabulary vocabulary) {
        synchronized (KNOWN) {
            return KNOWN.computeIfAbsent(vocabulary, v -> new WeakHashMap<>()).computeIfAbsent(texts, all -> find(all, vocabulary));
        }
    }

    private static Breakers find(List<String> texts, Vocabulary vocabulary) {
        var found = new TreeMap<Integer, List<int[]>>();
        for (int token = 0; token < vocabulary.size(); token++) {
            var piece = vocabulary.bytes(token);
            for (var text : texts) {
                var bytes = text.getBytes(StandardCharsets.UTF_8);
                if (indexOf(piece, bytes) >= 0) {
                    found.computeIfAbsent(token, t -> new ArrayList<>()).add(new int[0]);
                    continue;
                }
                for (int from = Math.max(0, piece.length - bytes.length + 1); from < piece.length; from++) {
                    int length = piece.length - from;
                    if (Arrays.equals(piece, from, piece.length, bytes, 0, length)) {
                        var rest = vocabulary.tokenize(Arrays.copyOfRange(bytes, length, bytes.length), false, false);
                        found.computeIfAbsent(token, t -> new ArrayList<>()).add(Arrays.copyOf(rest, Math.min(rest.length, MOST_TOKENS)));
                    }
                }
            }
        }
        return new Breakers(found);
    }

    private static int indexOf(byte[] text, byte[] part) {
        for (int from = 0; from + part.length <= text.length; from++) {
            if (Arrays.equals(text, from, from + part.length, part, 0, part.length)) {
                return from;
            }
        }
        return -1;
    }

    /** Whether the token holds a breaker. */
    boolean breaks(int token) {
        int at = Arrays.binarySearch(heads, token);
        if (at >= 0) {
            for (var tail : tails[at]) {
                if (tail.length == 0) {
                    return true;
                }
            }
        }
        return false;
    }

    /** How many of the last {@code window} of {@code size} tokens stand behind the last breaker; {@code window} without one. */
    int since(int[] history, int size, int window) {
        if (heads.length == 0) {
            return window;
        }
        for (int back = 0; back < window; back++) {
            int head = size - 1 - back;
            int at = Arrays.binarySearch(heads, history[head]);
            if (at < 0) {
                continue;
            }
            int longest = -1;
            for (var tail : tails[at]) {
                if (tail.length > longest && tail.length <= back && Arrays.equals(history, head + 1, head + 1 + tail.length, tail, 0,
                        tail.length)) {
                    longest = tail.length;
                }
            }
            if (longest >= 0) {
                return back - longest;
            }
        }
        return window;
    }
}
