package io.github.panamallama.sampling.schema;

import io.github.panamallama.sampling.automaton.LimitException;
import io.github.panamallama.sampling.schema.Documents.Place;
import io.github.panamallama.sampling.schema.Lang.Kind;
import io.github.panamallama.sampling.schema.Shape.Class;
import io.github.panamallama.sampling.schema.Shape.Count;
import io.github.panamallama.sampling.schema.Shape.Items;
import io.github.panamallama.sampling.schema.Shape.Member;
import io.github.panamallama.sampling.schema.Shape.Members;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.BooleanSupplier;
import java.util.function.Function;

/**
 * The algebra of {@link Lang}: makes formulas, finds their shapes, decides whether a value exists. Conjunction meets shape by shape,
 * negation goes down to single keywords, whose complements are short unions; {@code oneOf} drops the negations of parts that are
 * disjoint anyway, so that a union told apart by a constant costs nothing.
 */
final class Langs {
    /** Array or object shapes of one formula: beyond it a disjunction has no reasonable normal form. */
    private static final int MOST_SHAPES = 2_000;
    /** Formulas nested in one another on the way to a shape. */
    private static final int DEEPEST = 400;

    final Terms terms;
    final Budget budget;
    final Lang all;
    final Lang none;
    final Shape anything;
    final Shape nothing;

    private final Map<Object, Lang> known = new HashMap<>();
    private final Function<Lang, Lang> reader;
    private int ids;
    private int depth;
    /** Formulas whose shapes were begun below this depth are unfinished business of an outer inquiry. */
    private int barrier;
    private int tainted = Integer.MAX_VALUE;

    /** @param reader the formula of a schema at its place */
    Langs(Terms terms, Budget budget, Function<Lang, Lang> reader) {
        this.terms = terms;
        this.budget = budget;
        this.reader = reader;
        all = make("all", Kind.TRUE, List.of(), null, null, null, null);
        none = make("none", Kind.FALSE, List.of(), null, null, null, null);
        anything = new Shape(Shape.LITERALS, terms.anyNumber, terms.anyString, List.of(anyItems()), List.of(anyMembers()));
        nothing = new Shape(0, terms.none, terms.none, List.of(), List.of());
    }

    Items anyItems() {
        return new Items(List.of(), all, 0, Shape.UNBOUNDED, List.of(), false);
    }

    Members anyMembers() {
        return new Members(Map.of(), List.of(new Class(terms.anyString, all)), 0, Shape.UNBOUNDED, List.of());
    }

    // ---- formulas

    private Lang make(Object key, Kind kind, List<Lang> parts, Shape atom, Place place, Scope scope, String pointer) {
        Lang found = known.get(key);
        if (found == null) {
            budget.formula();
            found = new Lang(ids++, kind, parts, atom, place, scope, pointer);
            known.put(key, found);
        }
        return found;
    }

    Lang atom(Shape shape, String pointer) {
        if (shape.equals(anything)) {
            return all;
        }
        return shape.equals(nothing) ? none : make(shape, Kind.ATOM, List.of(), shape, null, null, pointer);
    }

    Lang schema(Place place, Scope scope) {
        return make(List.of("schema", place.key(), scope.key), Kind.SCHEMA, List.of(), null, place, scope, place.pointer());
    }

    Lang and(Lang... parts) {
        return and(List.of(parts));
    }

    Lang or(Lang... parts) {
        return or(List.of(parts));
    }

    Lang and(Collection<Lang> parts) {
        return join(parts, Kind.AND, all, none);
    }

    Lang or(Collection<Lang> parts) {
        return join(parts, Kind.OR, none, all);
    }

    /** Parts keep their order: that of the schema is the order of properties. */
    private Lang join(Collection<Lang> parts, Kind kind, Lang neutral, Lang absorbing) {
        var flat = new LinkedHashSet<Lang>();
        for (Lang part : parts) {
            if (part == absorbing) {
                return absorbing;
            }
            if (part.kind == kind) {
                flat.addAll(part.parts);
            } else if (part != neutral) {
                flat.add(part);
            }
        }
        for (Lang part : flat) {
            if (part.kind == Kind.NOT && flat.contains(part.parts.getFirst())) {
                return absorbing;
            }
        }
        if (flat.size() < 2) {
            return flat.isEmpty() ? neutral : flat.getFirst();
        }
        var list = List.copyOf(flat);
        int[] ordered = list.stream().mapToInt(l -> l.id).sorted().toArray();
        return make(List.of(kind, Arrays.stream(ordered).boxed().toList()), kind, list, null, null, null, null);
    }

