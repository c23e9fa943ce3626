package io.github.panamallama.sampling.schema;

import io.github.panamallama.sampling.schema.Shape.Items;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;

/** The values that the items of a {@code uniqueItems} array can take. */
final class UniqueValues {
    static final int MOST = 60;

    private final Langs langs;

    UniqueValues(Langs langs) {
        this.langs = langs;
    }

    /** One language per value; null if there are many, all of them strings, numbers or literals. */
    List<Lang> of(Items items) {
        try {
            return few(items);
        } catch (Refusal e) {
            // fresh values are taken to be there, so there must not be need for many
            if (items.min() > MOST || !scalar(items)) {
                throw e;
            }
            return null;
        }
    }

    /** The values of a language of scalars as {@link Terms#value} gives them; null if there are many. */
    List<Object> scalars(Lang lang) {
        Shape shape = langs.shape(lang);
        var terms = langs.terms;
        var values = new ArrayList<Object>();
        if ((shape.literals() & Shape.NULL) != 0) {
            values.add(Terms.NULL);
        }
        if ((shape.literals() & Shape.FALSE) != 0) {
            values.add(false);
        }
        if ((shape.literals() & Shape.TRUE) != 0) {
            values.add(true);
        }
        if (!terms.isEmpty(shape.number())) {
            var numbers = terms.pool.words(terms.and(shape.number(), terms.numbers.shortest), MOST);
            if (numbers == null) {
                return null;
            }
            numbers.forEach(word -> values.add(Terms.value(word)));
        }
        if (!terms.isEmpty(shape.string())) {
            var texts = terms.words(shape.string(), MOST);
            if (texts == null) {
                return null;
            }
            values.addAll(texts);
        }
        return values.size() > MOST ? null : values;
    }

    private boolean scalar(Items items) {
        boolean scalar = items.max() <= items.prefix().size() || scalar(items.rest());
        for (Lang item : items.prefix()) {
            scalar &= scalar(item);
        }
        return scalar;
    }

    private boolean scalar(Lang lang) {
        Shape shape = langs.shape(lang);
        return shape.arrays().stream().noneMatch(langs::inhabited) && shape.objects().stream().noneMatch(langs::inhabited);
    }

    private List<Lang> few(Items items) {
        var values = new LinkedHashSet<Lang>();
        for (int i = 0; i < items.prefix().size(); i++) {
            collect(items.prefix().get(i), values, 0);
        }
        if (items.max() > items.prefix().size()) {
            collect(items.rest(), values, 0);
        }
        return List.copyOf(values);
    }

    static Refusal refusal() {
        return Refusal.of("uniqueItems", "uniqueItems can be enforced only where items are strings, numbers or literals, at most " + MOST
                + " of them required, or have at most " + MOST + " possible values");
    }

    private void collect(Lang lang, Set<Lang> values, int depth) {
        if (!langs.inhabited(lang)) {
            return;
        }
        if (depth > 20) {
            throw refusal();
        }
        Shape shape = langs.shape(lang);
        var none = langs.terms.none;
        for (int bit = 1; bit <= Shape.LITERALS; bit <<= 1) {
            if ((shape.literals() & bit) != 0) {
                values.add(langs.atom(new Shape(bit, none, none, List.of(), List.of()), null));
            }
        }
        // one text stands for each value: the shortest
        if (!langs.terms.isEmpty(shape.number())) {
            var texts = langs.terms.pool.words(langs.terms.and(shape.number(), langs.terms.numbers.shortest), MOST);
            if (texts == null) {
                throw refusal();
            }
            for (byte[] text : texts) {
                var value = new BigDecimal(new String(text, StandardCharsets.US_ASCII));
                values.add(langs.atom(new Shape(0, langs.terms.numbers.equal(value), none, List.of(), List.of()), null));
            }
        }
        if (!langs.terms.isEmpty(shape.string())) {
            var texts = langs.terms.words(shape.string(), MOST);
            if (texts == null) {
                throw refusal();
            }
            for (String text : texts) {
                values.add(langs.atom(new Shape(0, none, langs.terms.literal(text), List.of(), List.of()), null));
            }
        }
        for (Items items : shape.arrays()) {
            if (langs.inhabited(items)) {
                arrays(items, values, depth);
            }
        }
        for (var members : shape.objects()) {
            if (langs.inhabited(members)) {
                objects(members, values, depth);
            }
        }
        if (values.size() > MOST) {
            throw refusal();
        }
    }

    private void arrays(Items items, Set<Lang> values, int depth) {
        if (items.max() > 8 || !items.counts().isEmpty() || items.unique()) {
            throw refusal();
        }
        List<List<Lang>> all = List.of(List.of());
        for (int n = 0; n <= items.max(); n++) {
            if (n >= items.min()) {
                for (var prefix : all) {
                    values.add(langs.atom(new Shape(0, langs.terms.none, langs.terms.none,
                            List.of(new Items(prefix, langs.none, n, n, List.of(), false)), List.of()), null));
                }
            }
            if (n < items.max()) {
                var each = new LinkedHashSet<Lang>();
                collect(items.item(n), each, depth + 1);
                var next = new ArrayList<List<Lang>>();
                for (var prefix : all) {
                    for (Lang value : each) {
                        var longer = new ArrayList<>(prefix);
                        longer.add(value);
                        next.add(List.copyOf(longer));
                    }
                }
                all = next;
                if (all.size() > MOST) {
                    throw refusal();
                }
            }
        }
    }

    private void objects(Shape.Members members, Set<Lang> values, int depth) {
        if (!members.rest().isEmpty() || !members.needs().isEmpty()) {
            throw refusal();
        }
        List<LinkedHashMap<String, Shape.Member>> all = List.of(new LinkedHashMap<>());
        for (var entry : members.named().entrySet()) {
            var each = new LinkedHashSet<Lang>();
            collect(entry.getValue().value(), each, depth + 1);
            var next = new ArrayList<LinkedHashMap<String, Shape.Member>>();
            for (var before : all) {
                if (!entry.getValue().required()) {
                    next.add(before);
                }
                for (Lang value : each) {
                    var more = new LinkedHashMap<>(before);
                    more.put(entry.getKey(), new Shape.Member(value, true));
                    next.add(more);
                }
            }
            all = next;
            if (all.size() > MOST) {
                throw refusal();
            }
        }
        for (var named : all) {
            if (named.size() >= members.min() && named.size() <= members.max()) {
                values.add(langs.atom(new Shape(0, langs.terms.none, langs.terms.none, List.of(),
                        List.of(new Shape.Members(named, List.of(), named.size(), named.size(), List.of()))), null));
            }
        }
    }
}
