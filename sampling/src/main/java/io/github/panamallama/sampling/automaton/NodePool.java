package io.github.panamallama.sampling.automaton;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.IntSupplier;

/**
 * Context-free languages as a graph of nodes, each an {@code int}. Leaves are regular expressions of a {@link RegexPool}; a rule that
 * refers to itself is {@link #declare declared} before it is {@link #define defined}; what would be too large to write out is
 * {@link #generated generated} when the recogniser first gets there. Equal nodes have equal numbers.
 *
 * <p>A node may derive the empty word and may derive nothing at all; alternatives that derive nothing are left out wherever the
 * recogniser looks, so that it accepts no byte from which the end can't be reached. Left recursion is refused when it is met.
 *
 * <p>Nodes live as long as their pool. Not safe for several threads at once.
 */
public final class NodePool {
    /** The empty word. */
    public static final int EMPTY = 0;
    /** No word. */
    public static final int NOTHING = 1;
    /** As {@code max} of {@link #repeat}: any number of times. */
    public static final int UNBOUNDED = RegexPool.UNBOUNDED;

    enum Kind { EMPTY, NOTHING, TERMINAL, SEQUENCE, CHOICE, REPEAT, RULE, GENERATED, TOKEN, CAPTURE }

    /**
     * @param a TERMINAL, CAPTURE: regex; SEQUENCE: head; REPEAT: body; RULE, GENERATED: target, -1 until known; TOKEN: id
     * @param b SEQUENCE: rest; REPEAT: min; CAPTURE: refused; TOKEN: 1 for every token but {@code a}
     * @param c REPEAT: max
     */
    private record Shape(Kind kind, int a, int b, int c, Object more) {}

    private record Options(int[] ids) {
        @Override
        public boolean equals(Object o) {
            return o instanceof Options other && Arrays.equals(ids, other.ids);
        }

        @Override
        public int hashCode() {
            return Arrays.hashCode(ids);
        }
    }

    private static final byte UNKNOWN = 0;
    private static final byte NO = 1;
    private static final byte YES = 2;

    private final RegexPool regexes;
    private final int maxNodes;
    private final Map<Shape, Integer> interned = new HashMap<>();
    private final Map<Object, Integer> generated = new HashMap<>();

    private Shape[] shapes = new Shape[256];
    private byte[] nullable = new byte[256];
    private byte[] productive = new byte[256];
    private final Map<Integer, IntSupplier> expansions = new HashMap<>();
    private final Map<Integer, Memory> captures = new HashMap<>();
    private int[] targets = new int[256];
    private int size;
    private final Map<Integer, IntSupplier> ways = new HashMap<>();

    /** An empty pool over an empty pool of regular expressions, with the default limits. */
    public NodePool() {
        this(new RegexPool(), 1 << 21);
    }

    /** @param maxNodes nodes that may exist before {@link LimitException} */
    public NodePool(RegexPool regexes, int maxNodes) {
        this.regexes = regexes;
        this.maxNodes = maxNodes;
        intern(new Shape(Kind.EMPTY, 0, 0, 0, null));
        intern(new Shape(Kind.NOTHING, 0, 0, 0, null));
    }

    /** The expressions that terminals of this pool refer to. */
    public RegexPool regexes() {
        return regexes;
    }

    // ---- building

    /** The words of a regular expression, a term of {@link #regexes}. */
    public int terminal(int regex) {
        return switch (regex) {
            case RegexPool.NOTHING -> NOTHING;
            case RegexPool.EMPTY -> EMPTY;
            default -> intern(new Shape(Kind.TERMINAL, regex, 0, 0, null));
        };
    }

    /** Exactly this text as UTF-8. */
    public int literal(String text) {
        return terminal(regexes.literal(text));
    }

    /** One after the other. */
    public int seq(int... parts) {
        int node = EMPTY;
        for (int i = parts.length - 1; i >= 0; i--) {
            node = pair(parts[i], node);
        }
        return node;
    }

    private int pair(int head, int rest) {
        if (head == NOTHING || rest == NOTHING) {
            return NOTHING;
        }
        if (head == EMPTY) {
            return rest;
        }
        if (rest == EMPTY) {
            return head;
        }
        if (shapes[head].kind == Kind.SEQUENCE) {
            var spine = new ArrayList<Integer>();
            int last = head;
            while (shapes[last].kind == Kind.SEQUENCE) {
                spine.add(shapes[last].a);
                last = shapes[last].b;
            }
            int node = pair(last, rest);
            for (int i = spine.size() - 1; i >= 0; i--) {
                node = pair(spine.get(i), node);
            }
            return node;
        }
        return intern(new Shape(Kind.SEQUENCE, head, rest, 0, null));
    }

    /** Any one of these; {@link #NOTHING} for none. */
    public int choice(int... options) {
        var sorted = Arrays.stream(options).filter(o -> o != NOTHING).sorted().distinct().toArray();
        return switch (sorted.length) {
            case 0 -> NOTHING;
            case 1 -> sorted[0];
            default -> intern(new Shape(Kind.CHOICE, 0, 0, 0, new Options(sorted)));
        };
    }

