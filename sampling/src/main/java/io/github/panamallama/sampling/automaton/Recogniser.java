package io.github.panamallama.sampling.automaton;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.function.IntConsumer;

/**
 * Runs a grammar over bytes. A state is a set of items, each an automaton state of the lexeme being read and what may follow that
 * lexeme; what may follow is a set of frames (a node, then what follows it), in which equal tails are shared and frames of one node are
 * joined, so that ambiguity multiplies neither items nor memory. States are interned: equal numbers go on equally, and a step taken
 * once is a table look-up. Nothing is guessed: all readings of the text are followed at once.
 *
 * <p>States live as long as the recogniser; there is nothing to pop but to go back to an earlier number. Not safe for several threads
 * at once.
 */
public final class Recogniser {
    /** The state from which nothing is accepted. */
    public static final int DEAD = 0;

    private static final int END = 0;        // the continuation: nothing follows, the text may end
    private static final int END_NODE = -1;  // its only frame
    private static final int TOO_DEEP = -2;
    private static final int CAPTURE = 1 << 29;  // from here on terminals are captures

    private final NodePool nodes;
    private final RegexPool regexes;
    private final Limits limits;

    // captures: node, regex still to be read, text read, and the regex as what it was made of: all words, those that are refused
    private final Interner captures = new Interner();
    // texts read: the text without its last byte, that byte
    private final PairMap longer = new PairMap();
    private int[] shorter = new int[64];
    private byte[] lastBytes = new byte[64];
    private int texts = 1; // 0 is the empty text

    // continuations: node, tail, node, tail... by ascending node
    private final Interner tails = new Interner();
    private int[] depths = new int[64];
    private int[] opened = new int[64];       // the state in which a continuation begins, -1 if not asked for yet
    private final PairMap unions = new PairMap();
    private final PairMap appended = new PairMap();

    // what a node begins with: terminal, relative continuation (END stands for what follows the node)...; null if not known yet
    private int[][] firsts = new int[256][];

    // states: flags, then terminal, continuation... by ascending terminal; a negative terminal is the token node -terminal - 1
    private static final int COMPLETE = 1;
    private static final int CUT = 2;
    private final Interner states = new Interner();
    private long[] live = new long[4 * 64];
    private byte[][] stepBytes = new byte[64][];
    private int[][] stepTargets = new int[64][];
    private byte[] steps = new byte[64];

    // what live bytes a regex has, by term
    private long[] regexLive = new long[4 * 256];
    private boolean[] regexLiveKnown = new boolean[256];

    // items being collected
    private int[] terminals = new int[64];
    private int[] follows = new int[64];
    private int collected;
    private boolean complete;
    private boolean cut;
    private int[] scratch = new int[129];

    private final int start;
    private long room;

    /**
     * What one recogniser may use.
     *
     * @param depth  nodes open inside each other; deeper nesting is not accepted
     * @param items  readings of the text followed at once
     * @param states states of 64 ints, with all that they refer to, before {@link #full}
     */
    public record Limits(int depth, int items, int states) {
        public static final Limits DEFAULT = new Limits(2_000, 20_000, 1 << 17);
    }

    /**
     * @param root the node that texts have to match
     * @throws LeftRecursionException if the root begins with a left-recursive rule
     */
    public Recogniser(NodePool nodes, int root, Limits limits) {
        this.nodes = nodes;
        this.regexes = nodes.regexes();
        this.limits = limits;
        Arrays.fill(opened, -1);
        tails.intern(new int[] {END_NODE, END}, 2);
        depths[END] = 0;
        intern(); // DEAD
        start = nodes.isNothing(root) ? DEAD : open(follow(root, END));
        room = Math.max(64L * limits.states, 2 * weight());
    }

    /** The state before any byte; {@link #DEAD} if the language is empty. */
    public int start() {
        return start;
    }

    /** Whether the text may end here. */
    public boolean isComplete(int state) {
        return (states.get(state)[0] & COMPLETE) != 0;
    }

