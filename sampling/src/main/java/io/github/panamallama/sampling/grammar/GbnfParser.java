package io.github.panamallama.sampling.grammar;

import io.github.panamallama.sampling.automaton.CodePoints;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/**
 * Reads GBNF as llama.cpp does (src/llama-grammar.cpp, grammars/README.md): rules, strings, character classes, groups, repetitions,
 * tokens, comments, and where line ends may stand. Of two rules with one name the later counts; {@code []} and {@code ""} match the
 * empty text; an item that is empty can't be repeated.
 */
final class GbnfParser {
    sealed interface Node {}

    /** Code points one after the other; those that no UTF-8 can hold match nothing. */
    record Text(int[] codePoints) implements Node {}

    record Chars(CodePoints set) implements Node {}

    record Sequence(List<Node> parts) implements Node {}

    record Choice(List<Node> options) implements Node {}

    /** @param max -1 for any number */
    record Repeat(Node part, int min, int max) implements Node {}

    record Reference(int rule) implements Node {}

    /** @param name with its angle brackets, or null if {@code id} is given */
    record Token(String name, long id, boolean negated, Place place) implements Node {}

    record Place(int line, int column) {
        GrammarException error(String message) {
            return GrammarException.at(line, column, message);
        }
    }

    /** @param body null until the rule is defined */
    static final class Rule {
        final String name;
        final Place place; // where it was first seen
        Node body;

        private Rule(String name, Place place) {
            this.name = name;
            this.place = place;
        }
    }

    private static final int END = -1;

    private final int[] text;
    private final int[] lineStarts;
    private final int maxNesting;
    private final List<Rule> rules = new ArrayList<>();
    private final Map<String, Integer> numbers = new HashMap<>();
    private int at;
    private int nesting;

    private GbnfParser(String source, int maxNesting) {
        text = source.codePoints().toArray();
        lineStarts = IntStream.rangeClosed(0, text.length)
                .filter(i -> i == 0 || text[i - 1] == '\n' || text[i - 1] == '\r' && (i == text.length || text[i] != '\n')).toArray();
        this.maxNesting = maxNesting;
    }

    /** All rules, each defined; references are indices. The rule {@code root} is among them. */
    static List<Rule> parse(String source, int maxNesting) {
        var parser = new GbnfParser(source, maxNesting);
        parser.grammar();
        return parser.rules;
    }

    private void grammar() {
        space(true);
        while (peek() != END) {
            rule();
        }
        if (rules.isEmpty()) {
            throw error("expected a rule, as in root ::= \"yes\" | \"no\", found nothing");
        }
        for (var rule : rules) {
            if (rule.body == null) {
                throw rule.place.error("rule " + rule.name + " is used and not defined; expected a line " + rule.name + " ::= ...");
            }
        }
        if (!numbers.containsKey("root")) {
            throw GrammarException.at(1, 1, "no rule root; expected a line root ::= ... that says what the whole text must match");
        }
    }

    private void rule() {
        int number = name("a rule's name");
        space(false);
        if (peek() != ':' || peek(1) != ':' || peek(2) != '=') {
            throw error("expected ::= after the rule's name " + rules.get(number).name + ", found " + found());
        }
        at += 3;
        space(true);
        rules.get(number).body = choice(false);
        if (peek() == '\r') {
            at += peek(1) == '\n' ? 2 : 1;
        } else if (peek() == '\n') {
            at++;
        } else if (peek() != END) {
            throw error("expected a string, a class, a rule's name, a group, | or the end of the line, found " + found());
        }
        space(true);
    }

    private int name(String what) {
        int start = at;
        while (isWord(peek())) {
            at++;
        }
        if (at == start) {
            throw error("expected " + what + ", found " + found());
        }
        var name = new String(text, start, at - start);
        var known = numbers.get(name);
        if (known == null) {
            known = rules.size();
            numbers.put(name, known);
            rules.add(new Rule(name, place(start)));
        }
        return known;
    }

