package io.github.panamallama.sampling.grammar;

import io.github.panamallama.sampling.automaton.CodePoints;
import io.github.panamallama.sampling.automaton.Encoding;
import io.github.panamallama.sampling.automaton.NodePool;
import io.github.panamallama.sampling.automaton.RegexPool;
import io.github.panamallama.sampling.grammar.GbnfParser.Chars;
import io.github.panamallama.sampling.grammar.GbnfParser.Choice;
import io.github.panamallama.sampling.grammar.GbnfParser.Node;
import io.github.panamallama.sampling.grammar.GbnfParser.Reference;
import io.github.panamallama.sampling.grammar.GbnfParser.Repeat;
import io.github.panamallama.sampling.grammar.GbnfParser.Rule;
import io.github.panamallama.sampling.grammar.GbnfParser.Sequence;
import io.github.panamallama.sampling.grammar.GbnfParser.Text;
import io.github.panamallama.sampling.grammar.GbnfParser.Token;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.IntConsumer;

/**
 * A GBNF grammar. Neighbouring parts that hold no rule become one lexeme; a rule's lexeme moves into the rules that use it only if it
 * is short, so that long ones (strings, numbers) are the same automaton wherever they stand.
 */
final class GbnfSource implements Source {
    /** Characters that a rule may have at most to be written out where it is used. */
    private static final int SMALL = 64;
    private static final int NO_REGEX = -1;

    private final List<Rule> rules;
    private final int root;
    private final int[] order; // rules after those they use, as far as there are no circles
    private final boolean[] small;
    private final boolean namesTokens;

    GbnfSource(String source, GrammarOptions options) {
        rules = GbnfParser.parse(source, options.nesting());
        root = rules.indexOf(rules.stream().filter(r -> r.name.equals("root")).findFirst().orElseThrow());
        refuseLeftRecursion();
        order = order();
        small = new boolean[rules.size()];
        var weights = new long[rules.size()];
        Arrays.fill(weights, Long.MAX_VALUE / 4);
        for (int rule : order) {
            weights[rule] = weight(rules.get(rule).body, weights);
            small[rule] = weights[rule] <= SMALL;
        }
        namesTokens = rules.stream().anyMatch(r -> hasTokens(r.body));
    }

    @Override
    public boolean namesTokens() {
        return namesTokens;
    }

    @Override
    public int build(NodePool pool, TokenNames tokens) {
        return new Builder(pool, tokens).build();
    }

    // ---- left recursion

    private void refuseLeftRecursion() {
        var nullable = nullable();
        var colour = new byte[rules.size()]; // 1 on the path, 2 done
        for (int start = 0; start < rules.size(); start++) {
            if (colour[start] != 0) {
                continue;
            }
            var path = new ArrayList<Integer>();
            var rest = new ArrayList<ArrayDeque<Integer>>();
            int rule = start;
            while (true) {
                if (rule >= 0) {
                    colour[rule] = 1;
                    path.add(rule);
                    var corners = new ArrayDeque<Integer>();
                    leftCorners(rules.get(rule).body, nullable, corners::add);
                    rest.add(corners);
                }
                if (path.isEmpty()) {
                    break;
                }
                var next = rest.getLast().poll();
                if (next == null) {
                    colour[path.removeLast()] = 2;
                    rest.removeLast();
                    rule = -1;
                } else if (colour[next] == 1) {
                    var circle = new ArrayList<String>();
                    path.subList(path.indexOf(next), path.size()).forEach(r -> circle.add(rules.get(r).name));
                    circle.add(rules.get(next).name);
                    throw rules.get(next).place.error("left recursion: " + String.join(" begins with ", circle)
                            + "; expected a repetition instead, as in a ::= b (\"+\" b)*");
                } else {
                    rule = colour[next] == 0 ? next : -1;
                }
            }
        }
    }

    private boolean[] nullable() {
        var nullable = new boolean[rules.size()];
        var users = new ArrayList<List<Integer>>();
        for (int i = 0; i < rules.size(); i++) {
            users.add(new ArrayList<>(1));
        }
        var work = new ArrayDeque<Integer>();
        for (int i = 0; i < rules.size(); i++) {
            int user = i;
            references(rules.get(i).body, r -> users.get(r).add(user));
            work.add(i);
        }
        while (!work.isEmpty()) {
            int rule = work.remove();
            if (!nullable[rule] && nullable(rules.get(rule).body, nullable)) {
                nullable[rule] = true;
                work.addAll(users.get(rule));
            }
        }
        return nullable;
    }

