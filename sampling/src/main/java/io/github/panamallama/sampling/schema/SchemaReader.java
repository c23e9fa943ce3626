package io.github.panamallama.sampling.schema;

import io.github.panamallama.sampling.automaton.RegexSyntaxException;
import io.github.panamallama.sampling.schema.Documents.Place;
import io.github.panamallama.sampling.schema.Shape.Class;
import io.github.panamallama.sampling.schema.Shape.Count;
import io.github.panamallama.sampling.schema.Shape.Items;
import io.github.panamallama.sampling.schema.Shape.Member;
import io.github.panamallama.sampling.schema.Shape.Members;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import tools.jackson.databind.JsonNode;

/**
 * What each keyword says, as a formula. Unknown keywords are annotations, as the specification has it; known ones are enforced or
 * refused. {@code unevaluatedProperties} and {@code unevaluatedItems} are read by {@link Evaluated}.
 */
final class SchemaReader {
    private static final Set<String> ANNOTATIONS = Set.of("title", "description", "default", "examples", "deprecated", "readOnly",
            "writeOnly", "$comment", "contentEncoding", "contentMediaType", "contentSchema", "$schema", "$id", "id", "$anchor",
            "$dynamicAnchor", "$vocabulary", "$defs", "definitions");

    final Documents documents;
    final Langs langs;
    private final Terms terms;
    private final boolean formats;
    private final Map<String, Integer> patterns = new HashMap<>();

    SchemaReader(Documents documents, Terms terms, Budget budget, boolean formats) {
        this.documents = documents;
        this.terms = terms;
        this.formats = formats;
        langs = new Langs(terms, budget, schema -> read(schema.place, schema.scope));
    }

    /** The formula that stands for the schema at a place; its keywords are read later. */
    Lang schema(Place place, Scope scope) {
        JsonNode node = place.node();
        if (node.isBoolean()) {
            return node.booleanValue() ? langs.all : langs.none;
        }
        if (!node.isObject()) {
            throw new Refusal(place.pointer(), "a schema is an object or a boolean, not " + kind(node));
        }
        boolean says = false;
        for (String keyword : node.propertyNames()) {
            says |= !ANNOTATIONS.contains(keyword);
        }
        if (!says) {
            return langs.all;
        }
        return langs.schema(place, scope.enter(place.resource()));
    }

    private Lang read(Place place, Scope scope) {
        JsonNode node = place.node();
        if (!place.resource().dialect.refStandsAlone() || !node.has("$ref")) {
            if (node.has("unevaluatedProperties") || node.has("unevaluatedItems")) {
                return new Evaluated(this).read(place, scope);
            }
        }
        var parts = new ArrayList<Lang>();
        for (Keyword keyword : keywords(place, scope)) {
            parts.add(keyword.lang);
        }
        return langs.and(parts);
    }

    /** What one keyword, or a group of keywords that count together, says. */
    record Keyword(String name, Lang lang) { }

    /** Everything that a schema says but for unevaluated properties and items. */
    List<Keyword> keywords(Place place, Scope scope) {
        var out = new ArrayList<Keyword>();
        JsonNode node = place.node();
        if (node.has("$ref") && place.resource().dialect.refStandsAlone()) {
            out.add(new Keyword("$ref", schema(target(place, "$ref"), scope)));
            return out;
        }
        boolean validation = place.resource().validation;
        var groups = new HashSet<String>();
        // properties first: their order is the order of properties
        var order = new LinkedHashSet<String>();
        if (node.has("properties")) {
            order.add("properties");
        }
        order.addAll(node.propertyNames());
        for (String name : order) {
            String group = group(name);
            if (groups.add(group)) {
                try {
                    Lang lang = keyword(place, scope, group, validation);
                    if (lang != null) {
                        out.add(new Keyword(group, lang));
                    }
                } catch (Refusal e) {
                    throw e.at(place.pointer(name));
                }
            }
        }
        return out;
    }

    private static String group(String name) {
        return switch (name) {
            case "prefixItems", "additionalItems" -> "items";
            case "patternProperties", "additionalProperties" -> "properties";
            case "then", "else" -> "if";
            case "minContains", "maxContains" -> "contains";
            case "exclusiveMinimum" -> "minimum";
            case "exclusiveMaximum" -> "maximum";
            default -> name;
        };
    }