    private Node choice(boolean nested) {
        if (++nesting > maxNesting) {
            throw error("groups nested deeper than " + maxNesting + "; give inner ones names as rules");
        }
        var options = new ArrayList<Node>();
        options.add(sequence(nested));
        while (peek() == '|') {
            at++;
            space(true);
            options.add(sequence(nested));
        }
        nesting--;
        return options.size() == 1 ? options.getFirst() : new Choice(options);
    }

    private Node sequence(boolean nested) {
        var parts = new ArrayList<Node>();
        boolean repeatable = false; // the last part is there and not empty
        while (true) {
            int start = at;
            int c = peek();
            Node part;
            if (c == '"') {
                part = string();
                repeatable = ((Text) part).codePoints.length > 0;
            } else if (c == '[') {
                part = set();
                repeatable = part instanceof Chars;
            } else if (c == '<' || c == '!') {
                part = token();
                repeatable = true;
            } else if (isWord(c)) {
                part = new Reference(name("a rule's name"));
                repeatable = true;
            } else if (c == '(') {
                at++;
                space(true);
                part = choice(true);
                if (peek() != ')') {
                    throw error("expected ) to close the group of " + describe(start) + ", found " + found());
                }
                at++;
                repeatable = true;
            } else if (c == '.') {
                at++;
                part = new Chars(CodePoints.ALL);
                repeatable = true;
            } else if (c == '*' || c == '+' || c == '?' || c == '{') {
                at++;
                space(nested);
                int min = c == '+' ? 1 : 0;
                int max = c == '?' ? 1 : -1;
                if (c == '{') {
                    min = count(nested);
                    max = min;
                    if (peek() == ',') {
                        at++;
                        space(nested);
                        max = isDigit(peek()) ? count(nested) : -1;
                    }
                    if (peek() != '}') {
                        throw error("expected " + (max == min ? ", or } " : "} ") + "in a repetition, found " + found());
                    }
                    at++;
                    space(nested);
                    if (max >= 0 && max < min) {
                        throw place(start).error("a repetition of at least " + min + " and at most " + max
                                + "; expected the smaller number first");
                    }
                }
                if (!repeatable) {
                    throw place(start).error("expected something to repeat before " + Character.toString(c) + ", found "
                            + (parts.isEmpty() ? "nothing" : "an empty item"));
                }
                parts.add(new Repeat(parts.removeLast(), min, max));
                repeatable = max != 0;
                continue;
            } else {
                return parts.size() == 1 ? parts.getFirst() : new Sequence(parts);
            }
            space(nested);
            parts.add(part);
        }
    }

    private int count(boolean nested) {
        int start = at;
        while (isDigit(peek())) {
            at++;
        }
        if (at == start) {
            throw error("expected a number in a repetition, found " + found());
        }
        var digits = new String(text, start, at - start).replaceFirst("^0+(?=.)", "");
        if (digits.length() > 9) {
            throw place(start).error("a repetition count of " + digits.length() + " digits; expected at most 9");
        }
        space(nested);
        return Integer.parseInt(digits);
    }

    private Text string() {
        int start = at++;
        var codePoints = new ArrayList<Integer>();
        while (peek() != '"') {
            codePoints.add(character(start, "the string"));
        }
        at++;
        return new Text(codePoints.stream().mapToInt(Integer::intValue).toArray());
    }

    private Node set() {
        int start = at++;
        boolean negated = peek() == '^';
        if (negated) {
            at++;
        }
        var set = CodePoints.NONE;
        boolean any = false;
        while (peek() != ']') {
            any = true;
            int first = character(start, "the character class");
            int last = first;
            if (peek() == '-' && peek(1) != ']') {
                at++;
                last = character(start, "the character class");
            }
            set = set.or(CodePoints.range(clamp(first), Math.min(clamp(last), CodePoints.MAX)));
        }
        at++;
        return any ? new Chars(negated ? set.not() : set) : new Sequence(List.of());
    }