    /** Whether readings were left out before this state because they nest too deep. */
    public boolean isCut(int state) {
        return (states.get(state)[0] & CUT) != 0;
    }

    /** The limit that {@link #isCut} tells of. */
    public Limits limits() {
        return limits;
    }

    /** States so far. */
    public int size() {
        return states.size();
    }

    /** Whether so much is kept by now that it is time to start afresh. */
    public boolean full() {
        return weight() > room;
    }

    /** Makes room for as much again, where what is needed to go on has filled it already. */
    public void grow() {
        room = Math.max(room, 2 * weight());
    }

    /** Memory, in ints. */
    private long weight() {
        return states.volume() + 30L * states.size() + tails.volume() + captures.volume() + 8L * texts + regexes.volume()
                + 20L * nodes.size();
    }

    // ---- steps

    /** Whether the byte may follow. */
    public boolean isLive(int state, int b) {
        return (live[4 * state + (b >> 6 & 3)] >>> b & 1) != 0;
    }

    /** The only byte that may follow, -1 if there is none, more than one, or the text may end. */
    public int onlyByte(int state) {
        int found = -1;
        for (int i = 0; i < 4; i++) {
            long w = live[4 * state + i];
            if (w != 0) {
                if (found >= 0 || (w & w - 1) != 0) {
                    return -1;
                }
                found = 64 * i + Long.numberOfTrailingZeros(w);
            }
        }
        return isComplete(state) || hasTokens(state) ? -1 : found;
    }

    /** Whether any byte may follow. */
    boolean hasLive(int state) {
        return (live[4 * state] | live[4 * state + 1] | live[4 * state + 2] | live[4 * state + 3]) != 0;
    }

    /**
     * The state after one more byte, {@link #DEAD} if it may not follow.
     *
     * @throws LimitException       if more readings are possible than the limit
     * @throws LeftRecursionException if a left-recursive rule comes next
     */
    public int push(int state, int b) {
        b &= 0xff;
        if (!isLive(state, b)) {
            return DEAD;
        }
        var bytes = stepBytes[state];
        var targets = stepTargets[state];
        if (targets != null) {
            if (bytes == null) {
                int known = targets[b];
                if (known >= 0) {
                    return known;
                }
            } else {
                for (int i = 0, n = steps[state]; i < n; i++) {
                    if (bytes[i] == (byte) b) {
                        return targets[i];
                    }
                }
            }
        }
        int next = step(state, b);
        remember(state, b, next);
        return next;
    }

    private void remember(int state, int b, int next) {
        var targets = stepTargets[state];
        if (targets == null) {
            stepBytes[state] = new byte[4];
            stepTargets[state] = targets = new int[4];
        } else if (stepBytes[state] != null && steps[state] == targets.length) {
            if (targets.length < 16) {
                stepBytes[state] = Arrays.copyOf(stepBytes[state], 2 * targets.length);
                stepTargets[state] = targets = Arrays.copyOf(targets, 2 * targets.length);
            } else {
                var all = new int[256];
                Arrays.fill(all, -1);
                for (int i = 0; i < steps[state]; i++) {
                    all[stepBytes[state][i] & 0xff] = targets[i];
                }
                stepBytes[state] = null;
                stepTargets[state] = targets = all;
            }
        }
        if (stepBytes[state] == null) {
            targets[b] = next;
        } else {
            stepBytes[state][steps[state]] = (byte) b;
            targets[steps[state]++] = next;
        }
    }

    private int step(int state, int b) {
        var items = states.get(state);
        begin((items[0] & CUT) != 0);
        for (int i = 1; i < items.length; i += 2) {
            if (items[i] < 0) {
                continue;
            }
            if (items[i] >= CAPTURE) {
                stepCapture(captures.get(items[i] - CAPTURE), items[i + 1], b);
                continue;
            }
            int regex = regexes.next(items[i], b);
            if (regex == RegexPool.NOTHING) {
                continue;
            }
            int tail = items[i + 1];
            if (regex != RegexPool.EMPTY) {
                collect(regex, tail);
            }
            if (regexes.nullable(regex)) {
                addAll(open(tail));
            }
        }
        return intern();
    }