    private Lang keyword(Place place, Scope scope, String name, boolean validation) {
        JsonNode node = place.node();
        JsonNode value = node.get(name);
        return switch (name) {
            case "$ref" -> schema(target(place, "$ref"), scope);
            case "$dynamicRef" -> schema(dynamicTarget(place, scope), scope);
            case "$recursiveRef" -> throw new Refusal(place.pointer(name), "$recursiveRef was replaced by $dynamicRef in 2020-12");
            case "properties" -> properties(place, scope);
            case "propertyNames" -> propertyNames(place, scope);
            case "items" -> items(place, scope);
            case "contains" -> contains(place, scope);
            case "allOf" -> langs.and(list(place, scope, name));
            case "anyOf" -> langs.or(list(place, scope, name));
            case "oneOf" -> langs.oneOf(list(place, scope, name), place.pointer(name));
            case "not" -> langs.not(schema(place.child(name), scope), place.pointer(name));
            case "if" -> conditional(place, scope);
            case "dependentSchemas", "dependentRequired", "dependencies" -> dependencies(place, scope, name);
            case "type" -> validation ? type(place, value) : null;
            case "enum" -> validation ? values(place, value) : null;
            case "const" -> validation ? constant(value, place.pointer(name)) : null;
            case "minimum", "maximum" -> validation ? bounds(place, name) : null;
            case "multipleOf" -> validation ? multiple(place, value) : null;
            case "minLength" -> validation ? length(place, size(place, name), Shape.UNBOUNDED) : null;
            case "maxLength" -> validation ? length(place, 0, size(place, name)) : null;
            case "pattern" -> validation ? text(pattern(text(place, name), place.pointer(name)), place.pointer(name)) : null;
            case "format" -> formats || place.resource().formats ? format(place, value) : null;
            case "minItems" -> validation ? arrays(langs.items(List.of(), langs.all, size(place, name), Shape.UNBOUNDED, List.of(), false),
                    place.pointer(name)) : null;
            case "maxItems" -> validation ? arrays(langs.items(List.of(), langs.all, 0, size(place, name), List.of(), false),
                    place.pointer(name)) : null;
            case "uniqueItems" -> {
                if (!value.isBoolean()) {
                    throw new Refusal(place.pointer(name), "uniqueItems must be a boolean, not " + kind(value));
                }
                yield validation && value.booleanValue()
                        ? arrays(langs.items(List.of(), langs.all, 0, Shape.UNBOUNDED, List.of(), true), place.pointer(name)) : null;
            }
            case "minProperties" -> validation ? counted(size(place, name), Shape.UNBOUNDED, place.pointer(name)) : null;
            case "maxProperties" -> validation ? counted(0, size(place, name), place.pointer(name)) : null;
            case "required" -> validation ? required(place, value) : null;
            default -> null;
        };
    }

    // ---- references

    Place target(Place place, String keyword) {
        return documents.resolve(place, text(place, keyword), keyword);
    }

    /** Core specification, section 8.2.3.2: dynamic only if the reference first leads to a dynamic anchor. */
    Place dynamicTarget(Place place, Scope scope) {
        String reference = text(place, "$dynamicRef");
        Place first = documents.resolve(place, reference, "$dynamicRef");
        int hash = reference.indexOf('#');
        String anchor = hash < 0 ? "" : reference.substring(hash + 1);
        if (first.resource().dynamicAnchors.get(anchor) instanceof Place marked && marked.key().equals(first.key())) {
            Place outermost = scope.outermost(anchor);
            return outermost != null ? outermost : first;
        }
        return first;
    }

    // ---- combinations

    List<Lang> list(Place place, Scope scope, String keyword) {
        JsonNode value = place.node().get(keyword);
        if (!value.isArray() || value.isEmpty()) {
            throw new Refusal(place.pointer(keyword), keyword + " must be a list of schemas, at least one");
        }
        var out = new ArrayList<Lang>();
        for (int i = 0; i < value.size(); i++) {
            out.add(schema(place.child(keyword, i), scope));
        }
        return out;
    }

    private Lang conditional(Place place, Scope scope) {
        JsonNode node = place.node();
        if (!node.has("if")) {
            return langs.all; // then and else alone say nothing
        }
        Lang test = schema(place.child("if"), scope);
        Lang yes = node.has("then") ? schema(place.child("then"), scope) : langs.all;
        Lang no = node.has("else") ? schema(place.child("else"), scope) : langs.all;
        if (yes.isTrue() && no.isTrue()) {
            return langs.all;
        }
        return langs.or(langs.and(test, yes), langs.and(langs.not(test, place.pointer("if")), no));
    }

