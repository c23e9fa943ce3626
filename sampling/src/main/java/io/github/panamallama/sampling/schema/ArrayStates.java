package io.github.panamallama.sampling.schema;

import io.github.panamallama.sampling.automaton.LimitException;
import io.github.panamallama.sampling.schema.Shape.Count;
import io.github.panamallama.sampling.schema.Shape.Items;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;

/**
 * An array shape as an automaton over items. A count with only a lower bound may leave items that match uncounted, one with only an
 * upper bound may count items that don't match; only where both bounds stand an item is decided one way.
 */
final class ArrayStates {
    /** States looked at to find out whether an array can be completed. */
    private static final int MOST_STATES = 50_000;
    private static final int MOST_COUNTS = 6;

    /**
     * @param index   items so far, as far as that matters
     * @param counted items counted, per count
     * @param used    for unique items: which of few values came, as bits
     * @param came    for unique items: the values that came, where there are many
     */
    record State(int index, List<Integer> counted, long used, Set<Object> came) {
        State with(Object value) {
            var all = new HashSet<>(came);
            all.add(value);
            return new State(index, counted, used, Set.copyOf(all));
        }
    }

    /** One item that may come next, and the state after it, to which the item's value is to be added if the array {@link #remembers}. */
    record Step(Lang item, State next) { }

    final Items shape;
    private final Langs langs;
    /** Where the index stops to matter; beyond it all items are the same. */
    private final int last;
    private final Map<State, Boolean> live = new HashMap<>();
    private List<Lang> values;
    private boolean remembers;
    /** Where values are remembered: those of the languages that have only few, by language; of others there is always a fresh one. */
    private final Map<Lang, List<Object>> few = new HashMap<>();
    private final Set<Object> scarce = new HashSet<>();

    ArrayStates(Langs langs, Items shape) {
        this.langs = langs;
        this.shape = shape;
        int top = Math.max(shape.prefix().size(), shape.min());
        for (Count c : shape.counts()) {
            top = Math.max(top, c.from());
        }
        last = shape.max() < Shape.UNBOUNDED ? shape.max() : top;
        if (shape.counts().size() > MOST_COUNTS) {
            throw new Refusal(null, "more than " + MOST_COUNTS + " conditions on how many items match cannot be enforced together");
        }
    }

    /** The values that unique items can take, where a schema leaves only few to them; null if they are many. */
    ArrayStates values(List<Lang> few) {
        values = few;
        remembers = few == null;
        if (remembers) {
            var unique = new UniqueValues(langs);
            eachValue(lang -> {
                var own = unique.scalars(lang);
                if (own != null) {
                    this.few.put(lang, own);
                    scarce.addAll(own);
                }
            });
            if (scarce.size() > UniqueValues.MOST) {
                throw UniqueValues.refusal();
            }
        }
        return this;
    }

    /** Whether the values of items have to be remembered because no other may be equal. */
    boolean remembers() {
        return remembers;
    }

    /** Values that an item may not take, besides those that came: what comes later has no other. */
    Set<Object> kept(Step step) {
        var kept = new HashSet<>();
        for (Object value : scarce) {
            if (!step.next.came.contains(value) && !live(step.next.with(value))) {
                kept.add(value);
            }
        }
        return kept;
    }

    State first() {
        return new State(0, shape.counts().stream().map(c -> 0).toList(), 0, Set.of());
    }

    boolean complete(State s) {
        if (s.index < shape.min()) {
            return false;
        }
        for (int i = 0; i < shape.counts().size(); i++) {
            if (s.counted.get(i) < shape.counts().get(i).min()) {
                return false;
            }
        }
        return true;
    }

