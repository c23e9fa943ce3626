package io.github.panamallama.sampling.automaton;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;

/**
 * Which tokens may follow in a state of a recogniser. What a lexeme allows by itself is found once per lexeme state, whatever follows
 * it: the tokens that stay within it, and the places in the trie where it may end; from these only the walk goes on into what follows.
 * Results are kept by state. Not safe for several threads at once.
 */
public final class Masks {
    /** Kept results may take this many bytes each, by lexeme and by state; then they are all forgotten. */
    private static final long CACHE = 32L << 20;
    /** States looked at to see which slices a lexeme takes as a whole. */
    private static final int MAX_STATES = 100;
    private static final int MAX_ROWS = 1 << 14;
    private static final int[] NONE = {};

    private final Recogniser recogniser;
    private final RegexPool regexes;
    private final TokenTable table;
    private final int[] endOfGeneration;
    private final long maxNanos;
    private final int plain;

    private final Map<Integer, Lexeme> lexemes = new HashMap<>();
    private long lexemeBytes;
    private final Map<Integer, Object> masks = new HashMap<>(); // int[] or long[]
    private long maskBytes;

    private final Map<Integer, Boolean> allPlain = new HashMap<>();
    private final Map<Integer, int[]> plainSteps = new HashMap<>();
    private int[][] rows = new int[1024][];
    private int rowCount;

    private final int[] stack;
    private final int[][] rowStack;
    private int[] found = new int[256];
    private int[] exits = new int[64];
    private long deadline;
    private int sinceClock;

    /** What one lexeme state allows: tokens within it, as bits or as nodes of {@code trie}, and nodes after which it may end. */
    private record Lexeme(TokenTrie trie, long[] bits, int[] nodes, int[] exits) {
        long bytes() {
            return 64 + (bits == null ? 4L * nodes.length : 8L * bits.length) + 4L * exits.length;
        }
    }

    /**
     * @param endOfGeneration tokens that are allowed where the text may end
     * @param maxNanos        longest time for one mask
     */
    public Masks(Recogniser recogniser, RegexPool regexes, TokenTable table, int[] endOfGeneration, long maxNanos) {
        this.recogniser = recogniser;
        this.regexes = regexes;
        this.table = table;
        this.endOfGeneration = endOfGeneration;
        this.maxNanos = maxNanos;
        plain = regexes.chars(TokenTable.PLAIN, Encoding.UTF8);
        stack = new int[table.all().maxDepth + 2];
        rowStack = new int[stack.length][];
    }

    /**
     * Sets the bits of all tokens that may follow.
     *
     * @param into {@code [size / 64]} words; other bits are cleared
     * @throws LimitException if it takes longer than allowed
     */
    public void fill(int state, long[] into) {
        Arrays.fill(into, 0);
        switch (masks.get(state)) {
            case long[] bits -> System.arraycopy(bits, 0, into, 0, bits.length);
            case int[] tokens -> {
                for (int t : tokens) {
                    into[t >> 6] |= 1L << t;
                }
            }
            case null, default -> {
                compute(state, into);
                keep(state, into);
            }
        }
    }

    /** The bits of a state whose mask was computed before and is dense, else null: shared, not to be changed. */
    public long[] shared(int state) {
        return masks.get(state) instanceof long[] bits ? bits : null;
    }

    private void keep(int state, long[] bits) {
        int n = 0;
        for (long word : bits) {
            n += Long.bitCount(word);
        }
        long bytes;
        Object kept;
        if (n < bits.length) {
            var tokens = new int[n];
            n = 0;
            for (int i = 0; i < bits.length; i++) {
                for (long rest = bits[i]; rest != 0; rest &= rest - 1) {
                    tokens[n++] = (i << 6) + Long.numberOfTrailingZeros(rest);
                }
            }
            kept = tokens;
            bytes = 4L * n + 64;
        } else {
            kept = bits.clone();
            bytes = 8L * bits.length + 64;
        }
        if (maskBytes + bytes > CACHE) {
            masks.clear();
            maskBytes = 0;
        }
        masks.put(state, kept);
        maskBytes += bytes;
    }

