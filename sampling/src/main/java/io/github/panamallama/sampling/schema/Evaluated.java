package io.github.panamallama.sampling.schema;

import io.github.panamallama.sampling.schema.Documents.Place;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import tools.jackson.databind.JsonNode;

/**
 * Schemas with {@code unevaluatedProperties} or {@code unevaluatedItems}. Which properties and items count as evaluated depends on
 * which subschemas hold, so the schema is split into cases in each of which that is fixed, and the keyword is read per case.
 */
final class Evaluated {
    private static final int MOST_CASES = 512;
    private static final int DEEPEST = 100;
    private static final int ALL = Integer.MAX_VALUE;

    /**
     * @param lang    the values of this case
     * @param names   names of properties that are evaluated
     * @param items   how many items from the first are
     * @param matches items in one of these are as well
     */
    private record Case(Lang lang, int names, int items, List<Lang> matches) {
        boolean sameAs(Case other) {
            return names == other.names && items == other.items && matches.equals(other.matches);
        }
    }

    private final SchemaReader reader;
    private final Langs langs;
    private final Terms terms;
    private int depth;

    Evaluated(SchemaReader reader) {
        this.reader = reader;
        langs = reader.langs;
        terms = langs.terms;
    }

    Lang read(Place place, Scope scope) {
        return langs.or(cases(place, scope).stream().map(Case::lang).toList());
    }

    private Case plain(Lang lang) {
        return new Case(lang, terms.none, 0, List.of());
    }

    private List<Case> cases(Place place, Scope outer) {
        JsonNode node = place.node();
        if (!node.isObject()) {
            return List.of(plain(reader.schema(place, outer)));
        }
        if (++depth > DEEPEST) {
            throw new Refusal(place.pointer(), "the schema refers to itself without a value in between, or is nested more than " + DEEPEST
                    + " deep");
        }
        Scope scope = outer.enter(place.resource());
        var cases = List.of(plain(langs.all));
        for (var keyword : reader.keywords(place, scope)) {
            cases = product(cases, cases(place, scope, keyword), place.pointer(keyword.name()));
        }
        if (node.has("unevaluatedProperties")) {
            Lang value = reader.schema(place.child("unevaluatedProperties"), scope);
            String where = place.pointer("unevaluatedProperties");
            var next = new ArrayList<Case>();
            for (Case c : cases) {
                next.add(new Case(langs.and(c.lang, reader.unevaluatedProperties(c.names, value, where)), terms.anyString, c.items,
                        c.matches));
            }
            cases = next;
        }
        if (node.has("unevaluatedItems")) {
            Lang value = reader.schema(place.child("unevaluatedItems"), scope);
            String where = place.pointer("unevaluatedItems");
            var next = new ArrayList<Case>();
            for (Case c : cases) {
                Lang lang = c.lang;
                if (c.items < ALL) {
                    var allowed = new ArrayList<>(c.matches);
                    allowed.add(value);
                    lang = langs.and(lang, reader.unevaluatedItems(c.items, langs.or(allowed), where));
                }
                next.add(new Case(lang, c.names, ALL, List.of()));
            }
            cases = next;
        }
        depth--;
        return cases;
    }