    Lang not(Lang part, String pointer) {
        return switch (part.kind) {
            case TRUE -> none;
            case FALSE -> all;
            case NOT -> part.parts.getFirst();
            case AND -> or(part.parts.stream().map(p -> not(p, pointer)).toList());
            case OR -> and(part.parts.stream().map(p -> not(p, pointer)).toList());
            case ONE_OF -> {
                var other = new ArrayList<Lang>();
                other.add(and(part.parts.stream().map(p -> not(p, pointer)).toList()));
                for (int i = 0; i < part.parts.size(); i++) {
                    for (int j = 0; j < i; j++) {
                        other.add(and(part.parts.get(i), part.parts.get(j)));
                    }
                }
                yield or(other);
            }
            default -> make(List.of(Kind.NOT, part.id), Kind.NOT, List.of(part), null, null, null, pointer);
        };
    }

    Lang oneOf(List<Lang> parts, String pointer) {
        if (parts.size() < 2) {
            return parts.isEmpty() ? none : parts.getFirst();
        }
        return make(List.of(Kind.ONE_OF, parts.stream().map(p -> p.id).toList()), Kind.ONE_OF, parts, null, null, null, pointer);
    }

    // ---- shapes

    private static final class Unfinished extends RuntimeException {
        static final Unfinished HERE = new Unfinished();

        Unfinished() {
            super(null, null, false, false);
        }
    }

    /**
     * The shape of a formula.
     *
     * @throws Refusal if it has none of reasonable size, or contains itself without a value in between
     */
    Shape shape(Lang lang) {
        if (lang.shape != null) {
            return lang.shape;
        }
        if (lang.shaping >= 0) {
            if (lang.shaping < barrier) {
                throw Unfinished.HERE;
            }
            throw new Refusal(lang.pointer, "the schema refers to itself without a value in between, so it says nothing");
        }
        if (depth >= DEEPEST) {
            throw new Refusal(lang.pointer, "schemas are combined more than " + DEEPEST + " deep");
        }
        budget.step();
        lang.shaping = depth++;
        try {
            Shape shape = find(lang);
            lang.shape = shape;
            return shape;
        } catch (Refusal e) {
            throw at(e, lang);
        } catch (LimitException e) {
            throw at(new Refusal(null, e.getMessage()), lang);
        } finally {
            depth--;
            lang.shaping = -1;
        }
    }

    /** The refusal with the place of its keyword in the formula, or that of the formula. */
    static Refusal at(Refusal e, Lang lang) {
        if (e.pointer() != null) {
            return e;
        }
        String place = e.keyword() == null ? null : place(lang, e.keyword(), 0);
        return place != null ? e.at(place) : lang.pointer != null && e.keyword() == null ? e.at(lang.pointer) : e;
    }

    private static String place(Lang lang, String keyword, int depth) {
        if (lang == null || depth > 20) {
            return null;
        }
        if (lang.kind == Kind.SCHEMA && lang.place.node().has(keyword)) {
            return lang.place.pointer(keyword);
        }
        if (lang.pointer != null && lang.pointer.endsWith("/" + keyword)) {
            return lang.pointer;
        }
        for (Lang part : lang.kind == Kind.SCHEMA && lang.definition != null ? List.of(lang.definition) : lang.parts) {
            String found = place(part, keyword, depth + 1);
            if (found != null) {
                return found;
            }
        }
        return null;
    }

    private Shape find(Lang lang) {
        return switch (lang.kind) {
            case TRUE -> anything;
            case FALSE -> nothing;
            case ATOM -> lang.atom;
            case SCHEMA -> shape(definition(lang));
            case AND -> {
                Shape result = anything;
                // the narrow ones first: they keep products small
                var shapes = new ArrayList<Shape>();
                for (Lang part : lang.parts) {
                    shapes.add(shape(part));
                }
                shapes.sort((a, b) -> Integer.compare(a.objects().size() + a.arrays().size(), b.objects().size() + b.arrays().size()));
                for (Shape part : shapes) {
                    result = meet(result, part);
                }
                yield result;
            }
            case OR -> {
                Shape result = nothing;
                for (Lang part : lang.parts) {
                    result = union(result, shape(part));
                }
                yield result;
            }
            case NOT -> {
                Lang part = lang.parts.getFirst();
                if (part.kind == Kind.SCHEMA) {
                    yield shape(not(definition(part), lang.pointer));
                }
                yield complement(shape(part));
            }
            case ONE_OF -> exactlyOne(lang);
        };
    }