    private void compute(int state, long[] into) {
        deadline = System.nanoTime() + maxNanos;
        sinceClock = 0;
        for (int item = 0, n = recogniser.items(state); item < n; item++) {
            int terminal = recogniser.terminal(state, item);
            if (terminal < 0) {
                continue;
            }
            if (recogniser.captures(state, item)) {
                addCapture(state, item, into);
                continue;
            }
            var lexeme = lexeme(terminal);
            if (lexeme.bits != null) {
                for (int i = 0; i < into.length; i++) {
                    into[i] |= lexeme.bits[i];
                }
            } else {
                for (int node : lexeme.nodes) {
                    lexeme.trie.mark(node, into);
                }
            }
            if (lexeme.exits.length > 0) {
                int after = recogniser.after(state, item);
                if (recogniser.hasLive(after)) {
                    for (int exit : lexeme.exits) {
                        walk(lexeme.trie, exit + 1, lexeme.trie.ends[exit], after, into);
                    }
                }
            }
        }
        if (recogniser.hasTokens(state)) {
            addTokens(state, into);
        }
        if (recogniser.isComplete(state)) {
            for (int t : endOfGeneration) {
                into[t >> 6] |= 1L << t;
            }
        }
    }

    /** The tokens of a capture: those of its regex but for what only refused words begin with, and what follows each of its words. */
    private void addCapture(int state, int item, long[] into) {
        var lexeme = lexeme(recogniser.capturedAll(state, item));
        var trie = lexeme.trie;
        var noExits = new HashSet<Integer>();
        int regex = recogniser.terminal(state, item);
        int but = recogniser.capturedBut(state, item);
        int[] refused = refused(trie, regex, but, noExits);
        if (lexeme.bits != null) {
            var bits = lexeme.bits;
            // the lexeme's trie has only the tokens that no slice of plain ones marked
            int[] refusedOfAll = trie == table.all() ? refused : refused(table.all(), regex, but, new HashSet<>());
            if (refusedOfAll.length > 0) {
                bits = bits.clone();
                var out = new long[bits.length];
                for (int i = 0; i < refusedOfAll.length; i += 2) {
                    for (int node = refusedOfAll[i]; node < refusedOfAll[i + 1]; node++) {
                        table.all().mark(node, out);
                    }
                }
                for (int i = 0; i < bits.length; i++) {
                    bits[i] &= ~out[i];
                }
            }
            for (int i = 0; i < into.length; i++) {
                into[i] |= bits[i];
            }
        } else {
            for (int node : lexeme.nodes) {
                if (!within(refused, node)) {
                    trie.mark(node, into);
                }
            }
        }
        for (int exit : lexeme.exits) {
            if (!within(refused, exit) && !noExits.contains(exit)) {
                int after = recogniser.after(state, item, table.piece(trie.below(exit)), trie.depths[exit]);
                walk(trie, exit + 1, trie.ends[exit], after, into);
            }
        }
    }

    /**
     * Ranges of nodes that the regex without the refused words cannot reach: first, one past the last...
     *
     * @param noExits receives nodes that it reaches, but where a refused word ends
     */
    private int[] refused(TokenTrie trie, int regex, int but, HashSet<Integer> noExits) {
        if (but == RegexPool.NOTHING) {
            return NONE;
        }
        var ranges = new int[8];
        int n = 0;
        var regexAt = new int[trie.maxDepth + 2];
        var butAt = new int[trie.maxDepth + 2];
        regexAt[0] = regex;
        butAt[0] = but;
        for (int i = 0, size = trie.size(); i < size; ) {
            int depth = trie.depths[i];
            int b = trie.bytes[i] & 0xff;
            butAt[depth] = regexes.next(butAt[depth - 1], b);
            if (butAt[depth] == RegexPool.NOTHING) {
                i = trie.ends[i];
                continue;
            }
            regexAt[depth] = regexes.next(regexAt[depth - 1], b);
            if (regexAt[depth] == RegexPool.NOTHING) {
                if (n == ranges.length) {
                    ranges = Arrays.copyOf(ranges, 2 * n);
                }
                ranges[n++] = i;
                ranges[n++] = trie.ends[i];
                i = trie.ends[i];
                continue;
            }
            if (regexes.nullable(butAt[depth])) {
                noExits.add(i);
            }
            i++;
        }
        return Arrays.copyOf(ranges, n);
    }