    private Lang dependencies(Place place, Scope scope, String keyword) {
        var parts = new ArrayList<Lang>();
        for (var entry : map(place, keyword).entrySet()) {
            String where = place.pointer(keyword) + "/" + Documents.escape(entry.getKey());
            Lang then;
            if (entry.getValue().isArray() && !keyword.equals("dependentSchemas")) {
                then = required(strings(entry.getValue(), where), where);
            } else if (entry.getValue().isString() && keyword.equals("dependencies")) {
                then = required(List.of(entry.getValue().stringValue()), where);
            } else if (keyword.equals("dependentRequired")) {
                throw new Refusal(where, "a list of property names is needed, not " + kind(entry.getValue()));
            } else {
                then = schema(place.child(keyword, entry.getKey()), scope);
            }
            if (!then.isTrue()) {
                parts.add(langs.or(absent(entry.getKey(), where), then));
            }
        }
        return langs.and(parts);
    }

    /** Objects with this property. */
    Lang present(String name, String pointer) {
        return langs.atom(new Shape(0, terms.none, terms.none, List.of(),
                List.of(members(Map.of(name, new Member(langs.all, true)), 1))), pointer);
    }

    /** Everything but objects with this property. */
    Lang absent(String name, String pointer) {
        return objects(members(Map.of(name, new Member(langs.none, false)), 0), pointer);
    }

    private Members members(Map<String, Member> named, int min) {
        return new Members(named, List.of(new Class(terms.anyString, langs.all)), min, Shape.UNBOUNDED, List.of());
    }

    // ---- values

    private Lang type(Place place, JsonNode value) {
        String where = place.pointer("type");
        var names = value.isArray() ? strings(value, where) : List.of(text(place, "type"));
        Shape shape = langs.nothing;
        for (String name : names) {
            shape = langs.union(shape, ofType(name, where, place.resource().dialect));
        }
        return langs.atom(shape, where);
    }

    private Shape ofType(String name, String where, Dialect dialect) {
        Shape any = langs.anything;
        return switch (name) {
            case "null" -> new Shape(Shape.NULL, terms.none, terms.none, List.of(), List.of());
            case "boolean" -> new Shape(Shape.FALSE | Shape.TRUE, terms.none, terms.none, List.of(), List.of());
            case "number" -> new Shape(0, terms.anyNumber, terms.none, List.of(), List.of());
            case "integer" -> new Shape(0, terms.numbers.integer, terms.none, List.of(), List.of());
            case "string" -> new Shape(0, terms.none, terms.anyString, List.of(), List.of());
            case "array" -> new Shape(0, terms.none, terms.none, any.arrays(), List.of());
            case "object" -> new Shape(0, terms.none, terms.none, List.of(), any.objects());
            default -> throw new Refusal(where, "unknown type " + name
                    + "; types are null, boolean, integer, number, string, array, object");
        };
    }

    private Lang values(Place place, JsonNode value) {
        if (!value.isArray()) {
            throw new Refusal(place.pointer("enum"), "enum must be a list of values, not " + kind(value));
        }
        var parts = new ArrayList<Lang>();
        Shape scalars = langs.nothing;
        var texts = new ArrayList<Integer>();
        for (int i = 0; i < value.size(); i++) {
            JsonNode each = value.get(i);
            if (each.isContainer()) {
                parts.add(constant(each, place.pointer("enum") + "/" + i));
            } else if (each.isString()) {
                texts.add(terms.literal(each.stringValue()));
            } else {
                scalars = langs.union(scalars, scalar(each));
            }
        }
        if (!texts.isEmpty()) {
            scalars = langs.union(scalars, new Shape(0, terms.none,
                    terms.pool.alt(texts.stream().mapToInt(Integer::intValue).toArray()), List.of(), List.of()));
        }
        parts.add(langs.atom(scalars, place.pointer("enum")));
        return langs.or(parts);
    }

    private Shape scalar(JsonNode value) {
        int literal = value.isNull() ? Shape.NULL : !value.isBoolean() ? 0 : value.booleanValue() ? Shape.TRUE : Shape.FALSE;
        return new Shape(literal, value.isNumber() ? terms.numbers.equal(value.decimalValue()) : terms.none,
                value.isString() ? terms.literal(value.stringValue()) : terms.none, List.of(), List.of());
    }

