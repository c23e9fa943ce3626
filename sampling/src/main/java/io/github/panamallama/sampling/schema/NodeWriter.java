package io.github.panamallama.sampling.schema;

import io.github.panamallama.sampling.automaton.NodePool;
import io.github.panamallama.sampling.grammar.JsonOptions;
import io.github.panamallama.sampling.schema.Shape.Items;
import io.github.panamallama.sampling.schema.Shape.Members;
import java.math.BigDecimal;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Grammar nodes for shapes. States of arrays and objects become nodes when the recogniser gets to them. */
final class NodeWriter {
    private record ValueKey(int lang) { }

    private record ArrayKey(int shape, ArrayStates.State state, boolean first) { }

    private record ItemKey(int shape, ArrayStates.Step step, boolean first) { }

    private record ObjectKey(int shape, ObjectStates.State state, boolean first) { }

    private record NameKey(int shape, ObjectStates.Step step, boolean first) { }

    private final Langs langs;
    private final Terms terms;
    private final NodePool nodes;
    private final boolean ordered;
    private final boolean shortest;
    private final int space;
    private final int quote;
    private final int colon;
    private final Map<Items, ArrayStates> arrays = new HashMap<>();
    private final Map<Members, ObjectStates> objects = new HashMap<>();
    private final Map<Object, Integer> numbers = new HashMap<>();

    NodeWriter(Langs langs, NodePool nodes, JsonOptions options) {
        this.langs = langs;
        this.nodes = nodes;
        terms = langs.terms;
        ordered = options.order() == JsonOptions.Order.SCHEMA;
        shortest = options.spelling() == JsonOptions.Spelling.SHORTEST;
        var pool = terms.pool;
        int white = pool.alt(pool.oneByte(' '), pool.oneByte('\t'), pool.oneByte('\n'), pool.oneByte('\r'));
        space = pool.repeat(white, 0, options.whitespace());
        quote = pool.oneByte('"');
        colon = pool.concat(space, pool.oneByte(':'), space);
    }

    /** The node of a language, after everything that it can lead to has been looked at. */
    int write(Lang root) {
        var seen = new HashSet<Lang>();
        var work = new ArrayDeque<Lang>();
        seen.add(root);
        work.add(root);
        while (!work.isEmpty()) {
            Lang lang = work.remove();
            if (!langs.inhabited(lang)) {
                continue;
            }
            try {
                Shape shape = langs.shape(lang);
                for (Items items : shape.arrays()) {
                    if (langs.inhabited(items)) {
                        states(items).eachValue(l -> add(l, seen, work));
                    }
                }
                for (Members members : shape.objects()) {
                    if (langs.inhabited(members)) {
                        states(members).eachValue(l -> add(l, seen, work));
                    }
                }
            } catch (Refusal e) {
                Refusal placed = Langs.at(e, lang);
                throw placed.pointer() == null ? placed.at("") : placed;
            }
        }
        if (!langs.inhabited(root)) {
            throw new Refusal("", "no value is valid: the schema contradicts itself");
        }
        return value(root);
    }

    private static void add(Lang lang, HashSet<Lang> seen, ArrayDeque<Lang> work) {
        if (seen.add(lang)) {
            work.add(lang);
        }
    }

    private ArrayStates states(Items items) {
        return arrays.computeIfAbsent(items, i -> {
            numbers.put(i, numbers.size());
            var states = new ArrayStates(langs, i);
            return i.unique() ? states.values(new UniqueValues(langs).of(i)) : states;
        });
    }

    private ObjectStates states(Members members) {
        return objects.computeIfAbsent(members, m -> {
            numbers.put(m, numbers.size());
            return new ObjectStates(langs, m, ordered);
        });
    }

    private int value(Lang lang) {
        Shape shape = langs.shape(lang);
        if (shape.arrays().isEmpty() && shape.objects().isEmpty()) {
            return nodes.terminal(scalars(shape, true));
        }
        return nodes.generated(new ValueKey(lang.id), () -> value(shape));
    }

    private int value(Shape shape) {
        var options = new ArrayList<Integer>();
        options.add(nodes.terminal(scalars(shape, true)));
        for (Items items : shape.arrays()) {
            if (langs.inhabited(items)) {
                var states = states(items);
                options.add(nodes.seq(nodes.literal("["), nodes.terminal(space), array(states, states.first(), true)));
            }
        }
        for (Members members : shape.objects()) {
            if (langs.inhabited(members)) {
                var states = states(members);
                options.add(nodes.seq(nodes.literal("{"), nodes.terminal(space), object(states, states.first(), true)));
            }
        }
        return nodes.choice(options);
    }

