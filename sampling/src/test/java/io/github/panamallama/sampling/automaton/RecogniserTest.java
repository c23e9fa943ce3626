package io.github.panamallama.sampling.automaton;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;

/** The recogniser against a matcher that knows nothing of automata, over all short texts of many random grammars. */
class RecogniserTest {
    private static final String ALPHABET = "abc";

    /** A grammar twice: as nodes for the recogniser, and as plain trees for the naive matcher. */
    private sealed interface Tree {}

    private record Text(String text) implements Tree {}

    private record Star(String chars, int min, int max) implements Tree {}

    private record Seq(List<Tree> parts) implements Tree {}

    private record Or(List<Tree> parts) implements Tree {}

    private record Times(Tree part, int min, int max) implements Tree {}

    private record Rule(int number) implements Tree {}

    private static Tree random(Random random, int depth, int rules) {
        int kind = random.nextInt(depth == 0 ? 3 : 7);
        return switch (kind) {
            case 0 -> {
                var s = new StringBuilder();
                for (int n = random.nextInt(10) == 0 ? 0 : 1 + random.nextInt(2); n > 0; n--) {
                    s.append(ALPHABET.charAt(random.nextInt(3)));
                }
                yield new Text(s.toString());
            }
            case 1 -> {
                int min = random.nextInt(2);
                yield new Star(ALPHABET.substring(random.nextInt(3)), min, random.nextBoolean() ? 99 : min + 1);
            }
            case 2, 3 -> new Rule(random.nextInt(rules));
            case 4 -> new Seq(parts(random, depth, rules));
            case 5 -> new Or(parts(random, depth, rules));
            default -> {
                int min = random.nextInt(3);
                yield new Times(random(random, depth - 1, rules), min, random.nextBoolean() ? 99 : min + random.nextInt(2));
            }
        };
    }

    private static List<Tree> parts(Random random, int depth, int rules) {
        var parts = new ArrayList<Tree>();
        for (int n = 2 + random.nextInt(2); n > 0; n--) {
            parts.add(random(random, depth - 1, rules));
        }
        return parts;
    }

    private static int node(NodePool pool, Tree tree, int[] rules, boolean generated) {
        var regexes = pool.regexes();
        return switch (tree) {
            case Text t -> pool.literal(t.text);
            case Star s -> pool.terminal(regexes.repeat(regexes.chars(CodePoints.of(s.chars.chars().toArray()), Encoding.UTF8), s.min,
                    s.max == 99 ? RegexPool.UNBOUNDED : s.max));
            case Seq s -> {
                var parts = s.parts.stream().mapToInt(p -> node(pool, p, rules, generated)).toArray();
                yield generated ? pool.generated(tree, () -> pool.seq(parts)) : pool.seq(parts);
            }
            case Or o -> pool.choice(o.parts.stream().mapToInt(p -> node(pool, p, rules, generated)).toArray());
            case Times t -> pool.repeat(node(pool, t.part, rules, generated), t.min, t.max == 99 ? NodePool.UNBOUNDED : t.max);
            case Rule r -> rules[r.number];
        };
    }

    /** Where matches of a tree may end, by where they begin: the least fixed point. */
    private static final class Naive {
        private final List<Tree> rules;
        private final String text;
        private final Map<List<Object>, BitSet> known = new HashMap<>();
        private boolean changed;

        Naive(List<Tree> rules, String text) {
            this.rules = rules;
            this.text = text;
        }

        boolean matches() {
            do {
                changed = false;
                rule(0, 0, new HashMap<>());
            } while (changed);
            return known.get(List.<Object>of(0, 0)).get(text.length());
        }

        private BitSet rule(int rule, int from, Map<Object, Boolean> open) {
            var key = List.<Object>of(rule, from);
            var before = known.computeIfAbsent(key, _ -> new BitSet());
            if (open.putIfAbsent(key, true) != null) {
                return before;
            }
            var ends = ends(rules.get(rule), from, open);
            ends.or(before);
            if (!ends.equals(before)) {
                changed = true;
                known.put(key, ends);
            }
            return ends;
        }