    Lang definition(Lang schema) {
        if (schema.definition == null) {
            schema.definition = reader.apply(schema);
        }
        return schema.definition;
    }

    private Shape exactlyOne(Lang lang) {
        var shapes = new ArrayList<Shape>();
        for (Lang part : lang.parts) {
            shapes.add(shape(part));
        }
        Shape result = nothing;
        for (int i = 0; i < shapes.size(); i++) {
            Shape only = shapes.get(i);
            for (int j = 0; j < shapes.size(); j++) {
                if (i != j) {
                    Shape both = meet(only, shapes.get(j));
                    if (!knownEmpty(both)) {
                        only = meet(only, shape(not(lang.parts.get(j), lang.pointer)));
                    }
                }
            }
            result = union(result, only);
        }
        return result;
    }

    Shape union(Shape a, Shape b) {
        if (a.equals(nothing)) {
            return b;
        }
        if (b.equals(nothing) || a.equals(b)) {
            return a;
        }
        return new Shape(a.literals() | b.literals(), terms.or(a.number(), b.number()), terms.or(a.string(), b.string()),
                join(a.arrays(), b.arrays(), anyItems()), join(a.objects(), b.objects(), anyMembers()));
    }

    private <T> List<T> join(List<T> a, List<T> b, T any) {
        var all = new LinkedHashSet<T>(a);
        all.addAll(b);
        if (all.contains(any)) {
            return List.of(any);
        }
        tooMany(all.size());
        return List.copyOf(all);
    }

    private void tooMany(int shapes) {
        if (shapes > MOST_SHAPES) {
            throw new Refusal(null, "the alternatives multiply to more than " + MOST_SHAPES + " combinations; write the schema with fewer");
        }
    }

    Shape meet(Shape a, Shape b) {
        if (a.equals(anything)) {
            return b;
        }
        if (b.equals(anything) || a.equals(b)) {
            return a;
        }
        var arrays = new LinkedHashSet<Items>();
        for (Items x : a.arrays()) {
            for (Items y : b.arrays()) {
                budget.step();
                Items both = meet(x, y);
                if (both != null) {
                    arrays.add(both);
                }
            }
            tooMany(arrays.size());
        }
        var objects = new LinkedHashSet<Members>();
        for (Members x : a.objects()) {
            for (Members y : b.objects()) {
                budget.step();
                Members both = meet(x, y);
                if (both != null) {
                    objects.add(both);
                }
            }
            tooMany(objects.size());
        }
        if (a.objects().size() > 1 && b.objects().size() > 1) {
            keepWidest(objects);
        }
        return new Shape(a.literals() & b.literals(), terms.and(a.number(), b.number()), terms.and(a.string(), b.string()),
                List.copyOf(arrays), List.copyOf(objects));
    }

    /** Null if plainly empty. */
    private Items meet(Items a, Items b) {
        if (a.equals(anyItems()) || a.equals(b)) {
            return b;
        }
        if (b.equals(anyItems())) {
            return a;
        }
        int min = Math.max(a.min(), b.min());
        int max = Math.min(a.max(), b.max());
        int length = Math.max(a.prefix().size(), b.prefix().size());
        var prefix = new ArrayList<Lang>(length);
        for (int i = 0; i < length && i < max; i++) {
            Lang x = a.item(i);
            Lang y = b.item(i);
            Lang both = and(x, y);
            if (both.isFalse() || i < min && both != x && both != y && knownEmpty(both)) {
                max = i;
                break;
            }
            prefix.add(both);
        }
        Lang rest = prefix.size() < length ? none : and(a.rest(), b.rest());
        if (rest.isFalse()) {
            max = Math.min(max, prefix.size());
        }
        if (min > max) {
            return null;
        }
        var counts = new LinkedHashSet<>(a.counts());
        counts.addAll(b.counts());
        return trim(prefix, rest, min, max, List.copyOf(counts), a.unique() || b.unique());
    }