    /** Exactly these scalars. */
    private Shape came(Set<Object> values) {
        int literals = 0;
        int number = terms.none;
        int string = terms.none;
        for (Object value : values) {
            switch (value) {
                case BigDecimal n -> number = terms.or(number, terms.numbers.equal(n));
                case String text -> string = terms.or(string, terms.literal(text));
                case Boolean b -> literals |= b ? Shape.TRUE : Shape.FALSE;
                default -> literals |= Shape.NULL;
            }
        }
        return new Shape(literals, number, string, List.of(), List.of());
    }

    private int scalars(Shape shape, boolean exponents) {
        var pool = terms.pool;
        int term = pool.alt((shape.literals() & Shape.NULL) == 0 ? terms.none : pool.literal("null"),
                (shape.literals() & Shape.TRUE) == 0 ? terms.none : pool.literal("true"),
                (shape.literals() & Shape.FALSE) == 0 ? terms.none : pool.literal("false"));
        if (!terms.isEmpty(shape.number())) {
            int number = shape.number();
            if (shortest) {
                number = pool.and(number, terms.numbers.shortest);
            } else if (exponents && number == terms.anyNumber) {
                number = pool.concat(number, pool.optional(terms.numbers.exponent));
            }
            term = pool.alt(term, number);
        }
        if (!terms.isEmpty(shape.string())) {
            term = pool.alt(term, pool.concat(quote, shape.string(), quote));
        }
        return term;
    }

    /** What follows the opening bracket, or an item. */
    private int array(ArrayStates states, ArrayStates.State state, boolean first) {
        return nodes.generated(new ArrayKey(numbers.get(states.shape), state, first), () -> {
            var options = new ArrayList<Integer>();
            if (states.complete(state)) {
                options.add(close(']', first));
            }
            for (var step : states.steps(state)) {
                options.add(item(states, state, step, first));
            }
            return nodes.choice(options);
        }, () -> states.complete(state) ? close(']', first) : item(states, state, states.steps(state).getFirst(), first));
    }

    private int close(char bracket, boolean first) {
        var pool = terms.pool;
        return nodes.terminal(pool.concat(first ? pool.literal("") : space, pool.oneByte(bracket)));
    }

    private int item(ArrayStates states, ArrayStates.State state, ArrayStates.Step step, boolean first) {
        var pool = terms.pool;
        int separator = first ? pool.literal("") : pool.concat(space, pool.oneByte(','), space);
        if (states.remembers()) {
            int item = pool.concat(separator, scalars(langs.shape(step.item()), false));
            var memory = new NodePool.Memory() {
                @Override
                public Object value(byte[] word) {
                    return Terms.value(word);
                }

                @Override
                public int words(Set<Object> values) {
                    return pool.concat(separator, scalars(came(values), false));
                }

                @Override
                public int then(byte[] word) {
                    return array(states, step.next().with(value(word)), false);
                }
            };
            var refused = new HashSet<>(states.kept(step));
            refused.addAll(state.came());
            return nodes.captured(new ItemKey(numbers.get(states.shape), step, first), item, memory.words(refused), memory);
        }
        return nodes.seq(nodes.terminal(separator), value(step.item()), array(states, step.next(), false));
    }

    /** What follows the opening brace, or a property. */
    private int object(ObjectStates states, ObjectStates.State state, boolean first) {
        return nodes.generated(new ObjectKey(numbers.get(states.shape), state, first), () -> {
            var options = new ArrayList<Integer>();
            if (states.complete(state)) {
                options.add(close('}', first));
            }
            for (var step : states.steps(state)) {
                options.add(property(states, step, first));
            }
            return nodes.choice(options);
        }, () -> states.complete(state) ? close('}', first) : property(states, states.direct(state), first));
    }

    private int property(ObjectStates states, ObjectStates.Step step, boolean first) {
        var pool = terms.pool;
        int comma = first ? pool.literal("") : pool.concat(space, pool.oneByte(','), space);
        int value = value(step.value());
        if (step.name() != null) {
            int name = pool.concat(comma, quote, terms.literal(step.name()), quote, colon);
            return nodes.seq(nodes.terminal(name), value, object(states, step.next(), false));
        }
        int name = pool.concat(comma, quote, step.names(), quote, colon);
        var memory = new NodePool.Memory() {
            @Override
            public Object value(byte[] word) {
                return Terms.name(word);
            }

            @Override
            public int words(Set<Object> values) {
                var names = values.stream().filter(String.class::isInstance).map(String.class::cast).toList();
                return pool.concat(comma, quote, terms.names(names), quote, colon);
            }

            @Override
            public int then(byte[] word) {
                return nodes.seq(value, object(states, step.next().with(Terms.name(word)), false));
            }
        };
        return nodes.captured(new NameKey(numbers.get(states.shape), step, first), name, memory.words(Set.copyOf(step.next().others())),
                memory);
    }
}
