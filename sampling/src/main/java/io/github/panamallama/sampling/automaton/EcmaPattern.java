package io.github.panamallama.sampling.automaton;

import java.util.ArrayList;
import java.util.List;

/**
 * Regular expressions as ECMA-262 writes them, turned into terms. Assertions are decided by what follows: a part is compiled together
 * with the term for the rest of the text, so that {@code $} asks whether that rest may be empty and a look-ahead intersects it.
 */
final class EcmaPattern {
    private static final int MAX_NESTING = 200;
    /** How often a repeated part that holds an assertion is written out. */
    private static final int MAX_UNROLLED = 100;

    private sealed interface Node {}

    private record Chars(CodePoints set) implements Node {}

    private record Sequence(List<Node> parts) implements Node {}

    private record Choice(List<Node> options) implements Node {}

    private record Repeat(Node part, int min, int max, int at) implements Node {}

    private record Begin() implements Node {}

    private record End() implements Node {}

    private record Ahead(Node part, boolean wanted) implements Node {}

    private final RegexPool pool;
    private final String pattern;
    private final Encoding encoding;
    private int at;
    private int nesting;

    EcmaPattern(RegexPool pool, String pattern, Encoding encoding) {
        this.pool = pool;
        this.pattern = pattern;
        this.encoding = encoding;
    }

    int match() {
        return compile(parse(), RegexPool.EMPTY, true);
    }

    int search() {
        var node = parse();
        int rest = pool.text(encoding);
        int later = compile(node, rest, false);
        if (!hasBegin(node)) {
            return pool.concat(rest, later);
        }
        return pool.alt(compile(node, rest, true), pool.concat(pool.repeat(pool.anyChar(encoding), 1, RegexPool.UNBOUNDED), later));
    }

    // ---- compiling

    /**
     * @param rest  what may follow the part, to the end of the text
     * @param start whether the part begins where the text does
     */
    private int compile(Node node, int rest, boolean start) {
        if (rest == RegexPool.NOTHING) {
            return rest;
        }
        if (!hasAssertion(node)) {
            return pool.concat(term(node), rest);
        }
        return switch (node) {
            case Begin _ -> start ? rest : RegexPool.NOTHING;
            case End _ -> pool.nullable(rest) ? RegexPool.EMPTY : RegexPool.NOTHING;
            case Ahead ahead -> {
                int there = compile(ahead.part, pool.text(encoding), start);
                yield ahead.wanted ? pool.and(rest, there) : pool.minus(rest, there);
            }
            case Choice choice -> pool.alt(choice.options.stream().mapToInt(o -> compile(o, rest, start)).toArray());
            case Sequence sequence -> {
                int begin = sequence.parts.size() - 1;
                while (begin >= 0 && !hasBegin(sequence.parts.get(begin))) {
                    begin--;
                }
                yield sequence(sequence.parts, 0, begin, rest, start);
            }
            case Repeat repeat -> {
                if (hasBegin(repeat.part) && repeat.max > 1) {
                    throw refused("^ in a repeated group", repeat.at);
                }
                if (repeat.max > MAX_UNROLLED) {
                    throw refused("an assertion in a group that is repeated more than " + MAX_UNROLLED + " times", repeat.at);
                }
                int term = rest;
                for (int i = repeat.min; i < repeat.max; i++) {
                    term = pool.alt(rest, compile(repeat.part, term, start));
                }
                for (int i = 0; i < repeat.min; i++) {
                    term = compile(repeat.part, term, start);
                }
                yield term;
            }
            case Chars _ -> throw new AssertionError();
        };
    }

    /** Parts {@code from} onwards; the last that holds {@code ^} is {@code lastBegin}. */
    private int sequence(List<Node> parts, int from, int lastBegin, int rest, boolean start) {
        if (from > lastBegin) {
            int term = rest;
            for (int i = parts.size() - 1; i >= from; i--) {
                term = compile(parts.get(i), term, i == from && start);
            }
            return term;
        }
        var part = parts.get(from);
        if (isZeroWidth(part) || from == parts.size() - 1) {
            return compile(part, sequence(parts, from + 1, lastBegin, rest, start), start);
        }
        if (hasAssertion(part)) {
            throw refused("^ behind a part that holds an assertion", 0);
        }
        int here = term(part);
        int behind = pool.concat(pool.notEmpty(here), sequence(parts, from + 1, lastBegin, rest, false));
        return pool.nullable(here) ? pool.alt(behind, sequence(parts, from + 1, lastBegin, rest, start)) : behind;
    }