    private static boolean nullable(Node node, boolean[] rules) {
        return switch (node) {
            case Text text -> text.codePoints().length == 0;
            case Chars _, Token _ -> false;
            case Sequence sequence -> sequence.parts().stream().allMatch(p -> nullable(p, rules));
            case Choice choice -> choice.options().stream().anyMatch(o -> nullable(o, rules));
            case Repeat repeat -> repeat.min() == 0 || nullable(repeat.part(), rules);
            case Reference reference -> rules[reference.rule()];
        };
    }

    private static void leftCorners(Node node, boolean[] nullable, IntConsumer into) {
        switch (node) {
            case Text _, Chars _, Token _ -> { }
            case Sequence sequence -> {
                for (var part : sequence.parts()) {
                    leftCorners(part, nullable, into);
                    if (!nullable(part, nullable)) {
                        break;
                    }
                }
            }
            case Choice choice -> choice.options().forEach(o -> leftCorners(o, nullable, into));
            case Repeat repeat -> {
                if (repeat.max() != 0) {
                    leftCorners(repeat.part(), nullable, into);
                }
            }
            case Reference reference -> into.accept(reference.rule());
        }
    }

    private static void references(Node node, IntConsumer into) {
        switch (node) {
            case Text _, Chars _, Token _ -> { }
            case Sequence sequence -> sequence.parts().forEach(p -> references(p, into));
            case Choice choice -> choice.options().forEach(o -> references(o, into));
            case Repeat repeat -> references(repeat.part(), into);
            case Reference reference -> into.accept(reference.rule());
        }
    }

    // ---- what becomes a lexeme

    private int[] order() {
        var order = new int[rules.size()];
        int n = 0;
        var seen = new boolean[rules.size()];
        for (int start = 0; start < rules.size(); start++) {
            var stack = new ArrayDeque<Integer>();
            stack.push(start);
            while (!stack.isEmpty()) {
                int rule = stack.pop();
                if (rule < 0) {
                    order[n++] = -rule - 1;
                } else if (!seen[rule]) {
                    seen[rule] = true;
                    stack.push(-rule - 1);
                    references(rules.get(rule).body, r -> {
                        if (!seen[r]) {
                            stack.push(r);
                        }
                    });
                }
            }
        }
        return order;
    }

    private static long weight(Node node, long[] rules) {
        long huge = Long.MAX_VALUE / 4;
        return switch (node) {
            case Text text -> text.codePoints().length;
            case Chars _ -> 1;
            case Token _ -> huge;
            case Sequence sequence -> {
                long sum = 0;
                for (var part : sequence.parts()) {
                    sum = Math.min(huge, sum + weight(part, rules));
                }
                yield sum;
            }
            case Choice choice -> {
                long sum = 0;
                for (var option : choice.options()) {
                    sum = Math.min(huge, sum + weight(option, rules));
                }
                yield sum;
            }
            case Repeat repeat -> repeat.max() < 0 ? huge : Math.min(huge, Math.min(1 << 20, weight(repeat.part(), rules)) * repeat.max());
            case Reference reference -> rules[reference.rule()];
        };
    }

    private static boolean hasTokens(Node node) {
        return switch (node) {
            case Text _, Chars _, Reference _ -> false;
            case Token _ -> true;
            case Sequence sequence -> sequence.parts().stream().anyMatch(GbnfSource::hasTokens);
            case Choice choice -> choice.options().stream().anyMatch(GbnfSource::hasTokens);
            case Repeat repeat -> hasTokens(repeat.part());
        };
    }

    private final class Builder {
        private final NodePool pool;
        private final RegexPool regexes;
        private final TokenNames tokens;
        private final int[] nodes = new int[rules.size()];
        private final int[] terms = new int[rules.size()];

        Builder(NodePool pool, TokenNames tokens) {
            this.pool = pool;
            this.regexes = pool.regexes();
            this.tokens = tokens;
        }