    private static boolean within(int[] ranges, int node) {
        for (int i = 0; i < ranges.length; i += 2) {
            if (ranges[i] <= node && node < ranges[i + 1]) {
                return true;
            }
        }
        return false;
    }

    private void addTokens(int state, long[] into) {
        recogniser.tokens(state, t -> into[t >> 6] |= 1L << t, but -> {
            var ends = new HashSet<Integer>();
            for (int t : endOfGeneration) {
                ends.add(t);
            }
            for (int t = 0; t < table.size(); t++) {
                if (t != but && !ends.contains(t)) {
                    into[t >> 6] |= 1L << t;
                }
            }
        });
    }

    /** Tokens below the nodes {@code from} to {@code to}, read on from {@code state}. */
    private void walk(TokenTrie trie, int from, int to, int state, long[] into) {
        if (from >= to) {
            return;
        }
        var stack = this.stack;
        var bytes = trie.bytes;
        var depths = trie.depths;
        int top = depths[from] - 1;
        stack[top] = state;
        for (int i = from; i < to; ) {
            int next = recogniser.push(stack[depths[i] - 1], bytes[i]);
            if (next == Recogniser.DEAD) {
                i = trie.ends[i];
                continue;
            }
            stack[depths[i]] = next;
            trie.mark(i, into);
            i++;
            if (++sinceClock > 1000) {
                clock();
            }
        }
    }

    private void clock() {
        sinceClock = 0;
        if (System.nanoTime() - deadline > 0) {
            throw new LimitException("finding the tokens that may come next took longer than " + maxNanos / 1_000_000
                    + " ms; simplify the grammar or raise the limit");
        }
    }

    private Lexeme lexeme(int regex) {
        var known = lexemes.get(regex);
        if (known != null) {
            return known;
        }
        var lexeme = explore(regex);
        if (lexemeBytes + lexeme.bytes() > CACHE) {
            lexemes.clear();
            lexemeBytes = 0;
        }
        lexemes.put(regex, lexeme);
        lexemeBytes += lexeme.bytes();
        return lexeme;
    }

    private Lexeme explore(int regex) {
        var trie = table.all();
        long[] bits = null;
        int counted = countedPlain(regex);
        if (counted >= 0) {
            trie = table.slices().getFirst().others();
            bits = table.plainUpTo(counted);
        } else if (isWide(regex)) {
            int length = plainLength(regex);
            for (var slice : table.slices()) {
                if (slice.length() <= length) {
                    trie = slice.others();
                    bits = slice.tokens().clone();
                    break;
                }
            }
        }
        // tokens of wide lexemes are marked at once, those of narrow ones gathered: they are few
        if (bits == null && isWide(regex)) {
            bits = new long[table.size() + 63 >> 6];
        }
        int nFound = 0;
        int nExits = 0;
        var stack = this.stack;
        var rowStack = this.rowStack;
        var bytes = trie.bytes;
        var depths = trie.depths;
        var ends = trie.ends;
        stack[0] = regex;
        rowStack[0] = row(regex);
        for (int i = 0, n = trie.size(); i < n; ) {
            int depth = depths[i];
            int b = bytes[i] & 0xff;
            var row = rowStack[depth - 1];
            int next;
            if (row != null) {
                next = row[b];
                if (next < 0) {
                    next = row[b] = regexes.next(stack[depth - 1], b);
                }
            } else {
                int before = stack[depth - 1];
                next = recogniser.isRegexLive(before, b) ? regexes.next(before, b) : RegexPool.NOTHING;
            }
            if (next == RegexPool.NOTHING) {
                i = ends[i];
                continue;
            }
            if (trie.tokens[i] != -1) {
                if (bits != null) {
                    trie.mark(i, bits);
                } else {
                    if (nFound == found.length) {
                        found = Arrays.copyOf(found, 2 * nFound);
                    }
                    found[nFound++] = i;
                }
            }
            if (ends[i] > i + 1) {
                stack[depth] = next;
                rowStack[depth] = row(next);
                if (regexes.nullable(next)) {
                    if (nExits == exits.length) {
                        exits = Arrays.copyOf(exits, 2 * nExits);
                    }
                    exits[nExits++] = i;
                }
            }
            i++;
            if (++sinceClock > 1000) {
                clock();
            }
        }
        return new Lexeme(trie, bits, bits == null ? Arrays.copyOf(found, nFound) : null, Arrays.copyOf(exits, nExits));
    }