    /** Whether some token may follow for what it is, not for its text. */
    public boolean hasTokens(int state) {
        var items = states.get(state);
        return items.length > 1 && items[1] < 0;
    }

    /** Whether {@code token} may follow for what it is. */
    public boolean takesToken(int state, int token) {
        var items = states.get(state);
        for (int i = 1; i < items.length && items[i] < 0; i += 2) {
            if (matches(-items[i] - 1, token)) {
                return true;
            }
        }
        return false;
    }

    /** Calls {@code named} for each token that may follow for what it is, {@code allBut} for each that alone may not. */
    void tokens(int state, IntConsumer named, IntConsumer allBut) {
        var items = states.get(state);
        for (int i = 1; i < items.length && items[i] < 0; i += 2) {
            int node = -items[i] - 1;
            (nodes.b(node) == 0 ? named : allBut).accept(nodes.a(node));
        }
    }

    private boolean matches(int tokenNode, int token) {
        return (nodes.a(tokenNode) == token) == (nodes.b(tokenNode) == 0);
    }

    /** The state after a token taken for what it is; {@link #DEAD} if it may not follow so. */
    public int pushToken(int state, int token) {
        var items = states.get(state);
        begin((items[0] & CUT) != 0);
        for (int i = 1; i < items.length && items[i] < 0; i += 2) {
            if (matches(-items[i] - 1, token)) {
                addAll(open(items[i + 1]));
            }
        }
        return intern();
    }

    /** The state that goes on as either would. */
    public int union(int a, int b) {
        if (a == b || b == DEAD) {
            return a;
        }
        if (a == DEAD) {
            return b;
        }
        begin(false);
        addAll(a);
        addAll(b);
        return intern();
    }

    // ---- items, for masks

    /** Items of a state: terminal {@code 0} to {@code n - 1}. */
    int items(int state) {
        return states.get(state).length >> 1;
    }

    /** Whether an item is a token, and takes this one. */
    boolean takes(int state, int item, int token) {
        int terminal = states.get(state)[1 + 2 * item];
        return terminal < 0 && matches(-terminal - 1, token);
    }

    /** The regex of an item, negative for a token. */
    int terminal(int state, int item) {
        return regex(states.get(state)[1 + 2 * item]);
    }

    /** Whether what follows the lexeme of an item depends on its text. */
    boolean captures(int state, int item) {
        return states.get(state)[1 + 2 * item] >= CAPTURE;
    }

    /** The state after the lexeme of an item that {@link #captures}, if the first {@code length} of these bytes end it. */
    int after(int state, int item, byte[] bytes, int length) {
        int whole = follow(then(state, item, bytes, length), states.get(state)[2 + 2 * item]);
        return whole == TOO_DEEP ? DEAD : open(whole);
    }

    /** The node that follows the lexeme of an item that {@link #captures}, if the first {@code length} of these bytes end it. */
    int then(int state, int item, byte[] bytes, int length) {
        var capture = captures.get(states.get(state)[1 + 2 * item] - CAPTURE);
        int text = capture[2];
        for (int i = 0; i < length; i++) {
            text = longer(text, bytes[i]);
        }
        return nodes.then(capture[0], text(text));
    }

    /** For an item that {@link #captures}: its node. */
    int captured(int state, int item) {
        return captures.get(states.get(state)[1 + 2 * item] - CAPTURE)[0];
    }

    /** For an item that {@link #captures}: what the text that it has read leaves of a regex. */
    int left(int state, int item, int regex) {
        for (byte b : text(captures.get(states.get(state)[1 + 2 * item] - CAPTURE)[2])) {
            if (regex == RegexPool.NOTHING) {
                break;
            }
            regex = regexes.next(regex, b);
        }
        return regex;
    }