        int build() {
            for (int i = 0; i < nodes.length; i++) {
                nodes[i] = pool.declare(rules.get(i).name);
            }
            for (int rule : order) {
                var body = rules.get(rule).body;
                terms[rule] = small[rule] ? regex(body) : NO_REGEX;
                pool.define(nodes[rule], terms[rule] != NO_REGEX ? pool.terminal(terms[rule]) : node(body));
            }
            return nodes[root];
        }

        /** The node as a regular expression, if it refers to small rules only. */
        private int regex(Node node) {
            return switch (node) {
                case Text text -> {
                    int term = RegexPool.EMPTY;
                    for (int i = text.codePoints().length - 1; i >= 0; i--) {
                        int c = text.codePoints()[i];
                        boolean character = c >= 0 && c <= CodePoints.MAX;
                        term = regexes.concat(character ? regexes.chars(CodePoints.of(c), Encoding.UTF8) : RegexPool.NOTHING, term);
                    }
                    yield term;
                }
                case Chars chars -> regexes.chars(chars.set(), Encoding.UTF8);
                case Sequence sequence -> {
                    var parts = regexes(sequence.parts());
                    yield parts == null ? NO_REGEX : regexes.concat(parts);
                }
                case Choice choice -> {
                    if (choice.options().stream().allMatch(o -> o instanceof Text text && isText(text))) {
                        // many names share their beginnings
                        yield regexes.anyOf(choice.options().stream().map(o -> new String(((Text) o).codePoints(), 0,
                                ((Text) o).codePoints().length)).toList(), Encoding.UTF8);
                    }
                    var options = regexes(choice.options());
                    yield options == null ? NO_REGEX : regexes.alt(options);
                }
                case Repeat repeat -> {
                    int part = regex(repeat.part());
                    yield part == NO_REGEX ? NO_REGEX : regexes.repeat(part, repeat.min(), max(repeat));
                }
                case Reference reference -> small[reference.rule()] ? terms[reference.rule()] : NO_REGEX;
                case Token _ -> NO_REGEX;
            };
        }

        private static boolean isText(Text text) {
            return Arrays.stream(text.codePoints()).allMatch(c -> Character.isValidCodePoint(c)
                    && (c < Character.MIN_SURROGATE || c > Character.MAX_SURROGATE));
        }

        private int[] regexes(List<Node> parts) {
            var terms = new int[parts.size()];
            for (int i = 0; i < terms.length; i++) {
                terms[i] = regex(parts.get(i));
                if (terms[i] == NO_REGEX) {
                    return null;
                }
            }
            return terms;
        }

        private static int max(Repeat repeat) {
            return repeat.max() < 0 ? NodePool.UNBOUNDED : repeat.max();
        }

        private int node(Node node) {
            int whole = regex(node);
            if (whole != NO_REGEX) {
                return pool.terminal(whole);
            }
            return switch (node) {
                case Text _, Chars _ -> throw new AssertionError(node);
                case Sequence sequence -> {
                    var parts = new ArrayList<Integer>();
                    int run = RegexPool.EMPTY;
                    for (var part : sequence.parts()) {
                        int term = regex(part);
                        if (term != NO_REGEX) {
                            run = regexes.concat(run, term);
                        } else {
                            parts.add(pool.terminal(run));
                            run = RegexPool.EMPTY;
                            parts.add(node(part));
                        }
                    }
                    parts.add(pool.terminal(run));
                    yield pool.seq(parts.stream().mapToInt(Integer::intValue).toArray());
                }
                case Choice choice -> {
                    var options = new ArrayList<Integer>();
                    var terms = new ArrayList<Integer>();
                    for (var option : choice.options()) {
                        int term = regex(option);
                        if (term != NO_REGEX) {
                            terms.add(term);
                        } else {
                            options.add(node(option));
                        }
                    }
                    options.add(pool.terminal(regexes.alt(terms.stream().mapToInt(Integer::intValue).toArray())));
                    yield pool.choice(options);
                }
                case Repeat repeat -> pool.repeat(node(repeat.part()), repeat.min(), max(repeat));
                case Reference reference -> nodes[reference.rule()];
                case Token token -> {
                    int id;
                    try {
                        id = token.name() != null ? tokens.named(token.name()) : tokens.numbered(token.id(), token.negated());
                    } catch (GrammarException e) {
                        throw token.place().error(e.getMessage());
                    }
                    yield token.negated() ? pool.anyTokenBut(id) : pool.token(id);
                }
            };
        }
    }
}