    /** Exactly this value. */
    Lang constant(JsonNode value, String pointer) {
        if (!value.isContainer()) {
            return langs.atom(scalar(value), pointer);
        }
        if (value.isArray()) {
            var prefix = new ArrayList<Lang>();
            for (JsonNode item : value) {
                prefix.add(constant(item, pointer));
            }
            return langs.atom(new Shape(0, terms.none, terms.none,
                    list(langs.items(prefix, langs.none, prefix.size(), prefix.size(), List.of(), false)), List.of()), pointer);
        }
        var named = new LinkedHashMap<String, Member>();
        for (var entry : value.properties()) {
            named.put(entry.getKey(), new Member(constant(entry.getValue(), pointer), true));
        }
        return langs.atom(new Shape(0, terms.none, terms.none, List.of(),
                List.of(new Members(named, List.of(), named.size(), named.size(), List.of()))), pointer);
    }

    private static List<Items> list(Items items) {
        return items == null ? List.of() : List.of(items);
    }

    private Lang numbers(int term, String pointer) {
        var any = langs.anything;
        return langs.atom(new Shape(any.literals(), term, any.string(), any.arrays(), any.objects()), pointer);
    }

    private Lang text(int term, String pointer) {
        var any = langs.anything;
        return langs.atom(new Shape(any.literals(), any.number(), term, any.arrays(), any.objects()), pointer);
    }

    private Lang arrays(Items items, String pointer) {
        var any = langs.anything;
        return langs.atom(new Shape(any.literals(), any.number(), any.string(), list(items), any.objects()), pointer);
    }

    private Lang objects(Members members, String pointer) {
        var any = langs.anything;
        return langs.atom(new Shape(any.literals(), any.number(), any.string(), any.arrays(), List.of(members)), pointer);
    }

    // ---- numbers

    private Lang bounds(Place place, String name) {
        boolean min = name.equals("minimum");
        String strict = min ? "exclusiveMinimum" : "exclusiveMaximum";
        JsonNode inclusive = place.node().get(name);
        JsonNode exclusive = place.node().get(strict);
        int term = terms.anyNumber;
        boolean old = exclusive != null && exclusive.isBoolean(); // draft 4: a modifier
        if (inclusive != null) {
            BigDecimal bound = number(inclusive, place.pointer(name));
            boolean orEqual = !(old && exclusive.booleanValue());
            term = terms.and(term, min ? terms.numbers.above(bound, orEqual) : terms.numbers.below(bound, orEqual));
        }
        if (exclusive != null && !old) {
            BigDecimal bound = number(exclusive, place.pointer(strict));
            term = terms.and(term, min ? terms.numbers.above(bound, false) : terms.numbers.below(bound, false));
        }
        return numbers(term, place.pointer(inclusive != null ? name : strict));
    }

    private Lang multiple(Place place, JsonNode value) {
        BigDecimal divisor = number(value, place.pointer("multipleOf"));
        if (divisor.signum() <= 0) {
            throw new Refusal(place.pointer("multipleOf"), "multipleOf must be above 0, not " + value);
        }
        return numbers(terms.numbers.multiple(divisor), place.pointer("multipleOf"));
    }

    private static BigDecimal number(JsonNode value, String pointer) {
        if (!value.isNumber()) {
            throw new Refusal(pointer, "a number is needed, not " + kind(value));
        }
        return value.decimalValue();
    }

    // ---- strings

    private Lang length(Place place, int min, int max) {
        String where = place.pointer(max == Shape.UNBOUNDED ? "minLength" : "maxLength");
        return text(terms.pool.repeat(terms.pool.anyChar(terms.encoding), min, max), where);
    }

    int pattern(String pattern, String pointer) {
        Integer known = patterns.get(pattern);
        if (known == null) {
            try {
                known = terms.pool.search(pattern, terms.encoding);
            } catch (RegexSyntaxException e) {
                throw new Refusal(pointer, "pattern " + pattern + ": " + e.getMessage());
            }
            patterns.put(pattern, known);
        }
        return known;
    }

    private Lang format(Place place, JsonNode value) {
        if (!value.isString()) {
            throw new Refusal(place.pointer("format"), "a format is named by a string, not " + kind(value));
        }
        Integer term = Formats.term(value.stringValue(), terms, place.pointer("format"));
        return term == null ? null : text(term, place.pointer("format"));
    }

    // ---- arrays