    /** The regex of a terminal; of a token itself. */
    private int regex(int terminal) {
        return terminal < CAPTURE ? terminal : captures.get(terminal - CAPTURE)[1];
    }

    /** For an item that {@link #captures}: its regex with the words that are refused. */
    int capturedAll(int state, int item) {
        return captures.get(states.get(state)[1 + 2 * item] - CAPTURE)[3];
    }

    /** For an item that {@link #captures}: the words that are refused. */
    int capturedBut(int state, int item) {
        return captures.get(states.get(state)[1 + 2 * item] - CAPTURE)[4];
    }

    private int capture(int node, int regex, int text, int all, int but) {
        return CAPTURE + captures.intern(new int[] {node, regex, text, all, but}, 5);
    }

    private void stepCapture(int[] capture, int tail, int b) {
        int all = regexes.next(capture[3], b);
        int but = regexes.next(capture[4], b);
        int regex = regexes.minus(all, but); // away from what is refused it is the regex that others have there
        if (regexes.isEmpty(regex)) {
            return;
        }
        int text = longer(capture[2], (byte) b);
        if (regex != RegexPool.EMPTY) {
            collect(capture(capture[0], regex, text, all, but), tail);
        }
        if (regexes.nullable(regex)) {
            addAll(then(capture[0], text, tail));
        }
    }

    private int longer(int text, byte b) {
        int known = longer.get(text, b & 0xff);
        if (known < 0) {
            known = texts++;
            if (known == shorter.length) {
                shorter = Arrays.copyOf(shorter, 2 * known);
                lastBytes = Arrays.copyOf(lastBytes, 2 * known);
            }
            shorter[known] = text;
            lastBytes[known] = b;
            longer.put(text, b & 0xff, known);
        }
        return known;
    }

    private byte[] text(int text) {
        int length = 0;
        for (int t = text; t != 0; t = shorter[t]) {
            length++;
        }
        var bytes = new byte[length];
        for (int t = text; t != 0; t = shorter[t]) {
            bytes[--length] = lastBytes[t];
        }
        return bytes;
    }

    /** The state in which what follows a captured text begins. */
    private int then(int node, int text, int tail) {
        int whole = follow(nodes.then(node, text(text)), tail);
        if (whole == TOO_DEEP) {
            cut = true;
            return DEAD;
        }
        return open(whole);
    }

    /** The state after the lexeme of an item. */
    int after(int state, int item) {
        return open(states.get(state)[2 + 2 * item]);
    }

    /** The continuation behind the lexeme of an item. */
    int tail(int state, int item) {
        return states.get(state)[2 + 2 * item];
    }

    /** What a continuation is made of: node, continuation, node, continuation...; not to be changed. */
    int[] frames(int tail) {
        return tails.get(tail);
    }

    /** Whether a frame with this node is the end of the text. */
    static boolean isEnd(int node) {
        return node == END_NODE;
    }

    // ---- collecting items into a state

    private void begin(boolean wasCut) {
        collected = 0;
        complete = false;
        cut = wasCut;
    }

    private void collect(int terminal, int tail) {
        if (collected == terminals.length) {
            if (collected > 4 * limits.items) {
                throw tooAmbiguous();
            }
            terminals = Arrays.copyOf(terminals, 2 * collected);
            follows = Arrays.copyOf(follows, 2 * collected);
        }
        terminals[collected] = terminal;
        follows[collected++] = tail;
    }

    private LimitException tooAmbiguous() {
        return new LimitException("more than " + limits.items
                + " readings of the text at once: the grammar is too ambiguous, or has too many"
                + " alternatives at one place");
    }

    private void addAll(int state) {
        var items = states.get(state);
        complete |= (items[0] & COMPLETE) != 0;
        cut |= (items[0] & CUT) != 0;
        for (int i = 1; i < items.length; i += 2) {
            collect(items[i], items[i + 1]);
        }
    }

