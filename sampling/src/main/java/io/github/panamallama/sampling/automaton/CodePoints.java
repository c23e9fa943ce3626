package io.github.panamallama.sampling.automaton;

import java.util.Arrays;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.IntPredicate;

/** An immutable set of Unicode code points, as ascending disjoint ranges. */
public final class CodePoints {
    public static final int MAX = Character.MAX_CODE_POINT;

    public static final CodePoints NONE = new CodePoints(new int[0]);
    /** Every code point, surrogates included; they have no writing in UTF-8 and fall out there. */
    public static final CodePoints ALL = range(0, MAX);
    /** {@code \d} of ECMA-262. */
    public static final CodePoints DIGIT = range('0', '9');
    /** {@code \w} of ECMA-262. */
    public static final CodePoints WORD = DIGIT.or(range('A', 'Z')).or(range('a', 'z')).or(of('_'));
    /** {@code \s} of ECMA-262: white space and line terminators. */
    public static final CodePoints SPACE = range(9, 13).or(of(' ', 0xa0, 0x1680, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000, 0xfeff))
            .or(range(0x2000, 0x200a));
    /** What {@code .} of ECMA-262 does not match. */
    public static final CodePoints LINE_END = of('\n', '\r', 0x2028, 0x2029);
    /** Surrogates. */
    public static final CodePoints SURROGATE = range(Character.MIN_SURROGATE, Character.MAX_SURROGATE);

    private static final Map<String, CodePoints> PROPERTIES = new ConcurrentHashMap<>();

    private final int[] ranges; // first, last, first, last...

    private CodePoints(int[] ranges) {
        this.ranges = ranges;
    }

    public static CodePoints of(int... codePoints) {
        var sorted = codePoints.clone();
        Arrays.sort(sorted);
        var into = new Builder();
        for (int c : sorted) {
            into.add(c, c);
        }
        return into.build();
    }

    /** {@code first} to {@code last}, both included; none if {@code first > last}. */
    public static CodePoints range(int first, int last) {
        return first > last ? NONE : new CodePoints(new int[] {first, last});
    }

    static CodePoints where(IntPredicate test) {
        var into = new Builder();
        for (int c = 0; c <= MAX; c++) {
            if (test.test(c)) {
                into.add(c, c);
            }
        }
        return into.build();
    }

    /**
     * The set of a Unicode property as ECMA-262 writes it between the braces of {@code \p{...}}: a general category ({@code L},
     * {@code Lu}, {@code Letter}, {@code gc=Nd}) or a script ({@code Script=Greek}); null if it is unknown.
     */
    public static CodePoints property(String name) {
        return PROPERTIES.computeIfAbsent(name, n -> {
            int equals = n.indexOf('=');
            var key = equals < 0 ? "" : n.substring(0, equals);
            var value = n.substring(equals + 1);
            if (key.equals("Script") || key.equals("sc")) {
                try {
                    var script = Character.UnicodeScript.forName(value);
                    return where(c -> Character.UnicodeScript.of(c) == script);
                } catch (IllegalArgumentException _) {
                    return NONE;
                }
            }
            if (!key.isEmpty() && !key.equals("gc") && !key.equals("General_Category")) {
                return NONE;
            }
            return switch (value) {
                case "Any" -> ALL;
                case "ASCII" -> range(0, 127);
                case "Alphabetic", "Alpha" -> where(Character::isAlphabetic);
                case "Uppercase", "Upper" -> where(Character::isUpperCase);
                case "Lowercase", "Lower" -> where(Character::isLowerCase);
                case "White_Space", "space" -> where(c -> SPACE.contains(c) && c != 0xfeff || c == 0x85);
                default -> {
                    int mask = category(value);
                    yield mask == 0 ? NONE : where(c -> (mask >> Character.getType(c) & 1) != 0);
                }
            };
        }) instanceof CodePoints found && found != NONE ? found : null;
    }