    /** One form for what is the same: no prefix that repeats the rest, no counts that say nothing. */
    private Items trim(List<Lang> prefix, Lang rest, int min, int max, List<Count> counts, boolean unique) {
        int length = Math.min(prefix.size(), max);
        Lang tail = max <= prefix.size() ? none : rest;
        while (length > 0 && prefix.get(length - 1) == tail) {
            length--;
        }
        return new Items(List.copyOf(prefix.subList(0, length)), tail, min, max, counts, unique && max > 1);
    }

    /** Items from their parts, in one form; null if plainly empty. */
    Items items(List<Lang> prefix, Lang rest, int min, int max, List<Count> counts, boolean unique) {
        int most = max;
        for (int i = 0; i < prefix.size() && i < most; i++) {
            if (prefix.get(i).isFalse()) {
                most = i;
            }
        }
        if (rest.isFalse()) {
            most = Math.min(most, prefix.size());
        }
        return min > most ? null : trim(prefix, rest, min, most, counts, unique);
    }

    /** The values that a name has in an object shape. */
    Lang value(Members shape, String name) {
        Member member = shape.named().get(name);
        if (member != null) {
            return member.value();
        }
        for (Class c : shape.rest()) {
            if (terms.matches(c.names(), name)) {
                return c.value();
            }
        }
        return none;
    }

    /** Null if plainly empty. */
    private Members meet(Members a, Members b) {
        var any = anyMembers();
        if (a.equals(any) || a.equals(b)) {
            return b;
        }
        if (b.equals(any)) {
            return a;
        }
        int min = Math.max(a.min(), b.min());
        int max = Math.min(a.max(), b.max());
        int required = 0;
        var named = new LinkedHashMap<String, Member>();
        var names = new LinkedHashSet<>(a.named().keySet());
        names.addAll(b.named().keySet());
        for (String name : names) {
            Lang x = value(a, name);
            Lang y = value(b, name);
            Lang both = and(x, y);
            boolean must = a.named().containsKey(name) && a.named().get(name).required()
                    || b.named().containsKey(name) && b.named().get(name).required();
            if (!both.isFalse() && both != x && both != y && knownEmpty(both)) {
                both = none;
            }
            if (must) {
                required++;
                if (both.isFalse()) {
                    return null;
                }
            }
            named.put(name, new Member(both, must));
        }
        if (min > max || required > max) {
            return null;
        }
        var rest = new ArrayList<Class>();
        for (Class x : a.rest()) {
            for (Class y : b.rest()) {
                Lang value = and(x.value(), y.value());
                if (value.isFalse()) {
                    continue;
                }
                int both = terms.and(x.names(), y.names());
                if (both != terms.none && (both == x.names() || both == y.names() || !terms.isEmpty(both))) {
                    rest.add(new Class(both, value));
                }
            }
        }
        var needs = new LinkedHashSet<>(a.needs());
        needs.addAll(b.needs());
        return new Members(named, join(rest), min, max, List.copyOf(needs));
    }

    /** Drops shapes that are plainly within others: products of alternatives that overlap have many. */
    private void keepWidest(LinkedHashSet<Members> shapes) {
        var list = new ArrayList<>(shapes);
        for (Members x : list) {
            for (Members y : list) {
                if (x != y && shapes.contains(y) && within(x, y)) {
                    shapes.remove(x);
                    break;
                }
            }
            budget.step();
        }
    }

    private boolean within(Members x, Members y) {
        if (x.min() < y.min() || x.max() > y.max() || !x.needs().containsAll(y.needs()) || !x.rest().equals(y.rest())) {
            return false;
        }
        for (var entry : y.named().entrySet()) {
            Member own = x.named().get(entry.getKey());
            if (own == null || entry.getValue().required() && !own.required() || !within(own.value(), entry.getValue().value())) {
                return false;
            }
        }
        for (var entry : x.named().entrySet()) {
            if (!y.named().containsKey(entry.getKey()) && !within(entry.getValue().value(), value(y, entry.getKey()))) {
                return false;
            }
        }
        return true;
    }

    /** Plainly: a conjunction is within its parts. */
    private static boolean within(Lang x, Lang y) {
        return x == y || y.isTrue() || x.isFalse()
                || x.kind == Kind.AND && (x.parts.contains(y) || y.kind == Kind.AND && x.parts.containsAll(y.parts));
    }

