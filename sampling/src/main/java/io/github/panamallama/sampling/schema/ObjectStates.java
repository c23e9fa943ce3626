package io.github.panamallama.sampling.schema;

import io.github.panamallama.sampling.schema.Shape.Member;
import io.github.panamallama.sampling.schema.Shape.Members;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;

/**
 * An object shape as an automaton over properties. Classes are split until all names of one meet the same needs, and what has few names is
 * turned into names; of the other classes it is counted how many names are left, as far as they can be counted.
 */
final class ObjectStates {
    private static final int MOST_NEEDS = 6;
    /** More properties than any object has. */
    private static final long IMPOSSIBLE = 1L << 40;
    /** Names of a class that are written out. */
    private static final int FINITE = 64;
    /** Names of a class that are counted; more are taken to be as many as any object has. */
    private static final int COUNTED = 256;

    /**
     * @param seen  named properties that cannot come any more
     * @param count properties so far, as far as that matters
     * @param met   needs that some property met, as bits
     * @param others the other names so far: no name comes twice
     */
    record State(BitSet seen, int count, int met, Set<String> others) {
        State with(String name) {
            var all = new HashSet<>(others);
            all.add(name);
            return new State(seen, count, met, Set.copyOf(all));
        }
    }

    /**
     * One property that may come next, and the state after it.
     *
     * @param name  null for a name out of {@code names} that is none of the others so far, and is to be added to the state after it
     */
    record Step(String name, int names, Lang value, State next) { }

    /**
     * Names that are not written out.
     *
     * @param meets needs whose names these are, as bits
     * @param size  how many there are, {@link #IMPOSSIBLE} for more than are counted
     */
    private record Others(int names, Lang value, int meets, long size) { }

    final Members shape;
    private final Langs langs;
    private final boolean ordered;
    private final List<String> names;
    private final List<Member> members = new ArrayList<>();
    private final List<Others> classes = new ArrayList<>();
    private final BitSet required = new BitSet();
    /** Named properties that no object has. */
    private final BitSet forbidden = new BitSet();
    private final int counts;
    private final boolean possible;

    ObjectStates(Langs langs, Members shape) {
        this(langs, shape, false);
    }

    /** @param ordered named properties come in their order, then the others */
    ObjectStates(Langs langs, Members shape, boolean ordered) {
        this.langs = langs;
        this.shape = shape;
        this.ordered = ordered;
        if (shape.needs().size() > MOST_NEEDS) {
            throw new Refusal(null, "more than " + MOST_NEEDS + " conditions that some property must meet cannot be enforced together");
        }
        var terms = langs.terms;
        Map<String, Member> all = new LinkedHashMap<>(shape.named());
        var many = new ArrayList<Others>();
        for (Others c : split()) {
            var few = terms.words(c.names, FINITE);
            if (few == null) {
                many.add(c);
            } else {
                few.forEach(name -> all.putIfAbsent(name, new Member(c.value, false)));
            }
        }
        names = List.copyOf(all.keySet());
        boolean none = false;
        for (String name : names) {
            Member member = all.get(name);
            if (member.value().isFalse() || !langs.inhabited(member.value())) {
                forbidden.set(members.size());
                none |= member.required();
            }
            if (member.required()) {
                required.set(members.size());
            }
            members.add(member);
        }
        if (!many.isEmpty()) {
            int named = terms.names(names);
            for (Others c : many) {
                if (langs.inhabited(c.value)) {
                    int left = terms.pool.minus(c.names, named);
                    int size = terms.size(left, COUNTED);
                    classes.add(new Others(left, c.value, c.meets, size > COUNTED ? IMPOSSIBLE : size));
                }
            }
        }
        counts = shape.max() < Shape.UNBOUNDED ? shape.max() : shape.min();
        possible = !none;
    }