    private static int category(String name) {
        return switch (name.toLowerCase(Locale.ROOT).replace("_", "")) {
            case "l", "letter" -> bits(1, 2, 3, 4, 5);
            case "lc", "casedletter" -> bits(1, 2, 3);
            case "lu", "uppercaseletter" -> bits(1);
            case "ll", "lowercaseletter" -> bits(2);
            case "lt", "titlecaseletter" -> bits(3);
            case "lm", "modifierletter" -> bits(4);
            case "lo", "otherletter" -> bits(5);
            case "m", "mark", "combiningmark" -> bits(6, 7, 8);
            case "mn", "nonspacingmark" -> bits(6);
            case "me", "enclosingmark" -> bits(7);
            case "mc", "spacingmark" -> bits(8);
            case "n", "number" -> bits(9, 10, 11);
            case "nd", "decimalnumber", "digit" -> bits(9);
            case "nl", "letternumber" -> bits(10);
            case "no", "othernumber" -> bits(11);
            case "z", "separator" -> bits(12, 13, 14);
            case "zs", "spaceseparator" -> bits(12);
            case "zl", "lineseparator" -> bits(13);
            case "zp", "paragraphseparator" -> bits(14);
            case "c", "other" -> bits(0, 15, 16, 18, 19);
            case "cc", "control", "cntrl" -> bits(15);
            case "cf", "format" -> bits(16);
            case "co", "privateuse" -> bits(18);
            case "cs", "surrogate" -> bits(19);
            case "cn", "unassigned" -> bits(0);
            case "p", "punctuation", "punct" -> bits(20, 21, 22, 23, 24, 29, 30);
            case "pd", "dashpunctuation" -> bits(20);
            case "ps", "openpunctuation" -> bits(21);
            case "pe", "closepunctuation" -> bits(22);
            case "pc", "connectorpunctuation" -> bits(23);
            case "po", "otherpunctuation" -> bits(24);
            case "pi", "initialpunctuation" -> bits(29);
            case "pf", "finalpunctuation" -> bits(30);
            case "s", "symbol" -> bits(25, 26, 27, 28);
            case "sm", "mathsymbol" -> bits(25);
            case "sc", "currencysymbol" -> bits(26);
            case "sk", "modifiersymbol" -> bits(27);
            case "so", "othersymbol" -> bits(28);
            default -> 0;
        };
    }

    /** Of the constants of {@link Character#getType(int)}. */
    private static int bits(int... types) {
        int mask = 0;
        for (int type : types) {
            mask |= 1 << type;
        }
        return mask;
    }

    public CodePoints or(CodePoints other) {
        var into = new Builder();
        int i = 0;
        int j = 0;
        while (i < ranges.length || j < other.ranges.length) {
            if (j >= other.ranges.length || i < ranges.length && ranges[i] <= other.ranges[j]) {
                into.add(ranges[i], ranges[i + 1]);
                i += 2;
            } else {
                into.add(other.ranges[j], other.ranges[j + 1]);
                j += 2;
            }
        }
        return into.build();
    }

    public CodePoints not() {
        var into = new Builder();
        int next = 0;
        for (int i = 0; i < ranges.length; i += 2) {
            if (ranges[i] > next) {
                into.add(next, ranges[i] - 1);
            }
            next = ranges[i + 1] + 1;
        }
        if (next <= MAX) {
            into.add(next, MAX);
        }
        return into.build();
    }

    public CodePoints and(CodePoints other) {
        return not().or(other.not()).not();
    }

    public CodePoints minus(CodePoints other) {
        return not().or(other).not();
    }

    public boolean contains(int codePoint) {
        int lo = 0;
        int hi = ranges.length / 2 - 1;
        while (lo <= hi) {
            int mid = lo + hi >>> 1;
            if (codePoint < ranges[2 * mid]) {
                hi = mid - 1;
            } else if (codePoint > ranges[2 * mid + 1]) {
                lo = mid + 1;
            } else {
                return true;
            }
        }
        return false;
    }

    public boolean isEmpty() {
        return ranges.length == 0;
    }

    /** Ranges. */
    public int size() {
        return ranges.length / 2;
    }

    /** The first code point of range {@code i}. */
    public int first(int i) {
        return ranges[2 * i];
    }

    /** The last code point of range {@code i}, included. */
    public int last(int i) {
        return ranges[2 * i + 1];
    }

    @Override
    public boolean equals(Object o) {
        return o instanceof CodePoints other && Arrays.equals(ranges, other.ranges);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(ranges);
    }

    @Override
    public String toString() {
        var s = new StringBuilder("[");
        for (int i = 0; i < size() && i < 16; i++) {
            s.append(i == 0 ? "" : " ").append(String.format("%x", first(i)));
            if (first(i) < last(i)) {
                s.append(String.format("-%x", last(i)));
            }
        }
        return s.append(size() > 16 ? " ...]" : "]").toString();
    }

    /** Takes ranges by ascending start and joins those that touch. */
    private static final class Builder {
        private int[] ranges = new int[16];
        private int n;

        void add(int first, int last) {
            if (n > 0 && first <= ranges[n - 1] + 1) {
                ranges[n - 1] = Math.max(ranges[n - 1], last);
                return;
            }
            if (n == ranges.length) {
                ranges = Arrays.copyOf(ranges, 2 * n);
            }
            ranges[n++] = first;
            ranges[n++] = last;
        }

        CodePoints build() {
            return new CodePoints(Arrays.copyOf(ranges, n));
        }
    }
}