    /** Classes with the same values become one. */
    private List<Class> join(List<Class> classes) {
        var byValue = new LinkedHashMap<Lang, Integer>();
        for (Class c : classes) {
            byValue.merge(c.value(), c.names(), terms::or);
        }
        var joined = new ArrayList<Class>(byValue.size());
        byValue.forEach((value, names) -> joined.add(new Class(names, value)));
        return List.copyOf(joined);
    }

    // ---- complements

    Shape complement(Shape s) {
        var arrays = List.of(anyItems());
        for (Items items : s.arrays()) {
            var next = new LinkedHashSet<Items>();
            for (Items other : complement(items)) {
                for (Items before : arrays) {
                    Items both = meet(before, other);
                    if (both != null) {
                        next.add(both);
                    }
                }
            }
            tooMany(next.size());
            arrays = List.copyOf(next);
        }
        var objects = List.of(anyMembers());
        for (Members members : s.objects()) {
            var next = new LinkedHashSet<Members>();
            for (Members other : complement(members)) {
                for (Members before : objects) {
                    Members both = meet(before, other);
                    if (both != null) {
                        next.add(both);
                    }
                }
            }
            tooMany(next.size());
            objects = List.copyOf(next);
        }
        return new Shape(~s.literals() & Shape.LITERALS, terms.notNumber(s.number()), terms.notString(s.string()), arrays, objects);
    }

    private List<Items> complement(Items s) {
        var out = new ArrayList<Items>();
        if (s.unique()) {
            throw Refusal.of("uniqueItems", "that two items are equal cannot be enforced");
        }
        if (s.min() > 0) {
            out.add(new Items(List.of(), all, 0, s.min() - 1, List.of(), false));
        }
        if (s.max() < Shape.UNBOUNDED) {
            out.add(new Items(List.of(), all, s.max() + 1, Shape.UNBOUNDED, List.of(), false));
        }
        for (int i = 0; i < s.prefix().size(); i++) {
            Lang wrong = not(s.prefix().get(i), null);
            if (!wrong.isFalse()) {
                var prefix = new ArrayList<Lang>();
                for (int k = 0; k < i; k++) {
                    prefix.add(all);
                }
                prefix.add(wrong);
                out.add(new Items(List.copyOf(prefix), all, i + 1, Shape.UNBOUNDED, List.of(), false));
            }
        }
        int from = s.prefix().size();
        Lang wrong = not(s.rest(), null);
        if (wrong.isTrue()) {
            if (s.max() > from) {
                out.add(new Items(List.of(), all, from + 1, Shape.UNBOUNDED, List.of(), false));
            }
        } else if (!wrong.isFalse()) {
            out.add(new Items(List.of(), all, from + 1, Shape.UNBOUNDED, List.of(new Count(from, wrong, 1, Shape.UNBOUNDED)), false));
        }
        for (Count c : s.counts()) {
            if (c.min() > 0) {
                out.add(new Items(List.of(), all, 0, Shape.UNBOUNDED, List.of(new Count(c.from(), c.item(), 0, c.min() - 1)), false));
            }
            if (c.max() < Shape.UNBOUNDED) {
                out.add(new Items(List.of(), all, c.max() + 1, Shape.UNBOUNDED,
                        List.of(new Count(c.from(), c.item(), c.max() + 1, Shape.UNBOUNDED)), false));
            }
        }
        return out;
    }