    private List<Case> cases(Place place, Scope scope, SchemaReader.Keyword keyword) {
        JsonNode node = place.node();
        Lang whole = keyword.lang();
        String name = keyword.name();
        switch (name) {
            case "$ref":
                return cases(reader.target(place, name), scope);
            case "$dynamicRef":
                return cases(reader.dynamicTarget(place, scope), scope);
            case "properties": {
                int names = terms.none;
                if (node.has("properties")) {
                    names = terms.names(reader.map(place, "properties").keySet());
                }
                if (node.has("patternProperties")) {
                    for (String pattern : reader.map(place, "patternProperties").keySet()) {
                        names = terms.or(names, reader.pattern(pattern, place.pointer("patternProperties")));
                    }
                }
                return List.of(new Case(whole, node.has("additionalProperties") ? terms.anyString : names, 0, List.of()));
            }
            case "items": {
                JsonNode items = node.get("items");
                boolean old = items != null && items.isArray();
                int prefix = old ? items.size() : node.has("prefixItems") ? node.get("prefixItems").size() : 0;
                boolean rest = old ? node.has("additionalItems") : items != null;
                return List.of(new Case(whole, terms.none, rest ? ALL : prefix, List.of()));
            }
            case "contains":
                return node.has("contains") && place.resource().dialect == Dialect.DRAFT_2020
                        ? List.of(new Case(whole, terms.none, 0, List.of(reader.schema(place.child("contains"), scope))))
                        : List.of(plain(whole));
            case "allOf": {
                var cases = List.of(plain(langs.all));
                for (int i = 0; i < node.get(name).size(); i++) {
                    cases = product(cases, cases(place.child(name, i), scope), place.pointer(name));
                }
                return cases;
            }
            case "anyOf":
                return anyOf(place, scope, whole);
            case "oneOf": {
                var out = new ArrayList<Case>();
                for (int i = 0; i < node.get(name).size(); i++) {
                    for (Case c : cases(place.child(name, i), scope)) {
                        out.add(new Case(langs.and(whole, c.lang), c.names, c.items, c.matches));
                    }
                }
                return joined(out);
            }
            case "if":
                return conditional(place, scope);
            case "dependentSchemas", "dependencies": {
                var cases = List.of(plain(langs.all));
                for (var entry : reader.map(place, name).entrySet()) {
                    if (entry.getValue().isArray() || entry.getValue().isString()) {
                        return List.of(plain(whole));
                    }
                    String where = place.pointer(name);
                    var options = new ArrayList<Case>();
                    options.add(plain(reader.absent(entry.getKey(), where)));
                    Lang present = reader.present(entry.getKey(), where);
                    for (Case c : cases(place.child(name, entry.getKey()), scope)) {
                        options.add(new Case(langs.and(present, c.lang), c.names, c.items, c.matches));
                    }
                    cases = product(cases, options, where);
                }
                return cases;
            }
            default:
                return List.of(plain(whole));
        }
    }

    private List<Case> anyOf(Place place, Scope scope, Lang whole) {
        Case nothing = plain(langs.all);
        var silent = new ArrayList<Lang>(); // these evaluate nothing, so it doesn't matter which of them hold
        var cases = List.of(plain(langs.all));
        var failed = new ArrayList<Lang>();
        for (int i = 0; i < place.node().get("anyOf").size(); i++) {
            Place part = place.child("anyOf", i);
            Lang lang = reader.schema(part, scope);
            var inner = cases(part, scope);
            if (inner.stream().allMatch(c -> c.sameAs(nothing))) {
                silent.add(lang);
                continue;
            }
            var options = new ArrayList<>(inner);
            Lang not = langs.not(lang, place.pointer("anyOf"));
            options.add(plain(not));
            failed.add(not);
            cases = product(cases, options, place.pointer("anyOf"));
        }
        if (failed.isEmpty()) {
            return List.of(plain(whole));
        }
        var out = new ArrayList<Case>();
        for (Case c : cases) {
            out.add(new Case(langs.and(c.lang, whole), c.names, c.items, c.matches));
        }
        return joined(out);
    }

    private List<Case> conditional(Place place, Scope scope) {
        JsonNode node = place.node();
        if (!node.has("if")) {
            return List.of(plain(langs.all));
        }
        String where = place.pointer("if");
        Lang test = reader.schema(place.child("if"), scope);
        var yes = cases(place.child("if"), scope);
        if (node.has("then")) {
            yes = product(yes, cases(place.child("then"), scope), where);
        }
        var no = List.of(plain(langs.not(test, where)));
        if (node.has("else")) {
            no = product(no, cases(place.child("else"), scope), where);
        }
        var out = new ArrayList<>(yes);
        out.addAll(no);
        return joined(out);
    }

    private List<Case> product(List<Case> a, List<Case> b, String pointer) {
        var out = new ArrayList<Case>();
        for (Case x : a) {
            for (Case y : b) {
                Lang lang = langs.and(x.lang, y.lang);
                if (!lang.isFalse()) {
                    var matches = new LinkedHashSet<>(x.matches);
                    matches.addAll(y.matches);
                    out.add(new Case(lang, terms.or(x.names, y.names), Math.max(x.items, y.items), List.copyOf(matches)));
                }
            }
        }
        var joined = joined(out);
        if (joined.size() > MOST_CASES) {
            throw new Refusal(pointer, "what is evaluated depends on more than " + MOST_CASES + " combinations of subschemas");
        }
        return joined;
    }

    /** Cases in which the same is evaluated become one. */
    private List<Case> joined(List<Case> cases) {
        var out = new ArrayList<Case>();
        for (Case c : cases) {
            int i = 0;
            while (i < out.size() && !out.get(i).sameAs(c)) {
                i++;
            }
            if (i == out.size()) {
                out.add(c);
            } else {
                out.set(i, new Case(langs.or(out.get(i).lang, c.lang), c.names, c.items, c.matches));
            }
        }
        return out;
    }
}
