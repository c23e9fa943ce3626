package io.github.panamallama.sampling.automaton;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * How far the end is: for each state of a recogniser a number of tokens with which the text can surely be ended, and these tokens. It is
 * the cost of a short text, found part by part (the shortest word of each lexeme, cut into as few tokens as possible), and so an upper
 * bound of the shortest one.
 *
 * <p>Where words are remembered, what follows is planned once for all words: the words that the plan itself captures are set apart, and
 * after any other the plan stands (see {@link NodePool.Memory}). What leads towards a word that is refused or set apart is few tokens,
 * and looked at one by one.
 *
 * <p>Whoever takes a token that {@link #near} gives for n tokens has {@link #way(int) a way} of n tokens from the state after it, or
 * {@link #way(int, int) one} that the state before it knows. Not safe for several threads at once.
 */
public final class Endings {
    /** As a number of tokens: no end was found. */
    public static final int NEVER = 1 << 28;
    private static final int MAX_PARTS = 200_000;
    /** Each part of an object or array holds what was read before it, so that thousands of required properties take their square. */
    private static final long MAX_NANOS = 2_000_000_000L;
    /** Bytes of kept bits; then they are forgotten. */
    private static final long CACHE = 16L << 20;

    private final Recogniser recogniser;
    private final NodePool nodes;
    private final RegexPool regexes;
    private final TokenTable table;
    private final TokenTrie trie;

    private int[] ofRegex = new int[256];    // one more than the cost, 0 where that isn't known yet
    private final Map<Integer, Integer> ofNode = new HashMap<>();
    private final Map<Integer, Integer> via = new HashMap<>();    // by choice: the option that its cost is of
    private final Map<Integer, Integer> ofTail = new HashMap<>();
    private final Map<Integer, Integer> ofState = new HashMap<>();
    private final Map<Integer, Integer> worst = new HashMap<>();
    private final Map<Integer, Lexeme> lexemes = new HashMap<>();
    private final Map<Long, long[]> near = new HashMap<>();    // by regex and tokens
    private final Map<Integer, Plan> plans = new HashMap<>();    // by capture node

    /** The highest cost within a lexeme after one of its tokens, and the nodes of the trie after which it may end and tokens go on. */
    private record Lexeme(int worst, int[] exits) {
    }

    /**
     * What may follow a captured word up to the end of what remembers it.
     *
     * @param then  the node that it is a text of
     * @param cost  in tokens
     * @param apart words, as a regex, after which it may not follow
     */
    private record Plan(int then, int cost, int apart) {
    }

    /** The rest of a lexeme, and the node that follows it where that depends on the word. */
    private record Finish(int cost, int regex, int then) {
    }

    public Endings(Recogniser recogniser, NodePool nodes, TokenTable table) {
        this.recogniser = recogniser;
        this.nodes = nodes;
        regexes = nodes.regexes();
        this.table = table;
        trie = table.all();
    }

    // ---- costs

    /** Tokens with which the text can be ended from here, 0 where it may end; {@link #NEVER} if no way was found. */
    public int cost(int state) {
        var known = ofState.get(state);
        if (known != null) {
            return known;
        }
        int cost = recogniser.isComplete(state) ? 0 : NEVER;
        for (int item = 0, n = recogniser.items(state); item < n && cost > 0; item++) {
            cost = Math.min(cost, cost(state, item));
        }
        ofState.put(state, cost);
        return cost;
    }

    private int cost(int state, int item) {
        int terminal = recogniser.terminal(state, item);
        return terminal < 0 ? plus(1, rest(state, item)) : recogniser.captures(state, item)
                ? plus(finish(state, item).cost, tailCost(recogniser.tail(state, item))) : plus(regexCost(terminal), rest(state, item));
    }

    /** What follows the lexeme of an item, whatever its word, but for those set apart. */
    private int rest(int state, int item) {
        int tail = tailCost(recogniser.tail(state, item));
        return recogniser.captures(state, item) ? plus(plan(recogniser.captured(state, item)).cost, tail) : tail;
    }

    /** The nearest end of an item's lexeme with what follows it: by the plan, or by the shortest word if that is a word set apart. */
    private Finish finish(int state, int item) {
        int regex = recogniser.terminal(state, item);
        var plan = plan(recogniser.captured(state, item));
        int apart = recogniser.left(state, item, plan.apart);
        if (apart == RegexPool.NOTHING) {
            return new Finish(plus(regexCost(regex), plan.cost), regex, plan.then);
        }
        int others = regexes.minus(regex, apart);
        var planned = new Finish(plus(regexCost(others), plan.cost), others, plan.then);
        var word = regexes.shortest(regex);
        if (word == null || !regexes.matches(apart, word)) {
            return planned;
        }
        int then = recogniser.then(state, item, word, word.length);
        int cost = plus(regexCost(regex), nodeCost(then));
        return cost < planned.cost ? new Finish(cost, regex, then) : planned;
    }

    private Plan plan(int capture) {
        var known = plans.get(capture);
        if (known == null) {
            var word = regexes.shortest(captured(capture));
            int then = word == null ? NodePool.NOTHING : nodes.then(capture, word);
            int cost = nodeCost(then);
            var values = new HashSet<Object>();
            if (cost < NEVER) {
                spell(then, new ArrayList<>(), values);
            }
            plans.put(capture, known = new Plan(then, cost, values.isEmpty() ? RegexPool.NOTHING : nodes.memory(capture).words(values)));
        }
        return known;
    }

    private static int plus(int a, int b) {
        return Math.min(NEVER, a + b);
    }

    private int regexCost(int regex) {
        if (regex >= ofRegex.length) {
            ofRegex = Arrays.copyOf(ofRegex, Math.max(2 * ofRegex.length, regex + 1));
        }
        if (ofRegex[regex] == 0) {
            var word = regexes.shortest(regex);
            var tokens = word == null ? null : cut(word);
            ofRegex[regex] = 1 + (tokens == null ? NEVER : tokens.length);
        }
        return ofRegex[regex] - 1;
    }

    private int tailCost(int wanted) {
        var stack = new ArrayDeque<Integer>();
        stack.push(wanted);
        while (!stack.isEmpty()) {
            int tail = stack.peek();
            if (ofTail.containsKey(tail)) {
                stack.pop();
                continue;
            }
            int cost = NEVER;
            boolean ready = true;
            var frames = recogniser.frames(tail);
            for (int i = 0; i < frames.length; i += 2) {
                if (Recogniser.isEnd(frames[i])) {
                    cost = 0;
                    continue;
                }
                var after = ofTail.get(frames[i + 1]);
                if (after == null) {
                    stack.push(frames[i + 1]);
                    ready = false;
                } else if (ready) {
                    cost = Math.min(cost, plus(nodeCost(frames[i]), after));
                }
            }
            if (ready) {
                ofTail.put(tail, cost);
                stack.pop();
            }
        }
        return ofTail.get(wanted);
    }

    /** Costs only fall until nothing changes; whoever uses a node whose cost fell is looked at again. */
    private int nodeCost(int wanted) {
        var ready = ofNode.get(wanted);
        if (ready != null) {
            return ready;
        }
        var open = new HashMap<Integer, Integer>();
        var users = new HashMap<Integer, List<Integer>>();
        var work = new ArrayDeque<Integer>();
        open.put(wanted, NEVER);
        work.add(wanted);
        long deadline = System.nanoTime() + MAX_NANOS;
        while (!work.isEmpty()) {
            int node = work.remove();
            int cost = nodeCost(node, open, users, work);
            if (cost < open.get(node)) {
                open.put(node, cost);
                work.addAll(users.getOrDefault(node, List.of()));
            }
            if (open.size() > MAX_PARTS) {
                throw new LimitException("no short text of the grammar was found among " + MAX_PARTS + " parts of it; make it simpler");
            }
            if (System.nanoTime() - deadline > 0) {
                throw new LimitException("no short text of the grammar was found within " + MAX_NANOS / 1_000_000_000
                        + " s; ask for fewer properties or items, or make it simpler");
            }
        }
        ofNode.putAll(open);
        return ofNode.get(wanted);
    }

    private int nodeCost(int node, Map<Integer, Integer> open, Map<Integer, List<Integer>> users, ArrayDeque<Integer> work) {
        return switch (nodes.kind(node)) {
            case EMPTY -> 0;
            case NOTHING -> NEVER;
            case TERMINAL -> regexCost(nodes.a(node));
            case TOKEN -> 1;
            case SEQUENCE -> plus(part(nodes.a(node), node, open, users, work), part(nodes.b(node), node, open, users, work));
            case CHOICE -> {
                int best = NEVER;
                for (int option : nodes.options(node)) {
                    int cost = part(option, node, open, users, work);
                    if (cost < best) {
                        best = cost;
                        if (cost < open.get(node)) {
                            via.put(node, option);
                        }
                    }
                }
                yield best;
            }
            case REPEAT -> nodes.b(node) == 0 ? 0
                    : (int) Math.min(NEVER, (long) nodes.b(node) * part(nodes.a(node), node, open, users, work));
            case RULE -> part(nodes.follow(node), node, open, users, work);
            case GENERATED -> part(nodes.way(node), node, open, users, work);
            case CAPTURE -> {
                int regex = captured(node);
                var word = regexes.shortest(regex);
                yield word == null ? NEVER : plus(regexCost(regex), part(nodes.then(node, word), node, open, users, work));
            }
        };
    }

    private int captured(int node) {
        return regexes.minus(nodes.a(node), nodes.b(node));
    }

    private int part(int part, int user, Map<Integer, Integer> open, Map<Integer, List<Integer>> users, ArrayDeque<Integer> work) {
        var settled = ofNode.get(part);
        if (settled != null) {
            return settled;
        }
        var known = users.computeIfAbsent(part, p -> new ArrayList<>(2));
        if (!known.contains(user)) {
            known.add(user);
        }
        if (!open.containsKey(part)) {
            open.put(part, NEVER);
            work.add(part);
        }
        return open.get(part);
    }

    // ---- the tokens themselves

    /** Tokens to an end, {@link #cost} of them. */
    public int[] way(int state) {
        var out = new ArrayList<Integer>();
        int cost = cost(state);
        if (cost >= NEVER) {
            throw new LimitException("the text can't be ended from here by tokens of this vocabulary");
        }
        if (cost > 0) {
            int item = 0;
            while (cost(state, item) != cost) {
                item++;
            }
            int terminal = recogniser.terminal(state, item);
            if (terminal < 0) {
                out.add(someToken(-terminal - 1));
            } else if (recogniser.captures(state, item)) {
                var finish = finish(state, item);
                add(regexes.shortest(finish.regex), out);
                node(finish.then, out);
            } else {
                add(regexes.shortest(terminal), out);
            }
            tail(recogniser.tail(state, item), out);
        }
        return ints(out);
    }

    /**
     * Tokens to an end after {@code token}, as they are known before it: what {@link #near} and {@link #worst} count where the token stays
     * within a lexeme, or ends it. The state after the token may know none as short.
     */
    public int[] way(int before, int token) {
        int least = NEVER;
        int best = -1;
        int left = RegexPool.NOTHING;
        for (int item = 0, n = recogniser.items(before); item < n; item++) {
            int rest = rest(before, item);
            if (recogniser.terminal(before, item) < 0) {
                if (rest < least && recogniser.takes(before, item, token)) {
                    least = rest;
                    best = item;
                    left = RegexPool.EMPTY;
                }
                continue;
            }
            var piece = table.piece(token);
            int regex = piece.length == 0 || after(special(before, item), piece, piece.length) != RegexPool.NOTHING ? RegexPool.NOTHING
                    : after(recogniser.terminal(before, item), piece, piece.length);
            if (regex != RegexPool.NOTHING && plus(regexCost(regex), rest) < least) {
                least = plus(regexCost(regex), rest);
                best = item;
                left = regex;
            }
        }
        if (best < 0) {
            throw new LimitException("the text can't be ended from here by tokens of this vocabulary");
        }
        var out = new ArrayList<Integer>();
        add(regexes.shortest(left), out);
        if (recogniser.captures(before, best)) {
            node(plan(recogniser.captured(before, best)).then, out);
        }
        tail(recogniser.tail(before, best), out);
        return ints(out);
    }

    private int after(int regex, byte[] bytes, int length) {
        for (int i = 0; i < length && regex != RegexPool.NOTHING; i++) {
            regex = regexes.next(regex, bytes[i]);
        }
        return regex;
    }

    private static int[] ints(List<Integer> list) {
        return list.stream().mapToInt(Integer::intValue).toArray();
    }

    private void add(byte[] word, List<Integer> out) {
        for (int token : cut(word)) {
            out.add(token);
        }
    }

    private void tail(int tail, List<Integer> out) {
        while (tailCost(tail) > 0) {
            var frames = recogniser.frames(tail);
            for (int i = 0; i < frames.length; i += 2) {
                if (!Recogniser.isEnd(frames[i]) && plus(nodeCost(frames[i]), tailCost(frames[i + 1])) == tailCost(tail)) {
                    node(frames[i], out);
                    tail = frames[i + 1];
                    break;
                }
            }
        }
    }

    private void node(int start, List<Integer> out) {
        spell(start, out, new HashSet<>());
    }

    /** Adds the tokens of a node's short text, and the values that it makes the grammar remember. */
    private void spell(int start, List<Integer> out, Set<Object> values) {
        var stack = new ArrayDeque<Integer>();
        stack.push(start);
        while (!stack.isEmpty()) {
            int node = stack.pop();
            if (nodeCost(node) == 0) {
                continue;
            }
            switch (nodes.kind(node)) {
                case EMPTY, NOTHING -> { }
                case TERMINAL -> add(regexes.shortest(nodes.a(node)), out);
                case TOKEN -> out.add(someToken(node));
                case SEQUENCE -> {
                    stack.push(nodes.b(node));
                    stack.push(nodes.a(node));
                }
                case CHOICE -> stack.push(via.get(node));
                case REPEAT -> {
                    for (int i = 0; i < nodes.b(node); i++) {
                        stack.push(nodes.a(node));
                    }
                }
                case RULE -> stack.push(nodes.follow(node));
                case GENERATED -> stack.push(nodes.way(node));
                case CAPTURE -> {
                    var word = regexes.shortest(captured(node));
                    add(word, out);
                    values.add(nodes.memory(node).value(word));
                    stack.push(nodes.then(node, word));
                }
            }
        }
    }

    private int someToken(int tokenNode) {
        int token = nodes.a(tokenNode);
        if (nodes.b(tokenNode) == 0) {
            return token;
        }
        for (int t = 0; t < table.size(); t++) {
            if (t != token && table.piece(t).length > 0) {
                return t;
            }
        }
        throw new LimitException("no token of this vocabulary may follow");
    }

    /** A word as few tokens as possible; null if the vocabulary lacks a byte of it. */
    private int[] cut(byte[] word) {
        var fewest = new int[word.length + 1];
        var first = new int[word.length];
        for (int i = word.length - 1; i >= 0; i--) {
            fewest[i] = NEVER;
            int from = 0;
            int to = trie.size();
            for (int at = i; at < word.length; at++) {
                int node = from;
                while (node < to && trie.bytes[node] != word[at]) {
                    node = trie.ends[node];
                }
                if (node >= to) {
                    break;
                }
                int token = trie.tokens[node];
                if (token != -1 && 1 + fewest[at + 1] <= fewest[i] && fewest[at + 1] < NEVER) {
                    fewest[i] = 1 + fewest[at + 1];
                    first[i] = token >= 0 ? token : -2 - token;
                }
                from = node + 1;
                to = trie.ends[node];
            }
        }
        if (fewest[0] >= NEVER) {
            return null;
        }
        var tokens = new int[fewest[0]];
        for (int i = 0, n = 0; i < word.length; i += table.piece(first[i]).length) {
            tokens[n++] = first[i];
        }
        return tokens;
    }

    // ---- one token further

    /** At least the tokens to an end after any one token. */
    public int worst(int state) {
        var known = worst.get(state);
        if (known != null) {
            return known;
        }
        int most = 0;
        for (int item = 0, n = recogniser.items(state); item < n; item++) {
            int terminal = recogniser.terminal(state, item);
            int rest = rest(state, item);
            if (terminal < 0) {
                most = Math.max(most, rest);
                continue;
            }
            int regex = within(state, item);
            most = Math.max(most, plus(lexeme(regex).worst, rest));
            most = Math.max(most, beyond(state, item, lexeme(regex).exits, NEVER, null));
            int special = special(state, item);
            if (special != RegexPool.NOTHING) {
                most = Math.max(most, walkAlong(state, special, NEVER, null));
            }
        }
        worst.put(state, most);
        return most;
    }

    /**
     * Sets the bits of the tokens after which a way of at most {@code tokens} to an end is known; not of those that end the generation.
     * Some of these tokens may be none that can follow.
     */
    public void near(int state, int tokens, long[] into) {
        for (int item = 0, n = recogniser.items(state); item < n; item++) {
            int terminal = recogniser.terminal(state, item);
            int rest = rest(state, item);
            if (terminal < 0) {
                if (rest <= tokens && nodes.b(-terminal - 1) == 0) {
                    int token = nodes.a(-terminal - 1);
                    into[token >> 6] |= 1L << token;
                } else if (rest <= tokens) {
                    int but = nodes.a(-terminal - 1);
                    for (int t = 0; t < table.size(); t++) {
                        into[t >> 6] |= t == but ? 0 : 1L << t;
                    }
                }
                continue;
            }
            int regex = within(state, item);
            int special = special(state, item);
            if (rest <= tokens) {
                var bits = near(regex, tokens - rest);
                if (special != RegexPool.NOTHING) {
                    var wrong = new long[bits.length];
                    mark(special, wrong);
                    for (int i = 0; i < into.length; i++) {
                        into[i] |= bits[i] & ~wrong[i];
                    }
                } else {
                    for (int i = 0; i < into.length; i++) {
                        into[i] |= bits[i];
                    }
                }
            }
            if (special != RegexPool.NOTHING) {
                walkAlong(state, special, tokens, into);
            }
            beyond(state, item, lexeme(regex).exits, tokens, into);
        }
    }

    /** The lexeme of an item with the words that are refused: what is found holds for many items. */
    private int within(int state, int item) {
        return recogniser.captures(state, item) ? recogniser.capturedAll(state, item) : recogniser.terminal(state, item);
    }

    /** What is left of the words of an item that are refused, or set apart by its plan. */
    private int special(int state, int item) {
        return !recogniser.captures(state, item) ? RegexPool.NOTHING : regexes.alt(recogniser.capturedBut(state, item),
                recogniser.left(state, item, plan(recogniser.captured(state, item)).apart));
    }

    /** As {@code walk} for the tokens that go on behind the lexeme of an item. */
    private int beyond(int state, int item, int[] exits, int tokens, long[] into) {
        boolean captures = recogniser.captures(state, item);
        int most = 0;
        int after = captures || exits.length == 0 ? Recogniser.DEAD : recogniser.after(state, item);
        for (int exit : exits) {
            if (captures) {
                var piece = table.piece(trie.below(exit));
                int length = trie.depths[exit];
                if (!regexes.nullable(after(recogniser.terminal(state, item), piece, length))) {
                    continue; // refused
                }
                after = recogniser.after(state, item, piece, length);
            }
            most = Math.max(most, walk(exit, after, tokens, into));
        }
        return most;
    }

    /** The tokens within a lexeme after which its end is at most {@code tokens} away; not to be changed. */
    private long[] near(int regex, int tokens) {
        long key = (long) regex << 32 | Math.min(tokens, lexeme(regex).worst);
        var known = near.get(key);
        if (known == null) {
            known = new long[table.size() + 63 >> 6];
            walk(regex, tokens, known, null);
            if ((near.size() + 1) * 8L * known.length > CACHE) {
                near.clear();
            }
            near.put(key, known);
        }
        return known;
    }

    private Lexeme lexeme(int regex) {
        var known = lexemes.get(regex);
        if (known == null) {
            var exits = new ArrayList<Integer>();
            int most = walk(regex, NEVER, null, exits);
            lexemes.put(regex, known = new Lexeme(most, exits.stream().mapToInt(Integer::intValue).toArray()));
        }
        return known;
    }

    /** The tokens within a lexeme: the highest cost after one, bits of those that cost at most {@code tokens}, where the lexeme may end. */
    private int walk(int regex, int tokens, long[] into, List<Integer> exits) {
        var stack = new int[trie.maxDepth + 1];
        stack[0] = regex;
        int most = 0;
        for (int i = 0, n = trie.size(); i < n; ) {
            int depth = trie.depths[i];
            int b = trie.bytes[i] & 0xff;
            int before = stack[depth - 1];
            int next = recogniser.isRegexLive(before, b) ? regexes.next(before, b) : RegexPool.NOTHING;
            if (next == RegexPool.NOTHING) {
                i = trie.ends[i];
                continue;
            }
            stack[depth] = next;
            if (trie.tokens[i] != -1) {
                int cost = regexCost(next);
                most = Math.max(most, cost);
                if (into != null && cost <= tokens) {
                    trie.mark(i, into);
                }
            }
            if (exits != null && trie.ends[i] > i + 1 && regexes.nullable(next)) {
                exits.add(i);
            }
            i++;
        }
        return most;
    }

    /** Sets the bits of the tokens that words of a regex begin with. */
    private void mark(int regex, long[] into) {
        var stack = new int[trie.maxDepth + 1];
        stack[0] = regex;
        for (int i = 0, n = trie.size(); i < n; ) {
            int next = regexes.next(stack[trie.depths[i] - 1], trie.bytes[i]);
            if (next == RegexPool.NOTHING) {
                i = trie.ends[i];
                continue;
            }
            stack[trie.depths[i]] = next;
            if (trie.tokens[i] != -1) {
                trie.mark(i, into);
            }
            i++;
        }
    }

    /** The tokens that words of a regex begin with: the highest cost after one, bits of those that cost at most {@code tokens}. */
    private int walkAlong(int state, int regex, int tokens, long[] into) {
        return walk(0, trie.size(), 0, state, regex, tokens, into);
    }

    /** The tokens below a node of the trie, read on from {@code state}. */
    private int walk(int node, int state, int tokens, long[] into) {
        return recogniser.hasLive(state) ? walk(node + 1, trie.ends[node], trie.depths[node], state, -1, tokens, into) : 0;
    }

    /** @param regex what the tokens must be a beginning of, -1 for anything */
    private int walk(int from, int to, int depth, int state, int regex, int tokens, long[] into) {
        int most = 0;
        var stack = new int[trie.maxDepth + 1];
        var regexStack = new int[trie.maxDepth + 1];
        stack[depth] = state;
        regexStack[depth] = regex;
        for (int i = from; i < to; ) {
            int word = regex < 0 ? -1 : regexes.next(regexStack[trie.depths[i] - 1], trie.bytes[i]);
            int next = word == RegexPool.NOTHING ? Recogniser.DEAD : recogniser.push(stack[trie.depths[i] - 1], trie.bytes[i]);
            if (next == Recogniser.DEAD) {
                i = trie.ends[i];
                continue;
            }
            stack[trie.depths[i]] = next;
            regexStack[trie.depths[i]] = word;
            if (trie.tokens[i] != -1) {
                int cost = cost(next);
                most = Math.max(most, cost);
                if (into != null && cost <= tokens) {
                    trie.mark(i, into);
                }
            }
            i++;
        }
        return most;
    }
}