    /** Values beyond Unicode, also those that fill all 32 bits, come after all code points. */
    private static int clamp(int value) {
        return value < 0 || value > CodePoints.MAX ? CodePoints.MAX + 1 : value;
    }

    private int character(int start, String within) {
        int c = peek();
        if (c == END) {
            throw error("expected the end of " + within + " of " + describe(start) + ", found the end of the grammar");
        }
        at++;
        if (c != '\\') {
            return c;
        }
        int escape = peek();
        at++;
        return switch (escape) {
            case 'x' -> hex(2);
            case 'u' -> hex(4);
            case 'U' -> hex(8);
            case 't' -> '\t';
            case 'r' -> '\r';
            case 'n' -> '\n';
            case '\\', '"', '[', ']', '-' -> escape;
            default -> {
                at--;
                throw error("expected one of x u U t r n \\ \" [ ] - after a backslash, found " + found());
            }
        };
    }

    private int hex(int digits) {
        int value = 0;
        for (int i = 0; i < digits; i++) {
            int digit = peek() < 128 ? Character.digit(peek(), 16) : -1;
            if (digit < 0) {
                throw error("expected " + digits + " hexadecimal digits, found " + found());
            }
            value = value << 4 | digit;
            at++;
        }
        return value;
    }

    private Node token() {
        var place = place(at);
        boolean negated = peek() == '!';
        if (negated) {
            at++;
        }
        if (peek() != '<') {
            throw error("expected < after !, as in !<[1000]> or !<think>, found " + found());
        }
        int start = at++;
        if (peek() == '[') {
            int digits = ++at;
            while (isDigit(peek())) {
                at++;
            }
            var number = new String(text, digits, at - digits);
            if (number.isEmpty()) {
                throw error("expected a token's number, found " + found());
            }
            if (peek() != ']') {
                throw error("expected ]> after a token's number, found " + found());
            }
            at++;
            if (peek() != '>') {
                throw error("expected > after ], found " + found());
            }
            at++;
            var significant = number.replaceFirst("^0+(?=.)", "");
            return new Token(null, significant.length() > 10 ? Long.MAX_VALUE : Long.parseLong(significant), negated, place);
        }
        while (peek() != '>') {
            if (peek() == END) {
                throw error("expected > to close the token of " + describe(start) + ", found the end of the grammar");
            }
            at++;
        }
        at++;
        return new Token(new String(text, start, at - start), -1, negated, place);
    }

    private void space(boolean lines) {
        while (true) {
            int c = peek();
            if (c == '#') {
                while (peek() != END && peek() != '\r' && peek() != '\n') {
                    at++;
                }
            } else if (c == ' ' || c == '\t' || lines && (c == '\r' || c == '\n')) {
                at++;
            } else {
                return;
            }
        }
    }

    private static boolean isDigit(int c) {
        return c >= '0' && c <= '9';
    }

    private static boolean isWord(int c) {
        return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || isDigit(c);
    }

    private int peek() {
        return peek(0);
    }

    private int peek(int ahead) {
        return at + ahead < text.length ? text[at + ahead] : END;
    }

    private Place place(int index) {
        int line = Arrays.binarySearch(lineStarts, index);
        line = line < 0 ? -line - 2 : line;
        return new Place(line + 1, index - lineStarts[line] + 1);
    }

    private String describe(int index) {
        var place = place(index);
        return "line " + place.line + ", column " + place.column;
    }

    private String found() {
        int c = peek();
        return switch (c) {
            case END -> "the end of the grammar";
            case '\n', '\r' -> "the end of the line";
            default -> c < 32 || c == 127 ? String.format("the character U+%04X", c) : '"' + Character.toString(c) + '"';
        };
    }

    private GrammarException error(String message) {
        return place(at).error(message);
    }
}