    private Lang items(Place place, Scope scope) {
        JsonNode node = place.node();
        var prefix = new ArrayList<Lang>();
        Lang rest = langs.all;
        JsonNode items = node.get("items");
        String old = items != null && items.isArray() ? "items" : null; // before 2020-12
        // the list form of items has no meaning in 2020-12, prefixItems none before it
        if (old != null && place.resource().dialect == Dialect.DRAFT_2020 && node.has("prefixItems")) {
            throw new Refusal(place.pointer("items"), "items must be a schema beside prefixItems");
        }
        String list = old != null ? old : node.has("prefixItems") && place.resource().dialect == Dialect.DRAFT_2020 ? "prefixItems" : null;
        if (list != null) {
            if (!node.get(list).isArray()) {
                throw new Refusal(place.pointer(list), list + " must be a list of schemas, not " + kind(node.get(list)));
            }
            for (int i = 0; i < node.get(list).size(); i++) {
                prefix.add(schema(place.child(list, i), scope));
            }
        }
        if (old != null) {
            if (node.has("additionalItems")) {
                rest = schema(place.child("additionalItems"), scope);
            }
        } else if (items != null) {
            rest = schema(place.child("items"), scope);
        }
        if (rest.isTrue() && prefix.stream().allMatch(Lang::isTrue)) {
            return langs.all;
        }
        return arrays(langs.items(prefix, rest, 0, Shape.UNBOUNDED, List.of(), false),
                place.pointer(list != null ? list : node.has("items") ? "items" : "additionalItems"));
    }

    private Lang contains(Place place, Scope scope) {
        JsonNode node = place.node();
        if (!node.has("contains")) {
            return langs.all; // the counts alone say nothing
        }
        Lang item = schema(place.child("contains"), scope);
        boolean counted = place.resource().validation;
        int min = counted && node.has("minContains") ? size(place, "minContains") : 1;
        int max = counted && node.has("maxContains") ? size(place, "maxContains") : Shape.UNBOUNDED;
        String where = place.pointer("contains");
        if (min > max) {
            return arrays(null, where);
        }
        if (item.isFalse()) {
            return min > 0 ? arrays(null, where) : langs.all;
        }
        if (item.isTrue()) {
            return arrays(langs.items(List.of(), langs.all, min, max, List.of(), false), where);
        }
        return min == 0 && max == Shape.UNBOUNDED ? langs.all
                : arrays(langs.items(List.of(), langs.all, min, Shape.UNBOUNDED, List.of(new Count(0, item, min, max)), false), where);
    }

    // ---- objects

    private Lang properties(Place place, Scope scope) {
        JsonNode node = place.node();
        var parts = new ArrayList<Lang>();
        var names = new ArrayList<String>();
        if (node.has("properties")) {
            var named = new LinkedHashMap<String, Member>();
            for (String name : map(place, "properties").keySet()) {
                named.put(name, new Member(schema(place.child("properties", name), scope), false));
            }
            names.addAll(named.keySet());
            if (!named.isEmpty()) {
                parts.add(objects(members(named, 0), place.pointer("properties")));
            }
        }
        var covered = new ArrayList<Integer>();
        if (node.has("patternProperties")) {
            for (String pattern : map(place, "patternProperties").keySet()) {
                String where = place.pointer("patternProperties") + "/" + Documents.escape(pattern);
                int term = pattern(pattern, where);
                covered.add(term);
                Lang value = schema(place.child("patternProperties", pattern), scope);
                if (!value.isTrue()) {
                    parts.add(objects(classes(term, value, terms.notString(term), langs.all), where));
                }
            }
        }
        if (node.has("additionalProperties")) {
            Lang value = schema(place.child("additionalProperties"), scope);
            if (!value.isTrue()) {
                covered.add(terms.names(names));
                int others = terms.pool.alt(covered.stream().mapToInt(Integer::intValue).toArray());
                // names stay apart from the patterns: most schemas have no other, and then no automaton is needed
                var known = new LinkedHashMap<String, Member>();
                for (String name : names) {
                    known.put(name, new Member(langs.all, false));
                }
                int matched = terms.pool.alt(covered.subList(0, covered.size() - 1).stream().mapToInt(Integer::intValue).toArray());
                Members shape = matched == terms.none ? new Members(known, classes(terms.none, langs.all, terms.anyString, value).rest(),
                        0, Shape.UNBOUNDED, List.of())
                        : new Members(known, classes(matched, langs.all, terms.notString(matched), value).rest(), 0, Shape.UNBOUNDED,
                                List.of());
                parts.add(objects(shape, place.pointer("additionalProperties")));
            }
        }
        return langs.and(parts);
    }