    /** A part without assertions. */
    private int term(Node node) {
        return switch (node) {
            case Chars chars -> pool.chars(chars.set, encoding);
            case Sequence sequence -> pool.concat(sequence.parts.stream().mapToInt(this::term).toArray());
            case Choice choice -> pool.alt(choice.options.stream().mapToInt(this::term).toArray());
            case Repeat repeat -> pool.repeat(term(repeat.part), repeat.min, repeat.max);
            default -> throw new AssertionError(node);
        };
    }

    private static boolean hasAssertion(Node node) {
        return switch (node) {
            case Chars _ -> false;
            case Sequence sequence -> sequence.parts.stream().anyMatch(EcmaPattern::hasAssertion);
            case Choice choice -> choice.options.stream().anyMatch(EcmaPattern::hasAssertion);
            case Repeat repeat -> hasAssertion(repeat.part);
            default -> true;
        };
    }

    private static boolean hasBegin(Node node) {
        return switch (node) {
            case Begin _ -> true;
            case Sequence sequence -> sequence.parts.stream().anyMatch(EcmaPattern::hasBegin);
            case Choice choice -> choice.options.stream().anyMatch(EcmaPattern::hasBegin);
            case Repeat repeat -> hasBegin(repeat.part);
            case Ahead ahead -> hasBegin(ahead.part);
            default -> false;
        };
    }

    private static boolean isZeroWidth(Node node) {
        return switch (node) {
            case Chars _ -> false;
            case Sequence sequence -> sequence.parts.stream().allMatch(EcmaPattern::isZeroWidth);
            case Choice choice -> choice.options.stream().allMatch(EcmaPattern::isZeroWidth);
            case Repeat repeat -> isZeroWidth(repeat.part);
            default -> true;
        };
    }

    // ---- parsing

    private Node parse() {
        var node = choice();
        if (at < pattern.length()) {
            throw error("a closing parenthesis without an opening one");
        }
        return node;
    }

    private Node choice() {
        if (++nesting > MAX_NESTING) {
            throw error("groups nested deeper than " + MAX_NESTING);
        }
        var options = new ArrayList<Node>();
        options.add(sequence());
        while (peek('|')) {
            at++;
            options.add(sequence());
        }
        nesting--;
        return options.size() == 1 ? options.getFirst() : new Choice(options);
    }

    private Node sequence() {
        var parts = new ArrayList<Node>();
        while (at < pattern.length() && !peek('|') && !peek(')')) {
            int start = at;
            var part = part();
            if (quantifier() instanceof int[] counts) {
                if (pattern.charAt(start) == '^' || pattern.charAt(start) == '$') {
                    throw error("nothing to repeat", start);
                }
                if (part instanceof Ahead && counts[0] == 0) {
                    part = new Sequence(List.of());
                } else if (!(part instanceof Ahead)) {
                    part = new Repeat(part, counts[0], counts[1], start);
                }
            }
            parts.add(part);
        }
        return parts.size() == 1 ? parts.getFirst() : new Sequence(parts);
    }

    /** Minimum and maximum, or null; whether it is lazy changes nothing about the language. */
    private int[] quantifier() {
        if (at >= pattern.length()) {
            return null;
        }
        int[] counts;
        switch (pattern.charAt(at)) {
            case '*' -> counts = new int[] {0, RegexPool.UNBOUNDED};
            case '+' -> counts = new int[] {1, RegexPool.UNBOUNDED};
            case '?' -> counts = new int[] {0, 1};
            case '{' -> {
                counts = braces();
                if (counts == null) {
                    return null;
                }
                at--;
            }
            default -> {
                return null;
            }
        }
        at++;
        if (peek('?')) {
            at++;
        }
        return counts;
    }