    /** What may come next, inhabited or not; what counts most towards the lower bounds first. */
    private List<Step> all(State s) {
        if (s.index >= shape.max()) {
            return List.of();
        }
        var steps = List.of(new Step(shape.item(s.index), new State(Math.min(s.index + 1, last), s.counted, s.used, s.came)));
        for (int i = 0; i < shape.counts().size(); i++) {
            Count c = shape.counts().get(i);
            if (s.index < c.from()) {
                continue;
            }
            var next = new ArrayList<Step>();
            int so = s.counted.get(i);
            boolean bounded = c.max() < Shape.UNBOUNDED;
            for (Step step : steps) {
                if (so < c.max() && (bounded || so < c.min())) {
                    // without a lower bound to reach, whatever is counted need not match
                    Lang item = c.min() > 0 ? langs.and(step.item, c.item()) : step.item;
                    next.add(new Step(item, count(step.next, i, so + 1)));
                }
                next.add(new Step(bounded ? langs.and(step.item, langs.not(c.item(), null)) : step.item, step.next));
            }
            steps = next;
        }
        if (values == null) {
            return steps;
        }
        var unique = new ArrayList<Step>();
        for (Step step : steps) {
            for (int v = 0; v < values.size(); v++) {
                if ((s.used >> v & 1) == 0) {
                    unique.add(new Step(langs.and(step.item, values.get(v)),
                            new State(step.next.index, step.next.counted, s.used | 1L << v, s.came)));
                }
            }
        }
        return unique;
    }

    private static State count(State s, int i, int n) {
        var counted = new ArrayList<>(s.counted);
        counted.set(i, n);
        return new State(s.index, List.copyOf(counted), s.used, s.came);
    }

    /** What may come next so that the array can still be completed. */
    List<Step> steps(State s) {
        return all(s).stream().filter(step -> langs.inhabited(step.item) && after(step).stream().anyMatch(this::live)).toList();
    }

    boolean live() {
        return live(first());
    }

    /** The states after an item: one for each of few values, else that after a fresh value, which matters to nothing. */
    private List<State> after(Step step) {
        var own = few.get(step.item);
        return own == null ? List.of(step.next)
                : own.stream().filter(value -> !step.next.came.contains(value)).map(step.next::with).toList();
    }

    /** Whether the array can be completed. */
    boolean live(State start) {
        if (!scarce.containsAll(start.came)) {
            var came = new HashSet<>(start.came);
            came.retainAll(scarce);
            return live(new State(start.index, start.counted, start.used, Set.copyOf(came)));
        }
        if (shape.counts().isEmpty() && values == null && scarce.isEmpty()) {
            for (int i = start.index; i < shape.prefix().size() && i < shape.min(); i++) {
                if (!langs.inhabited(shape.prefix().get(i))) {
                    return false;
                }
            }
            return shape.min() <= Math.max(start.index, shape.prefix().size()) || langs.inhabited(shape.rest());
        }
        Boolean known = live.get(start);
        if (known != null) {
            return known;
        }
        var from = new HashMap<State, State>();
        var stack = new ArrayDeque<State>();
        from.put(start, start);
        stack.push(start);
        while (!stack.isEmpty()) {
            State s = stack.pop();
            Boolean before = live.get(s);
            if (complete(s) || before != null && before) {
                for (State t = s; ; t = from.get(t)) {
                    live.put(t, true);
                    if (t.equals(start)) {
                        return true;
                    }
                }
            }
            if (from.size() > MOST_STATES) {
                throw new LimitException("whether such an array exists was not found within " + MOST_STATES + " states");
            }
            var steps = all(s);
            for (int i = steps.size() - 1; i >= 0; i--) {
                if (langs.inhabited(steps.get(i).item)) {
                    for (State next : after(steps.get(i))) {
                        if (!Boolean.FALSE.equals(live.get(next)) && from.putIfAbsent(next, s) == null) {
                            stack.push(next);
                        }
                    }
                }
            }
        }
        live.put(start, false);
        return false;
    }

    /** Every language that some item can be asked to be in. */
    void eachValue(Consumer<Lang> sink) {
        var seen = new HashSet<Lang>();
        int top = shape.prefix().size();
        for (Count c : shape.counts()) {
            top = Math.max(top, c.from());
        }
        for (int i = 0; i <= top && i < shape.max(); i++) {
            var options = List.of(shape.item(i));
            for (Count c : shape.counts()) {
                if (i >= c.from()) {
                    var next = new ArrayList<Lang>();
                    for (Lang option : options) {
                        next.add(option);
                        next.add(langs.and(option, c.item()));
                        if (c.max() < Shape.UNBOUNDED) {
                            next.add(langs.and(option, langs.not(c.item(), null)));
                        }
                    }
                    options = next;
                }
            }
            seen.addAll(options);
        }
        if (values != null) {
            for (Lang option : List.copyOf(seen)) {
                values.forEach(v -> seen.add(langs.and(option, v)));
            }
        }
        seen.forEach(sink);
    }
}