    /** Objects whose names fall into two classes. */
    Members classes(int first, Lang value, int second, Lang other) {
        var rest = new ArrayList<Class>();
        if (!value.isFalse() && !terms.isEmpty(first)) {
            rest.add(new Class(first, value));
        }
        if (!other.isFalse() && !terms.isEmpty(second)) {
            rest.add(new Class(second, other));
        }
        return new Members(Map.of(), List.copyOf(rest), 0, Shape.UNBOUNDED, List.of());
    }

    Lang unevaluatedProperties(int evaluated, Lang value, String pointer) {
        return objects(classes(evaluated, langs.all, terms.notString(evaluated), value), pointer);
    }

    Lang unevaluatedItems(int evaluated, Lang value, String pointer) {
        var prefix = new ArrayList<Lang>();
        for (int i = 0; i < evaluated; i++) {
            prefix.add(langs.all);
        }
        return arrays(langs.items(prefix, value, 0, Shape.UNBOUNDED, List.of(), false), pointer);
    }

    private Lang propertyNames(Place place, Scope scope) {
        Lang names = schema(place.child("propertyNames"), scope);
        String where = place.pointer("propertyNames");
        if (names.isTrue()) {
            return langs.all;
        }
        int term = names.isFalse() ? terms.none : langs.shape(names).string();
        return objects(classes(term, langs.all, terms.none, langs.none), where);
    }

    private Lang required(Place place, JsonNode value) {
        if (value.isBoolean()) {
            // draft 3 had it per property; every later draft calls it no schema
            throw new Refusal(place.pointer("required"), "required must be a list of property names, not " + kind(value));
        }
        return required(strings(value, place.pointer("required")), place.pointer("required"));
    }

    private Lang required(List<String> names, String pointer) {
        if (names.isEmpty()) {
            return langs.all;
        }
        var named = new LinkedHashMap<String, Member>();
        for (String name : names) {
            named.put(name, new Member(langs.all, true));
        }
        return objects(members(named, named.size()), pointer);
    }

    private Lang counted(int min, int max, String pointer) {
        return objects(new Members(Map.of(), List.of(new Class(terms.anyString, langs.all)), min, max, List.of()), pointer);
    }

    // ---- reading

    Map<String, JsonNode> map(Place place, String keyword) {
        JsonNode value = place.node().get(keyword);
        if (!value.isObject()) {
            throw new Refusal(place.pointer(keyword), keyword + " must be an object, not " + kind(value));
        }
        var out = new LinkedHashMap<String, JsonNode>();
        value.properties().forEach(e -> out.put(e.getKey(), e.getValue()));
        return out;
    }

    private static String text(Place place, String keyword) {
        JsonNode value = place.node().get(keyword);
        if (!value.isString()) {
            throw new Refusal(place.pointer(keyword), keyword + " must be a string, not " + kind(value));
        }
        return value.stringValue();
    }

    private static List<String> strings(JsonNode value, String where) {
        if (!value.isArray()) {
            throw new Refusal(where, "a list of strings is needed, not " + kind(value));
        }
        var out = new ArrayList<String>();
        for (JsonNode each : value) {
            if (!each.isString()) {
                throw new Refusal(where, "a list of strings is needed, not one with " + kind(each));
            }
            out.add(each.stringValue());
        }
        return out;
    }

    private static int size(Place place, String keyword) {
        JsonNode value = place.node().get(keyword);
        if (value.isNumber()) {
            BigDecimal number = Numbers.check(value.decimalValue());
            if (number.signum() >= 0 && number.scale() <= 0) {
                // what is larger than any text is as good as no bound
                return number.compareTo(BigDecimal.valueOf(1_000_000_000)) > 0 ? 1_000_000_000 : number.intValueExact();
            }
        }
        throw new Refusal(place.pointer(keyword), keyword + " must be a whole number from 0, not " + value);
    }

    private static String kind(JsonNode value) {
        return switch (value.getNodeType()) {
            case STRING -> "the string " + value;
            case NUMBER -> "the number " + value;
            case BOOLEAN -> value.toString();
            case ARRAY -> "an array";
            case OBJECT -> "an object";
            case NULL -> "null";
            default -> "nothing";
        };
    }
}