    /** As {@link #choice(int...)}. */
    public int choice(List<Integer> options) {
        return choice(options.stream().mapToInt(Integer::intValue).toArray());
    }

    /** The node or nothing. */
    public int optional(int node) {
        return choice(node, EMPTY);
    }

    /**
     * The node {@code min} to {@code max} times.
     *
     * @param max {@link #UNBOUNDED} for any number
     */
    public int repeat(int node, int min, int max) {
        if (min < 0 || max < min) {
            throw new IllegalArgumentException("repeated " + min + " to " + max + " times");
        }
        if (max == 0 || node == EMPTY || node == NOTHING && min == 0) {
            return EMPTY;
        }
        if (node == NOTHING || min == 1 && max == 1) {
            return node;
        }
        return intern(new Shape(Kind.REPEAT, node, min, max, null));
    }

    /** A rule to be {@link #define defined} later, for recursion; the name is for messages. */
    public int declare(String name) {
        int id = add(new Shape(Kind.RULE, -1, 0, 0, name));
        targets[id] = -1;
        return id;
    }

    /**
     * Says what a declared rule stands for.
     *
     * @throws IllegalStateException if it was defined before or is no rule
     */
    public void define(int rule, int node) {
        if (shapes[rule].kind != Kind.RULE || targets[rule] >= 0) {
            throw new IllegalStateException("node " + rule + " is no rule without a definition");
        }
        targets[rule] = node;
    }

    /** What a rule or generated node stands for; -1 if it is not defined or not expanded yet. */
    public int target(int rule) {
        return targets[rule];
    }

    /**
     * The node for {@code key}, made now if it is new. What it stands for is asked for once, when the recogniser first gets there, and
     * may contain further generated nodes. The key must say everything that the expansion depends on.
     *
     * <p>Whether the node derives any word is not looked into: it has to. Whether it derives the empty word is found by expanding it.
     *
     * @param key       with {@code equals} and {@code hashCode} by value
     * @param expansion gives a node of this pool
     */
    public int generated(Object key, IntSupplier expansion) {
        var known = generated.get(key);
        if (known != null) {
            return known;
        }
        int id = add(new Shape(Kind.GENERATED, -1, 0, 0, key));
        targets[id] = -1;
        expansions.put(id, expansion);
        generated.put(key, id);
        return id;
    }

    /**
     * As {@link #generated(Object, IntSupplier)}, with a way out: where a short text is looked for, it stands for the whole expansion.
     * What may come in any order need not be tried in every order then.
     *
     * @param way gives a node whose words are among those of the expansion, and which leads to an end in a number of steps
     */
    public int generated(Object key, IntSupplier expansion, IntSupplier way) {
        int before = size;
        int id = generated(key, expansion);
        if (size > before) {
            ways.put(id, way);
        }
        return id;
    }

    /** A node that a short word of a generated node is looked for in: its way out, or what it stands for. */
    int way(int node) {
        var way = ways.get(node);
        return way == null ? follow(node) : way.getAsInt();
    }

    /**
     * What a captured word is remembered for: its value. Later captures may refuse words of values that came, and nothing else of what
     * follows depends on the word: a text that may follow one word may also follow another that is not refused, unless that has the value
     * of a word that the text captures.
     */
    public interface Memory {
        /** What the word stands for, with {@code equals} and {@code hashCode} by value. */
        Object value(byte[] word);

        /** A term for the words of the capture with one of these values; values that no word of the capture can have are left out. */
        int words(Set<Object> values);

        /** A node of this pool, one that derives some word, for what follows the word. */
        int then(byte[] word);
    }

    /**
     * A word of a regular expression, and then what depends on the word: the one place where a grammar remembers what it has read. Each
     * word read makes states of its own, so that the expression should match names, not texts.
     *
     * @param key    as for {@link #generated}
     * @param regex  a term of {@link #regexes} without the empty word
     * @param but    a term whose words are refused, {@link RegexPool#NOTHING} for none; few, since masks are found without them and mended
     * @param memory what follows
     */
    public int captured(Object key, int regex, int but, Memory memory) {
        if (regexes.isEmpty(regexes.minus(regex, but))) {
            return NOTHING;
        }
        if (regexes.nullable(regex)) {
            throw new IllegalArgumentException("the empty word can't be captured");
        }
        var known = generated.get(key);
        if (known != null) {
            return known;
        }
        int id = add(new Shape(Kind.CAPTURE, regex, but, 0, key));
        captures.put(id, memory);
        generated.put(key, id);
        return id;
    }

    /** What follows a captured word. */
    int then(int node, byte[] word) {
        return captures.get(node).then(word);
    }

    Memory memory(int node) {
        return captures.get(node);
    }

    /** Exactly the token {@code id} of the vocabulary, whatever its text. */
    public int token(int id) {
        return intern(new Shape(Kind.TOKEN, id, 0, 0, null));
    }