    /** The classes, in parts of which all names meet the same needs. */
    private List<Others> split() {
        var terms = langs.terms;
        var parts = new ArrayList<Others>();
        shape.rest().forEach(c -> parts.add(new Others(c.names(), c.value(), 0, 0)));
        for (int n = 0; n < shape.needs().size(); n++) {
            int names = shape.needs().get(n).names();
            for (Others part : List.copyOf(parts)) {
                langs.budget.step();
                int inside = terms.and(part.names, names);
                if (!terms.isEmpty(inside)) {
                    parts.remove(part);
                    parts.add(new Others(inside, part.value, part.meets | 1 << n, 0));
                    int outside = terms.and(part.names, terms.notString(names));
                    if (!terms.isEmpty(outside)) {
                        parts.add(new Others(outside, part.value, part.meets, 0));
                    }
                }
            }
        }
        return parts;
    }

    State first() {
        return new State(forbidden, 0, 0, Set.of());
    }

    boolean complete(State s) {
        return s.count >= shape.min() && s.met == (1 << shape.needs().size()) - 1 && seen(s, required);
    }

    private static boolean seen(State s, BitSet all) {
        for (int i = all.nextSetBit(0); i >= 0; i = all.nextSetBit(i + 1)) {
            if (!s.seen.get(i)) {
                return false;
            }
        }
        return true;
    }

    boolean live() {
        return possible && live(first());
    }

    private boolean live(State s) {
        return live(s, null);
    }

    /**
     * Whether the object can be completed.
     *
     * @param taken the class of which one more name came than {@code s} knows, or null
     */
    private boolean live(State s, Others taken) {
        long left = shape.max() == Shape.UNBOUNDED ? IMPOSSIBLE - 1 : (long) shape.max() - s.count;
        int musts = 0;
        for (int i = required.nextSetBit(0); i >= 0; i = required.nextSetBit(i + 1)) {
            musts += s.seen.get(i) ? 0 : 1;
        }
        if (musts > left) {
            return false;
        }
        var free = new long[classes.size()];
        long names = members.size() - s.seen.cardinality();
        for (int c = 0; c < free.length; c++) {
            free[c] = free(classes.get(c), s) - (classes.get(c) == taken ? 1 : 0);
            names += free[c];
        }
        if (names < shape.min() - s.count) {
            return false;
        }
        int open = (1 << shape.needs().size()) - 1 & ~s.met;
        return open == 0 || musts + extra(open, (BitSet) s.seen.clone(), free) <= left;
    }

    /** Names of a class that did not come yet. */
    private long free(Others c, State s) {
        long free = c.size;
        if (free < IMPOSSIBLE) {
            for (String name : s.others) {
                free -= langs.terms.matches(c.names, name) ? 1 : 0;
            }
        }
        return free;
    }

    /** Properties beyond the required ones that the open needs take at least. */
    private long extra(int open, BitSet used, long[] free) {
        if (open == 0) {
            return 0;
        }
        long best = IMPOSSIBLE;
        int need = Integer.numberOfTrailingZeros(open);
        for (int i = 0; i < members.size(); i++) {
            if (!used.get(i)) {
                for (int meets = open; meets > 0; meets = meets - 1 & open) {
                    if ((meets >> need & 1) != 0 && namesMatch(i, meets) && langs.inhabited(meeting(members.get(i).value(), meets))) {
                        used.set(i);
                        best = Math.min(best, (required.get(i) ? 0 : 1) + extra(open & ~meets, used, free));
                        used.clear(i);
                    }
                }
            }
        }
        for (int c = 0; c < free.length; c++) {
            int possible = open & classes.get(c).meets;
            for (int meets = possible; meets > 0 && free[c] > 0; meets = meets - 1 & possible) {
                if ((meets >> need & 1) != 0 && langs.inhabited(meeting(classes.get(c).value, meets))) {
                    free[c]--;
                    best = Math.min(best, 1 + extra(open & ~meets, used, free));
                    free[c]++;
                }
            }
        }
        return best;
    }

    private boolean namesMatch(int member, int meets) {
        for (int n = 0; n < shape.needs().size(); n++) {
            if ((meets >> n & 1) != 0 && !langs.terms.matches(shape.needs().get(n).names(), names.get(member))) {
                return false;
            }
        }
        return true;
    }