    /** States by byte, -1 where not yet known; null for states that few bytes may follow. */
    private int[] row(int regex) {
        if (regex < rows.length && rows[regex] != null) {
            return rows[regex];
        }
        if (!isWide(regex)) {
            return null;
        }
        if (++rowCount > MAX_ROWS) {
            Arrays.fill(rows, null);
            rowCount = 1;
        }
        if (regex >= rows.length) {
            rows = Arrays.copyOf(rows, Math.max(2 * rows.length, regex + 1));
        }
        var row = new int[256];
        Arrays.fill(row, -1);
        rows[regex] = row;
        return row;
    }

    /** Whether so many bytes may follow that whole slices might. */
    private boolean isWide(int regex) {
        int at = recogniser.regexLive(regex);
        return recogniser.liveBytes(at) > 24;
    }

    /**
     * If the regex is up to n characters, among them all plain ones, before something that no plain character begins: n, at most as long as
     * tokens get. Else -1.
     */
    private int countedPlain(int regex) {
        int body = regexes.leadingRepeat(regex);
        if (body < 0 || !allPlain.computeIfAbsent(body, b -> isWide(b) && regexes.contains(b, plain))) {
            return -1;
        }
        int rest = regexes.afterLeadingRepeat(regex);
        if (recogniser.shares(recogniser.regexLive(rest), recogniser.regexLive(plain))) {
            return -1;
        }
        return Math.min(regexes.leadingRepeatMax(regex), table.longestPlain());
    }

    /** How many plain characters the regex takes whatever they are, at least; more than any token has if there is no end to it. */
    private int plainLength(int regex) {
        var seen = new HashSet<Integer>();
        var level = new int[] {regex};
        seen.add(regex);
        for (int length = 0; ; length++) {
            var after = new ArrayList<Integer>();
            for (int state : level) {
                var next = afterPlain(state);
                if (next == null) {
                    return length;
                }
                for (int n : next) {
                    if (seen.add(n)) {
                        after.add(n);
                    }
                }
            }
            if (after.isEmpty()) {
                return Integer.MAX_VALUE;
            }
            if (seen.size() > MAX_STATES || length >= TokenTable.LONGEST_COUNTED) {
                return length;
            }
            level = after.stream().mapToInt(Integer::intValue).toArray();
        }
    }

    /** The states after one plain character, whichever; null if there is one that may not follow. */
    private int[] afterPlain(int regex) {
        return plainSteps.computeIfAbsent(regex, r -> {
            int at = recogniser.regexLive(r);
            int needed = recogniser.regexLive(plain);
            for (int w = 0; w < 4; w++) {
                if (!recogniser.covers(at + w, needed + w)) {
                    return NONE;
                }
            }
            var found = new HashSet<Integer>();
            var pairs = new ArrayList<int[]>();
            pairs.add(new int[] {r, plain});
            var seen = new HashSet<Long>();
            while (!pairs.isEmpty()) {
                var pair = pairs.removeLast();
                for (byte b : regexes.meet(pair[0], pair[1]).some) {
                    int within = regexes.next(pair[1], b);
                    if (within == RegexPool.NOTHING) {
                        continue;
                    }
                    int next = regexes.next(pair[0], b);
                    if (next == RegexPool.NOTHING) {
                        return NONE;
                    }
                    if (within == RegexPool.EMPTY) {
                        found.add(next);
                    } else if (seen.add((long) next << 32 | within)) {
                        pairs.add(new int[] {next, within});
                    }
                }
            }
            return found.stream().mapToInt(Integer::intValue).toArray();
        }) instanceof int[] steps && steps != NONE ? steps : null;
    }
}
