package io.github.panamallama.sampling.automaton;

import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * Regular languages of bytes as terms, each an {@code int} and each at the same time a state of a deterministic automaton: the
 * derivative of a term by a byte (Brzozowski 1964) is the term for what may follow that byte. Equal terms have equal numbers; a term
 * without any word is {@link #NOTHING} wherever {@link #next} gives it. Automata are built as far as they are walked.
 *
 * <p>Terms live as long as their pool. Not safe for several threads at once.
 */
public final class RegexPool {
    /** The language without a word. */
    public static final int NOTHING = 0;
    /** The language of the empty word alone. */
    public static final int EMPTY = 1;
    /** Every byte string, also what is not UTF-8. */
    public static final int EVERYTHING = 2;

    /** As {@code max} of {@link #repeat}: any number of times. */
    public static final int UNBOUNDED = Integer.MAX_VALUE;

    /** The largest bounded count of {@link #repeat}. */
    public static final int MAX_COUNT = 1 << 30;

    /** Terms nested deeper than this are refused: operations on terms recurse. */
    static final int MAX_DEPTH = 700;
    /** How far common beginnings of alternatives are looked for in one go. */
    private static final int FACTOR_DEPTH = 100;

    private enum Kind { BYTES, CAT, ALT, AND, NOT, REPEAT, MULTIPLE, DECIMAL_MULTIPLE }

    /** What a term is; {@code more} holds the children of ALT and AND, ascending. */
    private record Term(Kind kind, int a, int b, int c, ByteSet set, Children more) {
        boolean same(Term t) {
            return kind == t.kind && a == t.a && b == t.b && c == t.c && (set == null || set.equals(t.set))
                    && (more == null || Arrays.equals(more.ids, t.more.ids));
        }

        int hash() {
            int h = ((kind.ordinal() * 31 + a) * 0x9e3779b1 + b) * 0x85ebca6b + c;
            h += set != null ? set.hashCode() : more != null ? Arrays.hashCode(more.ids) : 0;
            h *= 0x9e3779b1;
            return h ^ h >>> 15;
        }
    }

    private record Children(int[] ids) {}

    private static final byte UNKNOWN = 0;
    private static final byte INHABITED = 1;
    private static final byte EMPTY_LANGUAGE = 2;

    private final int maxTerms;
    private final int maxSearch;
    private int[] slots = new int[2048]; // 1 + term, by hash
    private final List<ByteClasses> partitions = new ArrayList<>();
    private final Map<ByteClasses, Integer> partitionIds = new HashMap<>();
    private final PairMap meets = new PairMap();

    private Term[] terms = new Term[1024];
    private boolean[] nullable = new boolean[1024];
    private boolean[] suspect = new boolean[1024];   // may have no word without being NOTHING: holds an intersection or complement
    private byte[] inhabited = new byte[1024];       // what is known about suspects
    private short[] depths = new short[1024];
    private int[] classes = new int[1024];           // 1 + partition
    private int[][] derivatives = new int[1024][];   // by class; -1 where not yet known
    private int[][] transitions = new int[1024][];   // derivatives, but NOTHING for those without a word
    private int size;
    private long volume;

    private final Map<CodePoints, int[]> written = new HashMap<>(); // by Encoding

    /** A pool with the default limits. */
    public RegexPool() {
        this(1 << 22, 1 << 16);
    }

    /**
     * @param maxTerms   terms and states that may exist before {@link LimitException}
     * @param maxSearch  states that may be looked at to find out whether one intersection has a word
     */
    public RegexPool(int maxTerms, int maxSearch) {
        this.maxTerms = maxTerms;
        this.maxSearch = maxSearch;
        add(new Term(Kind.BYTES, 0, 0, 0, ByteSet.NONE, null), false, false, 0);
        add(new Term(Kind.REPEAT, NOTHING, 0, 0, null, null), true, false, 0);
        add(new Term(Kind.NOT, NOTHING, 0, 0, null, null), true, false, 0);
    }

    // ---- building

    /** One byte out of a set. */
    int bytes(ByteSet set) {
        return set.isEmpty() ? NOTHING : intern(new Term(Kind.BYTES, 0, 0, 0, set, null));
    }

    /** Exactly one byte, {@code 0} to {@code 255}. */
    public int oneByte(int b) {
        return bytes(ByteSet.of(b));
    }

    /** Exactly these bytes. */
    public int literal(byte[] bytes) {
        int term = EMPTY;
        for (int i = bytes.length - 1; i >= 0; i--) {
            term = cat(bytes(ByteSet.of(bytes[i] & 0xff)), term);
        }
        return term;
    }

    /** Exactly this text as UTF-8. */
    public int literal(String text) {
        return literal(text.getBytes(StandardCharsets.UTF_8));
    }

    /** Exactly this text, in every way that {@code encoding} can write it. */
    public int literal(String text, Encoding encoding) {
        if (encoding == Encoding.UTF8) {
            return literal(text);
        }
        int term = EMPTY;
        for (int i = text.length(); i > 0; ) {
            int c = text.codePointBefore(i);
            i -= Character.charCount(c);
            term = cat(chars(CodePoints.of(c), encoding), term);
        }
        return term;
    }

    /** Any one of these texts; shares their beginnings. */
    public int anyOf(Collection<String> texts, Encoding encoding) {
        var sorted = texts.stream().distinct().map(t -> t.codePoints().toArray()).sorted(Arrays::compare).toArray(int[][]::new);
        return sorted.length == 0 ? NOTHING : anyOf(sorted, 0, sorted.length, 0, encoding);
    }

    /** What may stand from character {@code at} on in texts {@code from} to {@code to}, which are the same before it. */
    private int anyOf(int[][] texts, int from, int to, int at, Encoding encoding) {
        int same = Arrays.mismatch(texts[from], texts[to - 1]); // of sorted texts the first and the last differ earliest
        int end = same < 0 ? texts[from].length : same;
        var options = new ArrayList<Integer>();
        int next = from;
        if (texts[from].length == end) {
            options.add(EMPTY);
            next++;
        }
        while (next < to) {
            int c = texts[next][end];
            int first = next;
            while (next < to && texts[next][end] == c) {
                next++;
            }
            options.add(cat(chars(CodePoints.of(c), encoding), anyOf(texts, first, next, end + 1, encoding)));
        }
        int term = alt(options.stream().mapToInt(Integer::intValue).toArray());
        for (int i = end - 1; i >= at; i--) {
            term = cat(chars(CodePoints.of(texts[from][i]), encoding), term);
        }
        return term;
    }

    /** One character out of a set. Surrogates have no writing and fall out. */
    public int chars(CodePoints set, Encoding encoding) {
        var known = written.computeIfAbsent(set, _ -> new int[] {-1, -1, -1});
        if (known[encoding.ordinal()] < 0) {
            int term = new CharacterTerms(this).of(set.minus(CodePoints.SURROGATE), encoding);
            known[encoding.ordinal()] = term;
        }
        return known[encoding.ordinal()];
    }

    /** Any one character. */
    public int anyChar(Encoding encoding) {
        return chars(CodePoints.ALL, encoding);
    }

    /** Any text: every string of characters in this encoding. */
    public int text(Encoding encoding) {
        return repeat(anyChar(encoding), 0, UNBOUNDED);
    }

    /**
     * What the regular expression matches as a whole, as if it stood between {@code ^} and {@code $}. The syntax is ECMA-262's;
     * characters are code points. Back references, look-behind, word boundaries and flags are refused.
     *
     * @throws RegexSyntaxException if it does not parse or is refused
     */
    public int match(String pattern, Encoding encoding) {
        return new EcmaPattern(this, pattern, encoding).match();
    }

    /**
     * Every text in which the regular expression matches somewhere: JSON Schema's {@code pattern}.
     *
     * @throws RegexSyntaxException if it does not parse or is refused
     */
    public int search(String pattern, Encoding encoding) {
        return new EcmaPattern(this, pattern, encoding).search();
    }

    /** Decimal digits, at least one, whose value is a multiple of {@code n > 0}; leading zeros are allowed. */
    public int multiple(int n) {
        if (n < 1) {
            throw new IllegalArgumentException("multiples of " + n + "; the divisor must be positive");
        }
        return intern(new Term(Kind.MULTIPLE, n, 0, 0, null, null));
    }

    /**
     * Decimal digits, at least one, and perhaps a point and more digits, whose value is a multiple of {@code n / 10^scale > 0}; leading
     * zeros are allowed.
     */
    public int multiple(int n, int scale) {
        if (n < 1 || scale < 0 || scale > MAX_SCALE) {
            throw new IllegalArgumentException("multiples of " + n + " / 10^" + scale + "; n must be positive, the scale 0 to "
                    + MAX_SCALE);
        }
        return intern(new Term(Kind.DECIMAL_MULTIPLE, n, 0, scale << 12, null, null));
    }

    private static final int MAX_SCALE = 4_000;

    /** {@code residue * 10^digits} modulo {@code n}. */
    private static int shifted(long residue, int digits, int n) {
        for (int i = 0; i < digits && residue != 0; i++) {
            residue = residue * 10 % n;
        }
        return (int) residue;
    }

    /** A word of each, one after the other. */
    public int concat(int... parts) {
        int term = EMPTY;
        for (int i = parts.length - 1; i >= 0; i--) {
            term = cat(parts[i], term);
        }
        return term;
    }

    private int cat(int a, int b) {
        if (a == NOTHING || b == NOTHING) {
            return NOTHING;
        }
        if (a == EMPTY) {
            return b;
        }
        if (b == EMPTY) {
            return a;
        }
        if (terms[a].kind == Kind.CAT) {
            var spine = new ArrayList<Integer>();
            int rest = a;
            while (terms[rest].kind == Kind.CAT) {
                spine.add(terms[rest].a);
                rest = terms[rest].b;
            }
            int term = cat(rest, b);
            for (int i = spine.size() - 1; i >= 0; i--) {
                term = cat(spine.get(i), term);
            }
            return term;
        }
        // x{m,n} x{p,q} is x{m+p,n+q}
        int head = terms[b].kind == Kind.CAT ? terms[b].a : b;
        if (terms[head].kind == Kind.REPEAT || head == EVERYTHING || terms[a].kind == Kind.REPEAT && body(a) == head) {
            int tail = head == b ? EMPTY : terms[b].b;
            if (a == EVERYTHING && head == EVERYTHING) {
                return b;
            }
            if (head != EVERYTHING && a != EVERYTHING && body(a) == body(head) && countable(a, head)) {
                return cat(repeat(body(a), min(a) + min(head), plus(max(a), max(head))), tail);
            }
        }
        return intern(new Term(Kind.CAT, a, b, 0, null, null));
    }

    private int body(int t) {
        return terms[t].kind == Kind.REPEAT && t != EMPTY ? terms[t].a : t;
    }

    private int min(int t) {
        return terms[t].kind == Kind.REPEAT ? terms[t].b : 1;
    }

    private int max(int t) {
        return terms[t].kind == Kind.REPEAT ? terms[t].c : 1;
    }

    private static int plus(int a, int b) {
        return a == UNBOUNDED || b == UNBOUNDED ? UNBOUNDED : a + b;
    }

    private boolean countable(int a, int b) {
        return (long) min(a) + min(b) <= MAX_COUNT
                && (max(a) == UNBOUNDED || max(b) == UNBOUNDED || (long) max(a) + max(b) <= MAX_COUNT);
    }

    /** The words of any. */
    public int alt(int... options) {
        return alt(options, 0);
    }

    private int alt(int[] options, int factored) {
        if (options.length == 2) {
            if (options[0] == options[1] || options[1] == NOTHING) {
                return options[0];
            }
            if (options[0] == NOTHING) {
                return options[1];
            }
        }
        var flat = flatten(Kind.ALT, options);
        var set = ByteSet.NONE;
        boolean empty = false;
        boolean emptyElsewhere = false;
        int n = 0;
        for (int t : flat) {
            if (t == EVERYTHING) {
                return EVERYTHING;
            }
            if (t == EMPTY) {
                empty = true;
            } else if (terms[t].kind == Kind.BYTES) {
                set = set.or(terms[t].set);
            } else {
                emptyElsewhere |= nullable[t];
                flat[n++] = t;
            }
        }
        var rest = Arrays.copyOf(flat, n);
        if (n > 1) {
            rest = factored < FACTOR_DEPTH ? factor(rest, factored) : rest;
        }
        int single = bytes(set);
        var all = new int[rest.length + 2];
        n = 0;
        for (int t : rest) {
            all[n++] = t;
        }
        if (single != NOTHING) {
            all[n++] = single;
        }
        if (empty && !emptyElsewhere) {
            all[n++] = EMPTY;
        }
        all = sorted(all, n);
        if (complementary(all)) {
            return EVERYTHING;
        }
        return switch (all.length) {
            case 0 -> NOTHING;
            case 1 -> all[0];
            default -> intern(new Term(Kind.ALT, 0, 0, 0, null, new Children(all)));
        };
    }

    /** Joins counted repetitions of the same before the same, where their counts touch: {@code x{0,3}y | x{0,2}y | xy | y}. */
    private int[] joinCounts(int[] options) {
        Map<Long, List<int[]>> counts = null; // by body and tail: minimum, maximum
        for (int t : options) {
            int head = terms[t].kind == Kind.CAT ? terms[t].a : t;
            if (terms[head].kind == Kind.REPEAT && head != EMPTY) {
                counts = counts == null ? new HashMap<>() : counts;
                counts.computeIfAbsent((long) terms[head].a << 32 | tail(t), _ -> new ArrayList<>(2)).add(new int[] {terms[head].b,
                        terms[head].c});
            }
        }
        if (counts == null || options.length == 1) {
            return options;
        }
        var rest = new int[options.length];
        int n = 0;
        for (int t : options) {
            int head = terms[t].kind == Kind.CAT ? terms[t].a : t;
            if (terms[head].kind == Kind.REPEAT && head != EMPTY) {
                continue;
            }
            var once = counts.get((long) head << 32 | tail(t));
            if (once != null) {
                once.add(new int[] {1, 1});
            } else {
                rest[n++] = t;
            }
        }
        // what follows a repetition, standing alone, is none of it
        var result = new TreeSet<Integer>();
        for (int i = 0; i < n; i++) {
            int t = rest[i];
            boolean joined = false;
            for (var e : counts.entrySet()) {
                if ((int) (long) e.getKey() == t) {
                    e.getValue().add(new int[] {0, 0});
                    joined = true;
                }
            }
            if (!joined) {
                result.add(t);
            }
        }
        for (var e : counts.entrySet()) {
            var ranges = e.getValue();
            ranges.sort((a, b) -> Integer.compare(a[0], b[0]));
            int body = (int) (e.getKey() >> 32);
            int tail = (int) (long) e.getKey();
            for (int i = 0; i < ranges.size(); ) {
                int min = ranges.get(i)[0];
                int max = ranges.get(i)[1];
                for (i++; i < ranges.size() && ranges.get(i)[0] - 1 <= max; i++) {
                    max = Math.max(max, ranges.get(i)[1]);
                }
                result.add(cat(repeat(body, min, max), tail));
            }
        }
        return flatten(Kind.ALT, result.stream().mapToInt(Integer::intValue).toArray());
    }

    private int tail(int term) {
        return terms[term].kind == Kind.CAT ? terms[term].b : EMPTY;
    }

    /** Joins alternatives that begin with the same term, and bytes before the same term. */
    private int[] factor(int[] options, int factored) {
        options = joinCounts(options);
        var byTail = new HashMap<Integer, ByteSet>();
        var byHead = new TreeMap<Integer, List<Integer>>();
        boolean changed = false;
        for (int t : options) {
            if (terms[t].kind == Kind.CAT && terms[terms[t].a].kind == Kind.BYTES) {
                byTail.merge(terms[t].b, terms[terms[t].a].set, ByteSet::or);
            }
        }
        for (int t : options) {
            boolean cat = terms[t].kind == Kind.CAT;
            int head = cat ? terms[t].a : t;
            int tail = cat ? terms[t].b : EMPTY;
            if (cat && terms[head].kind == Kind.BYTES) {
                var joined = byTail.remove(tail);
                if (joined == null) {
                    changed = true;
                    continue;
                }
                changed |= !joined.equals(terms[head].set);
                head = bytes(joined);
            }
            var tails = byHead.computeIfAbsent(head, _ -> new ArrayList<>(1));
            changed |= !tails.isEmpty();
            tails.add(tail);
        }
        if (!changed) {
            return options;
        }
        var result = new int[byHead.size()];
        int n = 0;
        for (var e : byHead.entrySet()) {
            var tails = e.getValue();
            int tail = tails.size() == 1 ? tails.getFirst() : alt(tails.stream().mapToInt(Integer::intValue).toArray(), factored + 1);
            result[n++] = cat(e.getKey(), tail);
        }
        return flatten(Kind.ALT, result);
    }

    /** The words of all. */
    public int and(int... terms) {
        var flat = flatten(Kind.AND, terms);
        ByteSet set = null;
        boolean empty = false;
        int n = 0;
        for (int t : flat) {
            if (t == NOTHING) {
                return NOTHING;
            }
            if (t == EVERYTHING) {
                continue;
            }
            if (t == EMPTY) {
                empty = true;
            }
            if (this.terms[t].kind == Kind.BYTES) {
                set = set == null ? this.terms[t].set : set.and(this.terms[t].set);
            } else {
                flat[n++] = t;
            }
        }
        if (empty) {
            for (int t : terms) {
                if (!nullable[t]) {
                    return NOTHING;
                }
            }
            return EMPTY;
        }
        if (set != null) {
            // words of one byte: the others decide by their derivatives
            if (n > 0) {
                var w = new ByteSet[] {ByteSet.NONE};
                for (int b = 0; b < 256; b++) {
                    if (set.contains(b)) {
                        boolean all = true;
                        for (int i = 0; i < n && all; i++) {
                            int after = derivative(flat[i], b); // may replace the arrays
                            all = nullable[after];
                        }
                        if (all) {
                            w[0] = w[0].or(ByteSet.of(b));
                        }
                    }
                }
                set = w[0];
            }
            return bytes(set);
        }
        var all = sorted(flat, n);
        if (complementary(all)) {
            return NOTHING;
        }
        return switch (all.length) {
            case 0 -> EVERYTHING;
            case 1 -> all[0];
            default -> intern(new Term(Kind.AND, 0, 0, 0, null, new Children(all)));
        };
    }

    /** Every byte string that is no word of {@code term}, also what is not UTF-8; see {@link #complement}. */
    public int not(int term) {
        if (term == NOTHING) {
            return EVERYTHING;
        }
        return terms[term].kind == Kind.NOT ? terms[term].a : intern(new Term(Kind.NOT, term, 0, 0, null, null));
    }

    /** Every text in {@code encoding} that is no word of {@code term}. */
    public int complement(int term, Encoding encoding) {
        return minus(text(encoding), term);
    }

    /** The words of {@code a} that are not words of {@code b}. */
    public int minus(int a, int b) {
        if (b == EMPTY) {
            return notEmpty(a);
        }
        return and(a, not(b));
    }

    /** The words of {@code term} but the empty one. */
    public int notEmpty(int term) {
        if (!nullable[term]) {
            return term;
        }
        if (term == EMPTY) {
            return NOTHING;
        }
        var t = terms[term];
        if (t.kind == Kind.REPEAT && !nullable[t.a]) {
            return repeat(t.a, 1, t.c);
        }
        if (t.kind == Kind.ALT) {
            return alt(Arrays.stream(t.more.ids).map(this::notEmpty).toArray());
        }
        return and(term, not(EMPTY));
    }

    /**
     * {@code min} to {@code max} words of {@code term} one after the other.
     *
     * @param max {@link #UNBOUNDED} for any number
     */
    public int repeat(int term, int min, int max) {
        if (min < 0 || max < min) {
            throw new IllegalArgumentException("repeated " + min + " to " + max + " times");
        }
        if (min > MAX_COUNT || max > MAX_COUNT && max != UNBOUNDED) {
            throw new LimitException("a part repeated " + Math.max(min, max) + " times; at most " + MAX_COUNT + ", or unbounded");
        }
        if (max == 0 || term == EMPTY) {
            return EMPTY;
        }
        if (term == NOTHING) {
            return min == 0 ? EMPTY : NOTHING;
        }
        if (nullable[term]) {
            min = 0;
        }
        if (max == 1 && min == 1 || term == EVERYTHING) {
            return term;
        }
        var t = terms[term];
        if (min == 0 && t.kind == Kind.ALT && t.more.ids[0] == EMPTY) {
            return repeat(alt(Arrays.copyOfRange(t.more.ids, 1, t.more.ids.length)), 0, max);
        }
        if (t.kind == Kind.REPEAT && (t.c == UNBOUNDED && t.b <= 1 && min <= 1 || max == UNBOUNDED && t.b <= 1 && min <= 1)) {
            return repeat(t.a, Math.min(t.b, min), UNBOUNDED);
        }
        if (max == 1) {
            return nullable[term] ? term : alt(EMPTY, term);
        }
        return intern(new Term(Kind.REPEAT, term, min, max, null, null));
    }

    /** {@code term} or nothing. */
    public int optional(int term) {
        return alt(term, EMPTY);
    }

    private int[] flatten(Kind kind, int[] ids) {
        int n = 0;
        for (int t : ids) {
            n += t == NOTHING && kind == Kind.ALT ? 0 : terms[t].kind == kind ? terms[t].more.ids.length : 1;
        }
        var flat = new int[n];
        n = 0;
        for (int t : ids) {
            if (t == NOTHING && kind == Kind.ALT) {
                continue;
            }
            if (terms[t].kind == kind) {
                System.arraycopy(terms[t].more.ids, 0, flat, n, terms[t].more.ids.length);
                n += terms[t].more.ids.length;
            } else {
                flat[n++] = t;
            }
        }
        return sorted(flat, n);
    }

    private static int[] sorted(int[] ids, int n) {
        Arrays.sort(ids, 0, n);
        int kept = 0;
        for (int i = 0; i < n; i++) {
            if (i == 0 || ids[i] != ids[i - 1]) {
                ids[kept++] = ids[i];
            }
        }
        return Arrays.copyOf(ids, kept);
    }

    /** Whether a term and its complement are both there. */
    private boolean complementary(int[] ids) {
        for (int t : ids) {
            if (terms[t].kind == Kind.NOT && Arrays.binarySearch(ids, terms[t].a) >= 0) {
                return true;
            }
        }
        return false;
    }

    private int intern(Term term) {
        for (int slot = term.hash() & slots.length - 1; slots[slot] != 0; slot = slot + 1 & slots.length - 1) {
            if (terms[slots[slot] - 1].same(term)) {
                return slots[slot] - 1;
            }
        }
        boolean empty;
        boolean doubtful;
        int depth;
        switch (term.kind) {
            case BYTES -> {
                empty = false;
                doubtful = false;
                depth = 0;
            }
            case CAT -> {
                empty = nullable[term.a] && nullable[term.b];
                doubtful = suspect[term.a] || suspect[term.b];
                depth = Math.max(depths[term.a] + 1, depths[term.b]);
            }
            case ALT -> {
                empty = false;
                doubtful = true;
                depth = 0;
                for (int t : term.more.ids) {
                    empty |= nullable[t];
                    doubtful &= suspect[t];
                    depth = Math.max(depth, depths[t] + 1);
                }
            }
            case AND -> {
                empty = true;
                depth = 0;
                for (int t : term.more.ids) {
                    empty &= nullable[t];
                    depth = Math.max(depth, depths[t] + 1);
                }
                doubtful = !empty;
            }
            case NOT -> {
                empty = !nullable[term.a];
                doubtful = !empty;
                depth = depths[term.a] + 1;
            }
            case REPEAT -> {
                empty = term.b == 0;
                doubtful = !empty && suspect[term.a];
                depth = depths[term.a] + 1;
            }
            case DECIMAL_MULTIPLE -> {
                int scale = term.c >> 12;
                int phase = term.c & 0xfff;
                empty = phase == 1 ? shifted(term.b, scale, term.a) == 0
                        : phase > 2 && shifted(term.b, Math.max(0, scale - (phase - 2)), term.a) == 0;
                doubtful = phase >= 2; // digits may run out
                depth = 0;
            }
            case MULTIPLE -> {
                empty = term.c == 1 && term.b == 0;
                doubtful = false;
                depth = 0;
            }
            default -> throw new AssertionError(term.kind);
        }
        if (depth > MAX_DEPTH) {
            throw new LimitException("expressions nested deeper than " + MAX_DEPTH + "; nest less, or give parts names as rules");
        }
        return add(term, empty, doubtful && !empty, depth);
    }

    private int add(Term term, boolean empty, boolean doubtful, int depth) {
        if (size >= maxTerms) {
            throw new LimitException("more than " + maxTerms + " automaton states; the grammar's expressions are too large or repeat too"
                    + " long counted parts");
        }
        if (size == terms.length) {
            int n = 2 * size;
            terms = Arrays.copyOf(terms, n);
            nullable = Arrays.copyOf(nullable, n);
            suspect = Arrays.copyOf(suspect, n);
            inhabited = Arrays.copyOf(inhabited, n);
            depths = Arrays.copyOf(depths, n);
            classes = Arrays.copyOf(classes, n);
            derivatives = Arrays.copyOf(derivatives, n);
            transitions = Arrays.copyOf(transitions, n);
        }
        int id = size++;
        volume += 24 + (term.more == null ? 0 : term.more.ids.length);
        terms[id] = term;
        nullable[id] = empty;
        suspect[id] = doubtful;
        depths[id] = (short) depth;
        if (2 * size > slots.length) {
            slots = new int[2 * slots.length];
            for (int t = 0; t < size; t++) {
                place(t);
            }
        } else {
            place(id);
        }
        return id;
    }

    private void place(int term) {
        int slot = terms[term].hash() & slots.length - 1;
        while (slots[slot] != 0) {
            slot = slot + 1 & slots.length - 1;
        }
        slots[slot] = term + 1;
    }

    // ---- asking

    /** Whether the empty word is one of the term's. */
    public boolean nullable(int term) {
        return nullable[term];
    }

    /**
     * Whether the term has no word at all.
     *
     * @throws LimitException if that takes longer than the pool's limit
     */
    public boolean isEmpty(int term) {
        if (!suspect[term]) {
            return term == NOTHING;
        }
        return inhabited[term] != UNKNOWN ? inhabited[term] == EMPTY_LANGUAGE : search(term);
    }

    /** Whether every word of {@code a} is a word of {@code b}. */
    public boolean contains(int b, int a) {
        return isEmpty(minus(a, b));
    }

    /** Whether {@code bytes} is a word of the term. */
    public boolean matches(int term, byte[] bytes) {
        for (byte b : bytes) {
            term = next(term, b);
        }
        return nullable[term];
    }

    /** Whether {@code text} as UTF-8 is a word of the term. */
    public boolean matches(int term, String text) {
        return matches(term, text.getBytes(StandardCharsets.UTF_8));
    }

    /** What may follow the byte {@code b}: the words that begin with it, without it; {@link #NOTHING} if there are none. */
    public int next(int term, int b) {
        int c = classes(term).of[b & 0xff] & 0xff;
        var row = transitions[term];
        if (row == null) {
            row = transitions[term] = unknown(classes(term).size());
        }
        int next = row[c];
        if (next < 0) {
            next = derivative(term, b & 0xff);
            next = isEmpty(next) ? NOTHING : next;
            row[c] = next;
        }
        return next;
    }

    /**
     * All words of the term by ascending bytes, if there are at most {@code limit}; null if there are more, or infinitely many.
     *
     * @throws LimitException as {@link #isEmpty}
     */
    public List<byte[]> words(int term, int limit) {
        var found = new ArrayList<byte[]>();
        if (isEmpty(term)) {
            return found;
        }
        // depth first; a state met again on the way down is a loop
        var path = new ArrayList<Integer>(List.of(term));
        var nextByte = new ArrayList<Integer>(List.of(-1));
        var onPath = new HashMap<Integer, Boolean>(Map.of(term, true));
        var word = new byte[64];
        while (!path.isEmpty()) {
            int depth = path.size() - 1;
            int state = path.get(depth);
            int b = nextByte.get(depth);
            if (b < 0 && nullable[state]) {
                if (found.size() == limit) {
                    return null;
                }
                found.add(Arrays.copyOf(word, depth));
            }
            int next = NOTHING;
            while (next == NOTHING && ++b < 256) {
                next = next(state, b);
            }
            nextByte.set(depth, b);
            if (b >= 256) {
                path.removeLast();
                nextByte.removeLast();
                onPath.remove(state);
                continue;
            }
            if (onPath.putIfAbsent(next, true) != null) {
                return null;
            }
            if (depth == word.length) {
                word = Arrays.copyOf(word, 2 * depth);
            }
            word[depth] = (byte) b;
            path.add(next);
            nextByte.add(-1);
        }
        return found;
    }

    /** A shortest word of the term, null if there is none. */
    public byte[] shortest(int term) {
        if (isEmpty(term)) {
            return null;
        }
        var from = new HashMap<Integer, int[]>(Map.of(term, new int[] {-1, 0}));
        var queue = new ArrayDeque<Integer>(List.of(term));
        while (!queue.isEmpty()) {
            int state = queue.remove();
            if (nullable[state]) {
                var word = new ArrayDeque<Byte>();
                for (int[] step = from.get(state); step[0] >= 0; step = from.get(step[0])) {
                    word.addFirst((byte) step[1]);
                }
                var bytes = new byte[word.size()];
                for (int i = 0; i < bytes.length; i++) {
                    bytes[i] = word.remove();
                }
                return bytes;
            }
            for (byte b : classes(state).some) {
                int next = next(state, b);
                if (next != NOTHING && from.putIfAbsent(next, new int[] {state, b & 0xff}) == null) {
                    queue.add(next);
                }
            }
        }
        throw new AssertionError("term " + term + " has a word, but none was found");
    }

    /** What is repeated where the term begins with a repetition, -1 if it does not. */
    int leadingRepeat(int term) {
        int head = terms[term].kind == Kind.CAT ? terms[term].a : term;
        return terms[head].kind == Kind.REPEAT && head != EMPTY ? terms[head].a : -1;
    }

    /** How often at most {@link #leadingRepeat} is repeated. */
    int leadingRepeatMax(int term) {
        return terms[terms[term].kind == Kind.CAT ? terms[term].a : term].c;
    }

    /** What follows {@link #leadingRepeat}. */
    int afterLeadingRepeat(int term) {
        return terms[term].kind == Kind.CAT ? terms[term].b : EMPTY;
    }

    /** Memory, in ints. */
    long volume() {
        return volume;
    }

    /** Terms so far, a measure of memory. */
    public int size() {
        return size;
    }

    /** Bytes of one class are the same to this state. */
    ByteClasses classes(int term) {
        return partitions.get(partition(term));
    }

    /** Classes that are the same to both states. */
    ByteClasses meet(int a, int b) {
        return partitions.get(joint(partition(a), partition(b)));
    }

    /** The number of the term's classes. */
    private int partition(int term) {
        if (classes[term] == 0) {
            classes[term] = 1 + partitionOf(term);
        }
        return classes[term] - 1;
    }

    private int partitionOf(int term) {
        var t = terms[term];
        return switch (t.kind) {
            case BYTES -> number(ByteClasses.of(t.set));
            case CAT -> {
                int all = number(ByteClasses.ONE);
                int rest = term;
                while (true) {
                    boolean cat = terms[rest].kind == Kind.CAT;
                    int head = cat ? terms[rest].a : rest;
                    all = joint(all, partition(head));
                    if (!cat || !nullable[head]) {
                        yield all;
                    }
                    rest = terms[rest].b;
                }
            }
            case ALT, AND -> {
                int all = number(ByteClasses.ONE);
                for (int child : t.more.ids) {
                    all = joint(all, partition(child));
                }
                yield all;
            }
            case NOT, REPEAT -> term == EVERYTHING || term == EMPTY ? number(ByteClasses.ONE) : partition(t.a);
            case MULTIPLE -> number(ByteClasses.digits());
            case DECIMAL_MULTIPLE -> number(ByteClasses.digits().meet(ByteClasses.of(ByteSet.of('.'))));
        };
    }

    private int number(ByteClasses classes) {
        return partitionIds.computeIfAbsent(classes, c -> {
            partitions.add(c);
            return partitions.size() - 1;
        });
    }

    /** The number of the coarsest classes finer than both. */
    private int joint(int a, int b) {
        if (a == b) {
            return a;
        }
        int known = meets.get(Math.min(a, b), Math.max(a, b));
        if (known < 0) {
            known = number(partitions.get(a).meet(partitions.get(b)));
            meets.put(Math.min(a, b), Math.max(a, b), known);
        }
        return known;
    }

    /** As {@link #next}, but it may be a term without a word. */
    private int derivative(int term, int b) {
        var partition = classes(term);
        var row = derivatives[term];
        if (row == null) {
            row = derivatives[term] = unknown(partition.size());
        }
        int c = partition.of[b] & 0xff;
        int known = row[c];
        return known >= 0 ? known : (row[c] = derive(term, b));
    }

    private int[] unknown(int n) {
        volume += n + 4;
        var row = new int[n];
        Arrays.fill(row, -1);
        return row;
    }

    private int derive(int term, int b) {
        if (term <= EMPTY) {
            return NOTHING;
        }
        var t = terms[term];
        return switch (t.kind) {
            case BYTES -> t.set.contains(b) ? EMPTY : NOTHING;
            case CAT -> {
                var options = new int[2];
                int n = 0;
                int rest = term;
                while (true) {
                    boolean cat = terms[rest].kind == Kind.CAT;
                    int head = cat ? terms[rest].a : rest;
                    int after = derivative(head, b);
                    if (after != NOTHING) {
                        options = n == options.length ? Arrays.copyOf(options, 2 * n) : options;
                        options[n++] = cat ? cat(after, terms[rest].b) : after;
                    }
                    if (!cat || !nullable[head]) {
                        break;
                    }
                    rest = terms[rest].b;
                }
                yield alt(Arrays.copyOf(options, n), 0);
            }
            case ALT -> {
                var options = new int[t.more.ids.length];
                for (int i = 0; i < options.length; i++) {
                    options[i] = derivative(t.more.ids[i], b);
                }
                yield alt(options, 0);
            }
            case AND -> {
                var all = new int[t.more.ids.length];
                for (int i = 0; i < all.length; i++) {
                    all[i] = derivative(t.more.ids[i], b);
                    if (all[i] == NOTHING) {
                        yield NOTHING;
                    }
                }
                yield and(all);
            }
            case NOT -> not(derivative(t.a, b));
            case REPEAT -> {
                int after = derivative(t.a, b);
                yield after == NOTHING ? NOTHING
                        : cat(after, repeat(t.a, Math.max(0, t.b - 1), t.c == UNBOUNDED ? UNBOUNDED : t.c - 1));
            }
            case MULTIPLE -> b < '0' || b > '9' ? NOTHING
                    : intern(new Term(Kind.MULTIPLE, t.a, (int) ((t.b * 10L + b - '0') % t.a), 1, null, null));
            case DECIMAL_MULTIPLE -> {
                int scale = t.c >> 12;
                int phase = t.c & 0xfff; // 0 before the first digit, 1 in the whole part, then 2 + digits after the point
                if (b == '.' && phase == 1) {
                    yield intern(new Term(Kind.DECIMAL_MULTIPLE, t.a, t.b, scale << 12 | 2, null, null));
                }
                if (b < '0' || b > '9' || phase >= 2 + scale && b != '0') {
                    yield NOTHING;
                }
                boolean beyond = phase >= 2 + scale;
                yield intern(new Term(Kind.DECIMAL_MULTIPLE, t.a, beyond ? t.b : (int) ((t.b * 10L + b - '0') % t.a),
                        scale << 12 | (phase < 2 ? 1 : Math.min(phase + 1, 2 + Math.max(1, scale))), null, null));
            }
        };
    }

    /** Looks for a word of a suspect term, depth first, and remembers what that tells about the terms on the way. */
    private boolean search(int start) {
        var parent = new HashMap<Integer, Integer>();
        var stack = new ArrayDeque<Integer>();
        parent.put(start, -1);
        stack.push(start);
        while (!stack.isEmpty()) {
            int term = stack.pop();
            if (!suspect[term] && term != NOTHING || inhabited[term] == INHABITED) {
                for (int t = term; t >= 0; t = parent.get(t)) {
                    inhabited[t] = INHABITED;
                }
                return false;
            }
            if (term == NOTHING || inhabited[term] == EMPTY_LANGUAGE) {
                continue;
            }
            for (byte b : classes(term).some) {
                int next = derivative(term, b & 0xff);
                if (next != NOTHING && parent.putIfAbsent(next, term) == null) {
                    stack.push(next);
                }
            }
            if (parent.size() > maxSearch) {
                throw new LimitException("whether an intersection or complement has a word was not found within " + maxSearch
                        + " states; use simpler patterns or smaller counts");
            }
        }
        for (int t : parent.keySet()) {
            inhabited[t] = EMPTY_LANGUAGE;
        }
        return true;
    }

    /** The term in a notation close to regular expressions, for messages and debugging. */
    public String toString(int term) {
        var s = new StringBuilder();
        print(term, s);
        return s.toString();
    }

    private void print(int term, StringBuilder s) {
        if (s.length() > 400) {
            s.append("...");
            return;
        }
        var t = terms[term];
        switch (t.kind) {
            case BYTES -> {
                int count = Long.bitCount(t.set.w0()) + Long.bitCount(t.set.w1()) + Long.bitCount(t.set.w2()) + Long.bitCount(t.set.w3());
                s.append(count == 1 ? "" : "[");
                for (int b = 0; b < 256; b++) {
                    if (t.set.contains(b)) {
                        int end = b;
                        while (end < 255 && t.set.contains(end + 1)) {
                            end++;
                        }
                        s.append(b > 32 && b < 127 ? String.valueOf((char) b) : String.format("\\x%02x", b));
                        if (end > b) {
                            s.append('-').append(end > 32 && end < 127 ? String.valueOf((char) end) : String.format("\\x%02x", end));
                        }
                        b = end;
                    }
                }
                s.append(count == 1 ? "" : "]");
            }
            case CAT -> {
                print(t.a, s);
                print(t.b, s);
            }
            case ALT, AND -> {
                s.append('(');
                for (int i = 0; i < t.more.ids.length; i++) {
                    s.append(i == 0 ? "" : t.kind == Kind.ALT ? "|" : "&");
                    print(t.more.ids[i], s);
                }
                s.append(')');
            }
            case NOT -> {
                s.append("~(");
                print(t.a, s);
                s.append(')');
            }
            case REPEAT -> {
                if (term == EMPTY) {
                    s.append("()");
                    return;
                }
                s.append('(');
                print(t.a, s);
                s.append("){").append(t.b).append(',').append(t.c == UNBOUNDED ? "" : t.c).append('}');
            }
            case DECIMAL_MULTIPLE ->
                    s.append("<multiple of ").append(t.a).append(" / 10^").append(t.c >> 12).append(", ").append(t.b).append('>');
            case MULTIPLE -> s.append("<multiple of ").append(t.a).append(", ").append(t.b).append('>');
        }
    }
}