    /** The state of the collected items. */
    private int intern() {
        sort();
        int n = 0;
        for (int i = 0; i < collected; ) {
            int terminal = terminals[i];
            int tail = follows[i];
            for (i++; i < collected && terminals[i] == terminal; i++) {
                tail = union2(tail, follows[i]);
            }
            terminals[n] = terminal;
            follows[n++] = tail;
        }
        if (n > limits.items) {
            throw tooAmbiguous();
        }
        if (scratch.length < 1 + 2 * n) {
            scratch = new int[1 + 4 * n];
        }
        scratch[0] = (complete ? COMPLETE : 0) | (cut ? CUT : 0);
        for (int i = 0; i < n; i++) {
            scratch[1 + 2 * i] = terminals[i];
            scratch[2 + 2 * i] = follows[i];
        }
        int before = states.size();
        int id = states.intern(scratch, 1 + 2 * n);
        if (id == before) {
            if (id >= steps.length) {
                int length = 2 * steps.length;
                steps = Arrays.copyOf(steps, length);
                stepBytes = Arrays.copyOf(stepBytes, length);
                stepTargets = Arrays.copyOf(stepTargets, length);
                live = Arrays.copyOf(live, 4 * length);
            }
            for (int i = 0; i < n; i++) {
                if (terminals[i] >= 0) {
                    int regex = regexLive(regex(terminals[i]));
                    for (int w = 0; w < 4; w++) {
                        live[4 * id + w] |= regexLive[regex + w];
                    }
                }
            }
        }
        return id;
    }

    /** Ascending by terminal, then continuation. */
    private void sort() {
        if (collected < 24) {
            for (int i = 1; i < collected; i++) {
                int t = terminals[i];
                int f = follows[i];
                int j = i - 1;
                while (j >= 0 && (terminals[j] > t || terminals[j] == t && follows[j] > f)) {
                    terminals[j + 1] = terminals[j];
                    follows[j + 1] = follows[j];
                    j--;
                }
                terminals[j + 1] = t;
                follows[j + 1] = f;
            }
            return;
        }
        var keys = new long[collected];
        for (int i = 0; i < collected; i++) {
            keys[i] = (long) terminals[i] << 32 | follows[i];
        }
        Arrays.sort(keys);
        for (int i = 0; i < collected; i++) {
            terminals[i] = (int) (keys[i] >> 32);
            follows[i] = (int) keys[i];
        }
    }

    /** The index of the first of four words: the bytes that may follow within a regex. */
    int regexLive(int regex) {
        if (regex >= regexLiveKnown.length) {
            int length = Math.max(2 * regexLiveKnown.length, regex + 1);
            regexLiveKnown = Arrays.copyOf(regexLiveKnown, length);
            regexLive = Arrays.copyOf(regexLive, 4 * length);
        }
        if (!regexLiveKnown[regex]) {
            var classes = regexes.classes(regex);
            var alive = new boolean[classes.size()];
            for (int c = 0; c < alive.length; c++) {
                alive[c] = regexes.next(regex, classes.some[c]) != RegexPool.NOTHING;
            }
            for (int b = 0; b < 256; b++) {
                if (alive[classes.of[b] & 0xff]) {
                    regexLive[4 * regex + (b >> 6)] |= 1L << b;
                }
            }
            regexLiveKnown[regex] = true;
        }
        return 4 * regex;
    }

    /** Whether word {@code a} of the live bytes has all bits of word {@code b}. */
    boolean covers(int a, int b) {
        return (regexLive[b] & ~regexLive[a]) == 0;
    }

    /** Whether any byte is live in both, given by the indices of their first words. */
    boolean shares(int a, int b) {
        return (regexLive[a] & regexLive[b] | regexLive[a + 1] & regexLive[b + 1] | regexLive[a + 2] & regexLive[b + 2]
                | regexLive[a + 3] & regexLive[b + 3]) != 0;
    }