    private List<Members> complement(Members s) {
        var out = new ArrayList<Members>();
        var anyClass = List.of(new Class(terms.anyString, all));
        s.named().forEach((name, member) -> {
            if (member.required()) {
                out.add(new Members(Map.of(name, new Member(none, false)), anyClass, 0, Shape.UNBOUNDED, List.of()));
            }
            Lang wrong = not(member.value(), null);
            if (!wrong.isFalse()) {
                out.add(new Members(Map.of(name, new Member(wrong, true)), anyClass, 1, Shape.UNBOUNDED, List.of()));
            }
        });
        int others = terms.anyString;
        if (!s.named().isEmpty()) {
            others = terms.notString(terms.names(s.named().keySet()));
        }
        int uncovered = others;
        for (Class c : s.rest()) {
            Lang wrong = not(c.value(), null);
            if (!wrong.isFalse()) {
                need(out, terms.and(c.names(), others), wrong);
            }
            uncovered = terms.and(uncovered, terms.notString(c.names()));
        }
        need(out, uncovered, all);
        if (s.min() > 0) {
            out.add(new Members(Map.of(), anyClass, 0, s.min() - 1, List.of()));
        }
        if (s.max() < Shape.UNBOUNDED) {
            out.add(new Members(Map.of(), anyClass, s.max() + 1, Shape.UNBOUNDED, List.of()));
        }
        for (Class c : s.needs()) {
            var rest = new ArrayList<Class>();
            Lang wrong = not(c.value(), null);
            if (!wrong.isFalse()) {
                rest.add(new Class(c.names(), wrong));
            }
            int outside = terms.notString(c.names());
            if (!terms.isEmpty(outside)) {
                rest.add(new Class(outside, all));
            }
            out.add(new Members(Map.of(), List.copyOf(rest), 0, Shape.UNBOUNDED, List.of()));
        }
        return out;
    }

    private void need(List<Members> out, int names, Lang value) {
        if (!terms.isEmpty(names)) {
            out.add(new Members(Map.of(), List.of(new Class(terms.anyString, all)), 1, Shape.UNBOUNDED,
                    List.of(new Class(names, value))));
        }
    }

    // ---- is there a value

    /** Whether a value is in the language: the least answer, so that what only contains itself is empty. */
    boolean inhabited(Lang lang) {
        if (lang.inhabited != null) {
            return lang.inhabited;
        }
        if (lang.visiting >= 0) {
            if (lang.visiting < barrier) {
                throw Unfinished.HERE;
            }
            tainted = Math.min(tainted, lang.visiting);
            return false;
        }
        if (lang.isTrue() || lang.isFalse()) {
            return lang.isTrue();
        }
        if (depth >= DEEPEST) {
            throw new Refusal(lang.pointer, "schemas are nested more than " + DEEPEST + " deep");
        }
        int outer = tainted;
        tainted = Integer.MAX_VALUE;
        int here = depth++;
        lang.visiting = here;
        try {
            boolean result = inhabited(shape(lang));
            // a no that leans on an open question above holds only together with it
            if (result || tainted >= here) {
                lang.inhabited = result;
                tainted = Integer.MAX_VALUE;
            }
            return result;
        } catch (LimitException e) {
            throw at(new Refusal(null, e.getMessage()), lang);
        } finally {
            tainted = Math.min(outer, tainted);
            depth--;
            lang.visiting = -1;
        }
    }

    boolean inhabited(Shape s) {
        if (s.literals() != 0 || !terms.isEmpty(s.number()) || !terms.isEmpty(s.string())) {
            return true;
        }
        for (Items items : s.arrays()) {
            if (inhabited(items)) {
                return true;
            }
        }
        for (Members members : s.objects()) {
            if (inhabited(members)) {
                return true;
            }
        }
        return false;
    }

    /** True only if there is certainly no value; asked while other shapes are still being found. */
    private boolean knownEmpty(Lang lang) {
        return lang.isFalse() || empty(() -> inhabited(lang));
    }

    private boolean knownEmpty(Shape shape) {
        return empty(() -> inhabited(shape));
    }

    private boolean empty(BooleanSupplier inhabited) {
        int outerBarrier = barrier;
        int outerTainted = tainted;
        barrier = depth;
        tainted = Integer.MAX_VALUE;
        try {
            return !inhabited.getAsBoolean();
        } catch (Unfinished e) {
            return false;
        } finally {
            barrier = outerBarrier;
            tainted = outerTainted;
        }
    }

    boolean inhabited(Items s) {
        var states = new ArrayStates(this, s);
        boolean several = s.min() > 1 || s.counts().stream().anyMatch(c -> c.min() > 1);
        return (s.unique() && several ? states.values(new UniqueValues(this).of(s)) : states).live();
    }

    boolean inhabited(Members s) {
        int required = 0;
        for (Member member : s.named().values()) {
            if (member.required()) {
                required++;
                if (!inhabited(member.value())) {
                    return false;
                }
            }
        }
        // what is optional is looked into only where it is needed
        if (required >= s.min() && s.needs().isEmpty()) {
            return required <= s.max();
        }
        return new ObjectStates(this, s).live();
    }
}