    private Lang meeting(Lang value, int meets) {
        var parts = new ArrayList<Lang>();
        parts.add(value);
        for (int n = 0; n < shape.needs().size(); n++) {
            if ((meets >> n & 1) != 0) {
                parts.add(shape.needs().get(n).value());
            }
        }
        return langs.and(parts);
    }

    /** What may come next so that the object can still be completed. */
    List<Step> steps(State s) {
        var steps = new ArrayList<Step>();
        if (s.count >= shape.max()) {
            return steps;
        }
        int count = Math.min(s.count + 1, counts);
        int open = (1 << shape.needs().size()) - 1 & ~s.met;
        boolean skipped = false;
        for (int i = 0; i < members.size() && !skipped; i++) {
            if (s.seen.get(i)) {
                continue;
            }
            var seen = (BitSet) s.seen.clone();
            if (ordered) {
                seen.set(0, i + 1);
                skipped = required.get(i);
            } else {
                seen.set(i);
            }
            for (int meets = open; meets >= 0; meets = meets == 0 ? -1 : meets - 1 & open) {
                if (meets == 0 || namesMatch(i, meets)) {
                    var next = new State(seen, count, s.met | meets, s.others);
                    Lang value = meeting(members.get(i).value(), meets);
                    if (live(next) && langs.inhabited(value)) {
                        steps.add(new Step(names.get(i), 0, value, next));
                    }
                }
            }
        }
        if (skipped) {
            return steps;
        }
        var seen = s.seen;
        if (ordered) {
            seen = new BitSet();
            seen.set(0, members.size());
        }
        for (Others c : classes) {
            int possible = free(c, s) > 0 ? open & c.meets : -1;
            for (int meets = possible; meets >= 0; meets = meets == 0 ? -1 : meets - 1 & possible) {
                var next = new State(seen, count, s.met | meets, s.others);
                Lang value = meeting(c.value, meets);
                if (live(next, c) && langs.inhabited(value)) {
                    steps.add(new Step(null, c.names, value, next));
                }
            }
        }
        return steps;
    }

    /** The property that brings an object which can't end yet nearest to its end. */
    Step direct(State s) {
        int must = required.nextSetBit(0);
        while (must >= 0 && s.seen.get(must)) {
            must = required.nextSetBit(must + 1);
        }
        if (must >= 0 && s.met == (1 << shape.needs().size()) - 1) {
            // the usual case, without a look at all the others
            var seen = (BitSet) s.seen.clone();
            seen.set(ordered ? 0 : must, must + 1);
            return new Step(names.get(must), 0, members.get(must).value(), new State(seen, Math.min(s.count + 1, counts), s.met, s.others));
        }
        Step best = null;
        int least = Integer.MAX_VALUE;
        for (Step step : steps(s)) {
            int missing = missing(step.next);
            if (missing < least) {
                least = missing;
                best = step;
            }
        }
        return best;
    }

    /** Properties that are still needed, about: it falls on the way to the end. */
    private int missing(State s) {
        int needed = Math.max(0, shape.min() - s.count) + Integer.bitCount((1 << shape.needs().size()) - 1 & ~s.met);
        for (int i = required.nextSetBit(0); i >= 0; i = required.nextSetBit(i + 1)) {
            needed += s.seen.get(i) ? 0 : 1;
        }
        return needed;
    }

    /** Every language that some value can be asked to be in. */
    void eachValue(Consumer<Lang> sink) {
        var seen = new LinkedHashSet<Lang>();
        int all = (1 << shape.needs().size()) - 1;
        for (int meets = 0; meets <= all; meets++) {
            for (int i = 0; i < members.size(); i++) {
                if (!forbidden.get(i) && namesMatch(i, meets)) {
                    seen.add(meeting(members.get(i).value(), meets));
                }
            }
            for (Others c : classes) {
                if ((meets & ~c.meets) == 0) {
                    seen.add(meeting(c.value, meets));
                }
            }
        }
        seen.forEach(sink);
    }
}