    /** How many bytes are live, given the index of the first word. */
    int liveBytes(int at) {
        return Long.bitCount(regexLive[at]) + Long.bitCount(regexLive[at + 1]) + Long.bitCount(regexLive[at + 2])
                + Long.bitCount(regexLive[at + 3]);
    }

    boolean isRegexLive(int regex, int b) {
        int at = regexLive(regex); // may replace the array
        return (regexLive[at + (b >> 6)] >>> b & 1) != 0;
    }

    // ---- continuations

    /** {@code node}, then {@code tail}. */
    private int follow(int node, int tail) {
        if (node == NodePool.EMPTY) {
            return tail;
        }
        return internTail(new int[] {node, tail}, 2);
    }

    private int internTail(int[] frames, int length) {
        int depth = 0;
        for (int i = 1; i < length; i += 2) {
            depth = Math.max(depth, frames[i - 1] == END_NODE ? 0 : depths[frames[i]] + 1);
        }
        if (depth > limits.depth) {
            return TOO_DEEP;
        }
        int before = tails.size();
        int id = tails.intern(frames, length);
        if (id == before) {
            if (id >= depths.length) {
                int length2 = 2 * depths.length;
                depths = Arrays.copyOf(depths, length2);
                opened = Arrays.copyOf(opened, length2);
                Arrays.fill(opened, id, length2, -1);
            }
            depths[id] = depth;
        }
        return id;
    }

    /** What either may be followed by; recursion is as deep as the tails differ. */
    private int union2(int a, int b) {
        if (a == b) {
            return a;
        }
        int low = Math.min(a, b);
        int high = Math.max(a, b);
        int known = unions.get(low, high);
        if (known >= 0) {
            return known;
        }
        var x = tails.get(low);
        var y = tails.get(high);
        var frames = new int[x.length + y.length];
        int n = 0;
        int i = 0;
        int j = 0;
        while (i < x.length || j < y.length) {
            if (j >= y.length || i < x.length && x[i] < y[j]) {
                frames[n++] = x[i];
                frames[n++] = x[i + 1];
                i += 2;
            } else if (i >= x.length || y[j] < x[i]) {
                frames[n++] = y[j];
                frames[n++] = y[j + 1];
                j += 2;
            } else {
                frames[n++] = x[i];
                frames[n++] = x[i] == END_NODE ? END : union2(x[i + 1], y[j + 1]);
                i += 2;
                j += 2;
            }
        }
        int id = internTail(frames, n);
        unions.put(low, high, id);
        return id;
    }

    /** {@code relative} with {@code tail} where it ends; {@link #TOO_DEEP} if that nests too deep. */
    private int append(int relative, int tail) {
        if (relative == END) {
            return tail;
        }
        if (tail == END) {
            return relative;
        }
        int known = appended.get(relative, tail);
        if (known != -1) {
            return known;
        }
        var frames = tails.get(relative);
        int result = -1;
        if (frames.length == 2) {
            int rest = append(frames[1], tail);
            result = rest == TOO_DEEP ? TOO_DEEP : internTail(new int[] {frames[0], rest}, 2);
        } else {
            // the end itself joins the frames of the tail
            var own = new int[frames.length];
            int n = 0;
            boolean ends = false;
            for (int i = 0; i < frames.length; i += 2) {
                if (frames[i] == END_NODE) {
                    ends = true;
                    continue;
                }
                int rest = append(frames[i + 1], tail);
                if (rest == TOO_DEEP) {
                    cut = true;
                    continue;
                }
                own[n++] = frames[i];
                own[n++] = rest;
            }
            int joined = n == 0 ? TOO_DEEP : internTail(own, n);
            result = !ends ? joined : joined == TOO_DEEP ? tail : union2(joined, tail);
        }
        appended.put(relative, tail, result);
        return result;
    }