    /** {@code {m}}, {@code {m,}} or {@code {m,n}}; null, and no step taken, if it is none and so stands for itself. */
    private int[] braces() {
        int close = pattern.indexOf('}', at);
        if (close < 0 || !pattern.substring(at + 1, close).matches("[0-9]+(,[0-9]*)?")) {
            return null;
        }
        var counts = pattern.substring(at + 1, close).split(",", -1);
        int min = count(counts[0]);
        int max = counts.length == 1 ? min : counts[1].isEmpty() ? RegexPool.UNBOUNDED : count(counts[1]);
        if (max < min) {
            throw error("a repetition of at least " + min + " and at most " + max);
        }
        at = close + 1;
        return new int[] {min, max};
    }

    private int count(String digits) {
        var significant = digits.replaceFirst("^0+(?=.)", "");
        if (significant.length() > 9) {
            throw error("a repetition count of " + digits.length() + " digits");
        }
        return Integer.parseInt(significant);
    }

    private Node part() {
        int start = at;
        int c = pattern.codePointAt(at);
        at += Character.charCount(c);
        switch (c) {
            case '^':
                return new Begin();
            case '$':
                return new End();
            case '.':
                return new Chars(CodePoints.LINE_END.not());
            case '[':
                return new Chars(set(start));
            case '(':
                return group(start);
            case '\\':
                return new Chars(escape(false));
            case '*', '+', '?':
                throw error("nothing to repeat", start);
            case '{':
                at = start;
                if (braces() != null) {
                    throw error("nothing to repeat", start);
                }
                at = start + 1;
                return new Chars(CodePoints.of(c));
            default:
                return new Chars(CodePoints.of(c));
        }
    }

    private Node group(int start) {
        boolean ahead = false;
        boolean wanted = true;
        if (peek('?')) {
            at++;
            if (peek(':')) {
                at++;
            } else if (peek('=') || peek('!')) {
                ahead = true;
                wanted = peek('=');
                at++;
            } else if (pattern.startsWith("<=", at) || pattern.startsWith("<!", at)) {
                throw refused("look-behind", start);
            } else if (peek('<')) {
                int close = pattern.indexOf('>', at);
                if (close < 0 || !pattern.substring(at + 1, close).matches("[\\p{L}_$][\\p{L}\\p{Nd}_$]*")) {
                    throw error("a group's name that is not complete", start);
                }
                at = close + 1;
            } else {
                throw refused("flags within the expression", start);
            }
        }
        var inner = choice();
        if (!peek(')')) {
            throw error("a group that is not closed", start);
        }
        at++;
        return ahead ? new Ahead(inner, wanted) : inner;
    }

    private CodePoints set(int start) {
        boolean negated = peek('^');
        if (negated) {
            at++;
        }
        var set = CodePoints.NONE;
        while (true) {
            if (at >= pattern.length()) {
                throw error("a character class that is not closed", start);
            }
            if (peek(']')) {
                at++;
                return negated ? set.not() : set;
            }
            var first = classAtom();
            if (peek('-') && at + 1 < pattern.length() && pattern.charAt(at + 1) != ']') {
                int dash = at++;
                var last = classAtom();
                if (single(first) && single(last)) {
                    if (first.first(0) > last.first(0)) {
                        throw error("a range whose end lies before its beginning", dash);
                    }
                    set = set.or(CodePoints.range(first.first(0), last.first(0)));
                } else {
                    set = set.or(first).or(CodePoints.of('-')).or(last); // as engines do without the u flag
                }
            } else {
                set = set.or(first);
            }
        }
    }

    private static boolean single(CodePoints set) {
        return set.size() == 1 && set.first(0) == set.last(0);
    }

    private CodePoints classAtom() {
        int c = pattern.codePointAt(at);
        at += Character.charCount(c);
        return c == '\\' ? escape(true) : CodePoints.of(c);
    }

