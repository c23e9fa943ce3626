package io.github.panamallama.sampling;

import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.List;
import java.util.TreeSet;

/**
 * Strings that end a text, compiled for streams (Aho and Corasick, <i>Efficient string matching</i>, CACM 1975). Immutable; each
 * text gets its own {@link Matcher}.
 *
 * <p>The text ends at the first place where any stop string is complete; of several that are complete there the longest counts. The
 * text before it is what the reader sees. How the text is cut into pieces makes no difference.
 */
public final class StopStrings {
    private final String[] stops;
    private final char[] alphabet;    // sorted; a character outside it leads back to the root
    private final int[] next;         // [state][alphabet]
    private final int[] depth;        // [state]: length of the longest suffix of the text that begins a stop string
    private final int[] longest;      // [state]: index of the longest stop string that ends here, -1 if none

    private StopStrings(List<String> strings) {
        for (String stop : strings) {
            if (stop == null || stop.isEmpty()) {
                throw new IllegalArgumentException("a stop string must hold at least one character, got "
                        + (stop == null ? "null" : "\"\""));
            }
        }
        stops = strings.toArray(String[]::new);
        var characters = new TreeSet<Character>();
        int states = 1;
        for (String stop : stops) {
            stop.chars().forEach(c -> characters.add((char) c));
            states += stop.length();
        }
        alphabet = new char[characters.size()];
        int a = 0;
        for (char c : characters) {
            alphabet[a++] = c;
        }
        int width = alphabet.length;
        next = new int[Math.multiplyExact(states, width)];
        depth = new int[states];
        longest = new int[states];
        Arrays.fill(longest, -1);

        int used = 1;
        for (int s = 0; s < stops.length; s++) {
            int state = 0;
            for (int i = 0; i < stops[s].length(); i++) {
                int edge = state * width + Arrays.binarySearch(alphabet, stops[s].charAt(i));
                if (next[edge] == 0) {
                    depth[used] = i + 1;
                    next[edge] = used++;
                }
                state = next[edge];
            }
            longest[state] = s;
        }

        // breadth first: the state of the longest proper suffix is complete before it is needed
        var suffix = new int[used];
        var queue = new ArrayDeque<Integer>();
        queue.add(0);
        while (!queue.isEmpty()) {
            int state = queue.remove();
            if (longest[state] < 0) {
                longest[state] = longest[suffix[state]];
            }
            for (int c = 0; c < width; c++) {
                int child = next[state * width + c];
                int through = state == 0 ? 0 : next[suffix[state] * width + c];
                if (child != 0) {
                    suffix[child] = through;
                    queue.add(child);
                } else {
                    next[state * width + c] = through;
                }
            }
        }
    }

    /**
     * Compiles the strings; an empty list never stops.
     *
     * @throws IllegalArgumentException if one is empty
     */
    public static StopStrings of(List<String> strings) {
        return new StopStrings(strings);
    }

    /** Compiles the strings; none never stop. */
    public static StopStrings of(String... strings) {
        return of(List.of(strings));
    }

    /** Whether there is no stop string. */
    public boolean isEmpty() {
        return stops.length == 0;
    }

    /** A matcher at the start of a text. */
    public Matcher matcher() {
        return new Matcher();
    }

    /** The place in one text. One caller at a time. */
    public final class Matcher {
        private final StringBuilder held = new StringBuilder();
        private int state;
        private String stop;

        private Matcher() {
        }

        /**
         * Takes the next piece of text.
         *
         * @return what can be shown: all text so far that neither belongs to a stop string nor may turn out to begin one. After a
         *         match nothing more comes
         */
        public String push(String piece) {
            if (stop != null) {
                return "";
            }
            if (stops.length == 0) {
                return piece;
            }
            for (int i = 0; i < piece.length(); i++) {
                int c = Arrays.binarySearch(alphabet, piece.charAt(i));
                state = c < 0 ? 0 : next[state * alphabet.length + c];
                if (longest[state] >= 0) {
                    stop = stops[longest[state]];
                    held.append(piece, 0, i + 1);
                    held.setLength(held.length() - stop.length());
                    return take(held.length());
                }
            }
            if (held.isEmpty() && depth[state] == 0) {
                return piece;
            }
            held.append(piece);
            return take(held.length() - depth[state]);
        }

        /** The text ends here: what was held back. Nothing after a match. */
        public String flush() {
            state = 0;
            return take(held.length());
        }

        /** Whether a stop string has been seen. */
        public boolean matched() {
            return stop != null;
        }

        /** The stop string that was seen, null before. */
        public String stop() {
            return stop;
        }

        private String take(int length) {
            var text = held.substring(0, length);
            held.delete(0, length);
            return text;
        }
    }
}