    /** The state in which {@code tail} begins. */
    private int open(int tail) {
        if (opened[tail] >= 0) {
            return opened[tail];
        }
        // the items that are being collected step aside
        var outerTerminals = Arrays.copyOf(terminals, collected);
        var outerFollows = Arrays.copyOf(follows, collected);
        boolean outerComplete = complete;
        boolean outerCut = cut;
        begin(false);
        var seen = new ArrayList<Integer>(List.of(tail));
        for (int i = 0; i < seen.size(); i++) {
            var frames = tails.get(seen.get(i));
            for (int f = 0; f < frames.length; f += 2) {
                if (frames[f] == END_NODE) {
                    complete = true;
                    continue;
                }
                int rest = frames[f + 1];
                var first = firsts(frames[f]);
                for (int k = 0; k < first.length; k += 2) {
                    int whole = append(first[k + 1], rest);
                    if (whole == TOO_DEEP) {
                        cut = true;
                    } else {
                        collect(first[k], whole);
                    }
                }
                if (nodes.nullable(frames[f]) && !seen.contains(rest)) {
                    seen.add(rest);
                }
            }
        }
        int state = intern();
        opened[tail] = state;
        System.arraycopy(outerTerminals, 0, terminals, 0, outerTerminals.length);
        System.arraycopy(outerFollows, 0, follows, 0, outerFollows.length);
        collected = outerTerminals.length;
        complete = outerComplete;
        cut = outerCut;
        return state;
    }

    // ---- what nodes begin with

    private int[] known(int node) {
        return node < firsts.length ? firsts[node] : null;
    }

    /** Terminals that the node may begin with, each with what follows it up to the node's end. */
    private int[] firsts(int wanted) {
        var ready = known(wanted);
        if (ready != null) {
            return ready;
        }
        // depth first without recursion: a node is finished once everything at its left edge is
        var path = new ArrayList<Integer>(List.of(wanted));
        var cursors = new ArrayList<Integer>(List.of(0)); // options of a choice that are known
        var onPath = new HashSet<Integer>(path);
        while (!path.isEmpty()) {
            int top = path.size() - 1;
            int node = path.get(top);
            int missing = known(node) != null ? -1 : missing(node, cursors, top);
            if (missing < 0) {
                if (known(node) == null) {
                    finish(node);
                }
                path.removeLast();
                cursors.removeLast();
                onPath.remove(node);
                continue;
            }
            if (!onPath.add(missing)) {
                throw leftRecursion(path.subList(path.indexOf(missing), path.size()), missing);
            }
            path.add(missing);
            cursors.add(0);
        }
        return known(wanted);
    }

    private LeftRecursionException leftRecursion(List<Integer> path, int again) {
        var names = new ArrayList<String>();
        for (int node : path) {
            if (nodes.kind(node) == NodePool.Kind.RULE || nodes.kind(node) == NodePool.Kind.GENERATED) {
                names.add(nodes.name(node));
            }
        }
        if (names.isEmpty()) {
            names.add(nodes.name(again));
        }
        names.add(names.getFirst());
        return new LeftRecursionException(names);
    }

    /** A node at the left edge whose beginnings are not known yet, -1 if there is none. */
    private int missing(int node, List<Integer> cursors, int top) {
        if (nodes.isNothing(node)) {
            return -1;
        }
        return switch (nodes.kind(node)) {
            case EMPTY, NOTHING, TERMINAL, TOKEN, CAPTURE -> -1;
            case SEQUENCE -> {
                int head = nodes.a(node);
                yield known(head) == null ? head : nodes.nullable(head) && known(nodes.b(node)) == null ? nodes.b(node) : -1;
            }
            case CHOICE -> {
                var options = nodes.options(node);
                int i = cursors.get(top);
                while (i < options.length && known(options[i]) != null) {
                    i++;
                }
                cursors.set(top, i);
                yield i < options.length ? options[i] : -1;
            }
            case REPEAT -> known(nodes.a(node)) == null ? nodes.a(node) : -1;
            case RULE, GENERATED -> known(nodes.follow(node)) == null ? nodes.follow(node) : -1;
        };
    }