    /** Any token but {@code id} and those that end the generation. */
    public int anyTokenBut(int id) {
        return intern(new Shape(Kind.TOKEN, id, 1, 0, null));
    }

    private int intern(Shape shape) {
        var known = interned.get(shape);
        if (known != null) {
            return known;
        }
        int id = add(shape);
        interned.put(shape, id);
        return id;
    }

    private int add(Shape shape) {
        if (size >= maxNodes) {
            throw new LimitException("a grammar of more than " + maxNodes + " nodes; make it smaller");
        }
        if (size == shapes.length) {
            shapes = Arrays.copyOf(shapes, 2 * size);
            nullable = Arrays.copyOf(nullable, 2 * size);
            productive = Arrays.copyOf(productive, 2 * size);
            targets = Arrays.copyOf(targets, 2 * size);
        }
        shapes[size] = shape;
        return size++;
    }

    // ---- asking

    /** Nodes so far, a measure of memory. */
    public int size() {
        return size;
    }

    Kind kind(int node) {
        return shapes[node].kind;
    }

    int a(int node) {
        return shapes[node].a;
    }

    int b(int node) {
        return shapes[node].b;
    }

    int c(int node) {
        return shapes[node].c;
    }

    int[] options(int node) {
        return ((Options) shapes[node].more).ids;
    }

    /** What a rule, or a generated node, stands for; expands the latter. */
    int follow(int node) {
        if (targets[node] < 0) {
            if (shapes[node].kind == Kind.RULE) {
                throw new IllegalStateException("rule " + shapes[node].more + " is used and not defined");
            }
            int target = expansions.get(node).getAsInt();
            expansions.remove(node);
            targets[node] = target;
        }
        return targets[node];
    }

    /** The name or key of the nearest rule, for messages. */
    String name(int node) {
        return shapes[node].more == null ? shapes[node].kind.toString() : String.valueOf(shapes[node].more);
    }

    /** Whether the node derives the empty word. */
    public boolean nullable(int node) {
        if (nullable[node] == UNKNOWN) {
            settle(node, true);
        }
        return nullable[node] == YES;
    }

    /** Whether the node derives no word at all, taking generated nodes to derive one. */
    public boolean isNothing(int node) {
        if (productive[node] == UNKNOWN) {
            settle(node, false);
        }
        return productive[node] == NO;
    }

    /**
     * The least fixed point over what the node's answer hangs on, and no more: what stands behind a part that can't be empty is not
     * looked at, so that generated nodes are expanded only where that matters.
     */
    private void settle(int start, boolean empty) {
        var users = new HashMap<Integer, List<Integer>>();
        var asked = new ArrayList<Integer>();
        var work = new ArrayDeque<Integer>();
        ask(start, -1, users, asked, work);
        while (!work.isEmpty()) {
            int node = work.remove();
            if (answers(empty)[node] != UNKNOWN) {
                continue;
            }
            var s = shapes[node];
            boolean yes = switch (s.kind) {
                case EMPTY -> true;
                case NOTHING -> false;
                case TERMINAL -> empty ? regexes.nullable(s.a) : !regexes.isEmpty(s.a);
                case TOKEN -> !empty;
                case CAPTURE -> !empty;
                case SEQUENCE -> is(s.a, node, empty, users, asked, work) && is(s.b, node, empty, users, asked, work);
                case CHOICE -> {
                    boolean any = false;
                    for (int option : options(node)) {
                        any |= is(option, node, empty, users, asked, work);
                    }
                    yield any;
                }
                case REPEAT -> s.b == 0 || is(s.a, node, empty, users, asked, work);
                case RULE -> is(follow(node), node, empty, users, asked, work);
                case GENERATED -> !empty || is(follow(node), node, true, users, asked, work);
            };
            if (yes) {
                answers(empty)[node] = YES;
                work.addAll(users.getOrDefault(node, List.of()));
            }
        }
        for (int node : asked) {
            if (answers(empty)[node] == UNKNOWN) {
                answers(empty)[node] = NO;
            }
        }
    }

    /** Whether {@code part} is known to be; if nothing is known yet, {@code user} is looked at again when it turns out to be. */
    private boolean is(int part, int user, boolean empty, Map<Integer, List<Integer>> users, List<Integer> asked,
            ArrayDeque<Integer> work) {
        if (answers(empty)[part] == UNKNOWN) {
            ask(part, user, users, asked, work);
        }
        return answers(empty)[part] == YES;
    }

    private static void ask(int part, int user, Map<Integer, List<Integer>> users, List<Integer> asked, ArrayDeque<Integer> work) {
        var known = users.get(part);
        if (known == null) {
            users.put(part, known = new ArrayList<>(2));
            asked.add(part);
            work.add(part);
        }
        if (user >= 0 && !known.contains(user)) {
            known.add(user);
        }
    }

    /** Expansions may make the arrays grow. */
    private byte[] answers(boolean empty) {
        return empty ? nullable : productive;
    }
}