    /** What stands behind a backslash. */
    private CodePoints escape(boolean inClass) {
        int start = at - 1;
        if (at >= pattern.length()) {
            throw error("a backslash at the end", start);
        }
        int c = pattern.codePointAt(at);
        at += Character.charCount(c);
        switch (c) {
            case 'd':
                return CodePoints.DIGIT;
            case 'D':
                return CodePoints.DIGIT.not();
            case 'w':
                return CodePoints.WORD;
            case 'W':
                return CodePoints.WORD.not();
            case 's':
                return CodePoints.SPACE;
            case 'S':
                return CodePoints.SPACE.not();
            case 't':
                return CodePoints.of('\t');
            case 'n':
                return CodePoints.of('\n');
            case 'r':
                return CodePoints.of('\r');
            case 'v':
                return CodePoints.of(0x0b);
            case 'f':
                return CodePoints.of('\f');
            case 'b':
                if (inClass) {
                    return CodePoints.of('\b');
                }
                throw refused("a word boundary", start);
            case 'B':
                throw refused("a word boundary", start);
            case '0':
                if (at < pattern.length() && Character.digit(pattern.charAt(at), 10) >= 0) {
                    throw refused("an octal escape", start);
                }
                return CodePoints.of(0);
            case 'c':
                if (at < pattern.length() && CodePoints.WORD.contains(pattern.charAt(at)) && Character.isLetter(pattern.charAt(at))) {
                    return CodePoints.of(pattern.charAt(at++) & 31);
                }
                throw error("\\c without a letter", start);
            case 'x':
                return CodePoints.of(hex(2, start));
            case 'u':
                return CodePoints.of(unicode(start));
            case 'p', 'P':
                return property(c == 'P', start);
            case 'k':
                throw refused("a back reference", start);
            default:
                if (c >= '1' && c <= '9') {
                    throw refused("a back reference", start);
                }
                if (c < 128 && Character.isLetter(c)) {
                    throw error("an unknown escape, \\" + Character.toString(c), start);
                }
                return CodePoints.of(c);
        }
    }

    private CodePoints property(boolean negated, int start) {
        int close = pattern.indexOf('}', at);
        if (!peek('{') || close < 0) {
            throw error("\\p without {name}", start);
        }
        var name = pattern.substring(at + 1, close);
        var set = CodePoints.property(name);
        if (set == null) {
            throw error("an unknown Unicode property, " + name, start);
        }
        at = close + 1;
        return negated ? set.not() : set;
    }

    private int unicode(int start) {
        if (peek('{')) {
            int close = pattern.indexOf('}', at);
            if (close < 0 || !pattern.substring(at + 1, close).matches("0*[0-9a-fA-F]{1,6}")) {
                throw error("\\u{ without a code point", start);
            }
            int c = Integer.parseInt(pattern.substring(at + 1, close), 16);
            if (c > CodePoints.MAX) {
                throw error("a code point beyond 10FFFF", start);
            }
            at = close + 1;
            return c;
        }
        int c = hex(4, start);
        if (Character.isHighSurrogate((char) c) && pattern.startsWith("\\u", at) && !pattern.startsWith("\\u{", at)) {
            int back = at;
            at += 2;
            int low = hex(4, back);
            if (Character.isLowSurrogate((char) low)) {
                return Character.toCodePoint((char) c, (char) low);
            }
            at = back;
        }
        return c;
    }

    private int hex(int digits, int start) {
        int value = 0;
        for (int i = 0; i < digits; i++) {
            int digit = at < pattern.length() ? Character.digit(pattern.charAt(at), 16) : -1;
            if (digit < 0 || pattern.charAt(at) > 127) {
                throw error("an escape with fewer than " + digits + " hexadecimal digits", start);
            }
            value = value << 4 | digit;
            at++;
        }
        return value;
    }

    private boolean peek(char c) {
        return at < pattern.length() && pattern.charAt(at) == c;
    }

    private RegexSyntaxException error(String what) {
        return error(what, at);
    }

    private RegexSyntaxException error(String what, int position) {
        return new RegexSyntaxException("regular expression " + excerpt() + " has " + what + " at char " + position, position);
    }

    private RegexSyntaxException refused(String what, int position) {
        return new RegexSyntaxException("regular expression " + excerpt() + " has " + what + " at char " + position
                + ", which is not supported", position);
    }

    private String excerpt() {
        return pattern.length() <= 80 ? '"' + pattern + '"' : '"' + pattern.substring(0, 77) + "...\"";
    }
}