        private BitSet ends(Tree tree, int from, Map<Object, Boolean> open) {
            var result = new BitSet();
            switch (tree) {
                case Text t -> {
                    if (text.startsWith(t.text, from)) {
                        result.set(from + t.text.length());
                    }
                }
                case Star s -> {
                    for (int n = 0; n <= s.max && from + n <= text.length(); n++) {
                        if (n > 0 && s.chars.indexOf(text.charAt(from + n - 1)) < 0) {
                            break;
                        }
                        if (n >= s.min) {
                            result.set(from + n);
                        }
                    }
                }
                case Seq s -> {
                    result.set(from);
                    for (var part : s.parts) {
                        result = after(result, part, open);
                    }
                }
                case Or o -> {
                    for (var part : o.parts) {
                        result.or(ends(part, from, open));
                    }
                }
                case Times t -> {
                    var here = new BitSet();
                    here.set(from);
                    int max = t.max == 99 ? t.min + text.length() + 1 : t.max;
                    for (int n = 0; n <= max; n++) {
                        if (n >= t.min) {
                            result.or(here);
                        }
                        here = after(here, t.part, open);
                    }
                }
                case Rule r -> result.or(rule(r.number, from, open));
            }
            return result;
        }

        private BitSet after(BitSet from, Tree part, Map<Object, Boolean> open) {
            var result = new BitSet();
            from.stream().forEach(i -> result.or(ends(part, i, open)));
            return result;
        }
    }

    private static void texts(int length, String text, List<String> into) {
        into.add(text);
        if (text.length() < length) {
            for (char c : ALPHABET.toCharArray()) {
                texts(length, text + c, into);
            }
        }
    }

    @Test
    void acceptsExactlyTheTextsOfRandomGrammars() {
        long seed = new Random().nextLong();
        System.out.println("RecogniserTest seed " + seed);
        var random = new Random(seed);
        var texts = new ArrayList<String>();
        texts(5, "", texts);
        int compared = 0;
        int leftRecursive = 0;
        int accepted = 0;
        for (int round = 0; round < 400; round++) {
            int n = 1 + random.nextInt(3);
            var rules = new ArrayList<Tree>();
            for (int i = 0; i < n; i++) {
                rules.add(random(random, 2, n));
            }
            var pool = new NodePool();
            var numbers = new int[n];
            for (int i = 0; i < n; i++) {
                numbers[i] = pool.declare("r" + i);
            }
            boolean generated = random.nextBoolean();
            for (int i = 0; i < n; i++) {
                pool.define(numbers[i], node(pool, rules.get(i), numbers, generated));
            }
            Recogniser recogniser;
            var words = new TreeSet<String>();
            for (var text : texts) {
                if (new Naive(rules, text).matches()) {
                    words.add(text);
                }
            }
            try {
                recogniser = new Recogniser(pool, numbers[0], Recogniser.Limits.DEFAULT);
                for (var text : texts) {
                    int state = push(recogniser, recogniser.start(), text);
                    assertEquals(words.contains(text), recogniser.isComplete(state), "seed " + seed + ": \"" + text + "\" of " + rules);
                    var longer = words.ceiling(text);
                    if (longer != null && longer.startsWith(text)) {
                        assertTrue(state != Recogniser.DEAD, "seed " + seed + ": \"" + text + "\" before \"" + longer + "\" of " + rules);
                    } else if (state != Recogniser.DEAD && !generated) {
                        var completed = text + completion(recogniser, state);
                        assertTrue(new Naive(rules, completed).matches(), "seed " + seed + ": \"" + completed + "\" of " + rules);
                    }
                    accepted += recogniser.isComplete(state) ? 1 : 0;
                }
                compared++;
            } catch (LeftRecursionException e) {
                leftRecursive++;
            }
        }
        System.out.println(compared + " grammars, " + leftRecursive + " with left recursion, " + accepted + " words");
        assertTrue(compared > 100 && accepted > 1000, compared + " grammars, " + accepted + " words");
    }