    private void finish(int node) {
        var found = new Beginnings();
        if (!nodes.isNothing(node)) {
            switch (nodes.kind(node)) {
                case EMPTY, NOTHING -> { }
                case TERMINAL -> found.add(nodes.a(node), END);
                case TOKEN -> found.add(-node - 1, END);
                case CAPTURE -> found.add(capture(node, regexes.minus(nodes.a(node), nodes.b(node)), 0, nodes.a(node), nodes.b(node)), END);
                case SEQUENCE -> {
                    found.addAll(known(nodes.a(node)), follow(nodes.b(node), END));
                    if (nodes.nullable(nodes.a(node))) {
                        found.addAll(known(nodes.b(node)), END);
                    }
                }
                case CHOICE -> {
                    for (int option : nodes.options(node)) {
                        found.addAll(known(option), END);
                    }
                }
                case REPEAT -> {
                    int body = nodes.a(node);
                    int min = nodes.nullable(body) ? 0 : Math.max(0, nodes.b(node) - 1);
                    int max = nodes.c(node) == NodePool.UNBOUNDED ? NodePool.UNBOUNDED : nodes.c(node) - 1;
                    found.addAll(known(body), follow(nodes.repeat(body, min, max), END));
                }
                case RULE, GENERATED -> found.addAll(known(nodes.target(node)), END);
            }
        }
        if (node >= firsts.length) {
            firsts = Arrays.copyOf(firsts, Math.max(2 * firsts.length, node + 1));
        }
        firsts[node] = found.toArray();
    }

    /** Pairs of terminal and relative continuation, joined. */
    private final class Beginnings {
        private int[] pairs = new int[8];
        private int n;

        void add(int terminal, int relative) {
            if (terminal < 0 || terminal != RegexPool.NOTHING && !(terminal == RegexPool.EMPTY)) {
                if (n == pairs.length) {
                    if (n > 2 * limits.items) {
                        throw tooAmbiguous();
                    }
                    pairs = Arrays.copyOf(pairs, 2 * n);
                }
                pairs[n++] = terminal;
                pairs[n++] = relative;
            }
        }

        void addAll(int[] beginnings, int tail) {
            for (int i = 0; i < beginnings.length; i += 2) {
                int relative = tail == TOO_DEEP ? TOO_DEEP : append(beginnings[i + 1], tail);
                if (relative == TOO_DEEP) {
                    throw new LimitException("rules begin with each other deeper than " + limits.depth);
                }
                add(beginnings[i], relative);
            }
        }

        /** Regexes before the same continuation become one. */
        int[] toArray() {
            var order = new long[n / 2]; // continuation, terminal
            for (int i = 0; i < n; i += 2) {
                order[i / 2] = (long) pairs[i + 1] << 32 | pairs[i] & 0xffffffffL;
            }
            Arrays.sort(order);
            var result = new int[n];
            int length = 0;
            for (int i = 0; i < order.length; ) {
                int tail = (int) (order[i] >> 32);
                int end = i + 1;
                while (end < order.length && (int) (order[end] >> 32) == tail) {
                    end++;
                }
                var same = new int[end - i];
                int regexCount = 0;
                for (; i < end; i++) {
                    int terminal = (int) order[i];
                    if (terminal >= 0 && terminal < CAPTURE) {
                        same[regexCount++] = terminal;
                    } else {
                        result[length++] = terminal;
                        result[length++] = tail;
                    }
                }
                if (regexCount > 0) {
                    result[length++] = regexCount == 1 ? same[0] : regexes.alt(Arrays.copyOf(same, regexCount));
                    result[length++] = tail;
                }
            }
            return Arrays.copyOf(result, length);
        }
    }
}