    private static int push(Recogniser recogniser, int state, String text) {
        for (byte b : text.getBytes(StandardCharsets.UTF_8)) {
            state = recogniser.push(state, b);
        }
        return state;
    }

    /** A text with which the state is complete: a live state has one. */
    private static String completion(Recogniser recogniser, int from) {
        var ways = new HashMap<Integer, String>(Map.of(from, ""));
        var queue = new ArrayDeque<Integer>(List.of(from));
        while (true) {
            int state = queue.remove();
            if (recogniser.isComplete(state)) {
                return ways.get(state);
            }
            for (char c : ALPHABET.toCharArray()) {
                int next = recogniser.push(state, c);
                if (next != Recogniser.DEAD && ways.putIfAbsent(next, ways.get(state) + c) == null) {
                    queue.add(next);
                }
            }
        }
    }

    @Test
    void joinsReadingsThatWouldDoubleWithEveryByte() {
        var pool = new NodePool();
        int s = pool.declare("s");
        pool.define(s, pool.choice(pool.seq(pool.literal("a"), s, pool.literal("b")), pool.seq(pool.literal("a"), s, pool.literal("c")),
                NodePool.EMPTY));
        var recogniser = new Recogniser(pool, s, Recogniser.Limits.DEFAULT);
        int state = push(recogniser, recogniser.start(), "a".repeat(500));
        state = push(recogniser, state, "bc".repeat(249) + "b");
        assertFalse(recogniser.isComplete(state));
        assertTrue(recogniser.isComplete(push(recogniser, state, "c")));
        assertEquals(Recogniser.DEAD, push(recogniser, state, "cb"));
        assertTrue(recogniser.size() < 5000, recogniser.size() + " states");
    }

    @Test
    void refusesLeftRecursionByName() {
        var pool = new NodePool();
        int a = pool.declare("a");
        int b = pool.declare("b");
        pool.define(a, pool.choice(pool.seq(pool.optional(pool.literal("x")), b), pool.literal("y")));
        pool.define(b, pool.seq(a, pool.literal("z")));
        var e = assertThrows(LeftRecursionException.class, () -> new Recogniser(pool, a, Recogniser.Limits.DEFAULT));
        assertEquals(List.of("a", "b", "a"), e.rules());
    }

    @Test
    void nestsAsDeepAsTheLimitAndSaysSo() {
        var pool = new NodePool();
        int s = pool.declare("s");
        pool.define(s, pool.choice(pool.seq(pool.literal("("), s, pool.literal(")")), NodePool.EMPTY));
        var recogniser = new Recogniser(pool, s, new Recogniser.Limits(10, 100, 1000));
        int state = push(recogniser, recogniser.start(), "(".repeat(10));
        assertTrue(state != Recogniser.DEAD);
        assertTrue(recogniser.isCut(state));
        assertEquals(Recogniser.DEAD, recogniser.push(state, '('));
        assertTrue(recogniser.isComplete(push(recogniser, state, ")".repeat(10))));
    }

    @Test
    void leavesOutAlternativesThatCannotEnd() {
        var pool = new NodePool();
        int endless = pool.declare("endless");
        pool.define(endless, pool.seq(pool.literal("a"), endless));
        var regexes = pool.regexes();
        int none = pool.terminal(regexes.and(regexes.match("b+", Encoding.UTF8), regexes.match("(bb)*b", Encoding.UTF8),
                regexes.match("(bb)+", Encoding.UTF8)));
        var recogniser = new Recogniser(pool, pool.choice(endless, none, pool.literal("c")), Recogniser.Limits.DEFAULT);
        assertEquals('c', recogniser.onlyByte(recogniser.start()));
        assertEquals(Recogniser.DEAD, new Recogniser(pool, pool.choice(endless, none), Recogniser.Limits.DEFAULT).start());
    }
}
