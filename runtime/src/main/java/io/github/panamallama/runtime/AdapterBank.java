package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.runtime.natives.NativeError;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Collections;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.Map;
import java.util.Set;

/**
 * The adapters that one context has at hand: numbers for adapters (slots), for sets of them, and for the sets of each native sequence id.
 * Made when the first adapter is used. Belongs to whoever leads the {@link DecodeLoop}.
 */
final class AdapterBank {
    /**
     * A system property: {@code true} has weights in host memory adapted by operations of ggml, as those on a GPU are, instead of nodes of
     * our own; for tests, and to compare the two.
     */
    static final String OPERATIONS = "panamallama.adapters.operations";

    /** Sets that no sequence uses are kept up to this many, since whoever swaps back and forth uses them again. */
    private static final int IDLE_SETS = 64;

    private final NativeError failure;
    private final MemorySegment error;
    private final MemorySegment handle;
    private final Arena arena = Arena.ofShared();
    private final Map<Adapter, Integer> slots = new IdentityHashMap<>();
    private final BitSet slotNumbers = new BitSet();
    private final Map<AdapterSet, Defined> sets = new HashMap<>();
    private final BitSet setNumbers = new BitSet();
    /** Sequences that keep sets defined and adapters open. */
    private final Set<Sequence> users = Collections.newSetFromMap(new IdentityHashMap<>());
    /** What each native id was given last. */
    private final Adaptation[] assigned;
    private MemorySegment integers;
    private MemorySegment floats;

    private static final class Defined {
        final int number;
        int users;

        Defined(int number) {
            this.number = number;
        }
    }

    /** @throws AdapterException when the model's graph can't be looked at */
    AdapterBank(MemorySegment context, int ids, NativeError failure) {
        this.failure = failure;
        this.error = failure.segment();
        handle = LlamaH.pl_adapters_new(context, Boolean.getBoolean(OPERATIONS) ? 1 : 0, error);
        if (failure.failed()) {
            arena.close();
            throw new AdapterException("adapters can't be used with this model: " + failure.message());
        }
        assigned = new Adaptation[ids];
        Arrays.fill(assigned, Adaptation.NONE);
        setNumbers.set(0); // the empty set
        reserve(16);
    }

    private void reserve(int count) {
        integers = arena.allocate(ValueLayout.JAVA_INT, 2L * count);
        floats = arena.allocate(ValueLayout.JAVA_FLOAT, count);
    }

    MemorySegment handle() {
        return handle;
    }

    /** All sequences let go of their adapters: the context is gone. */
    void close() {
        users.forEach(Sequence::releaseAdapters);
        users.clear();
        LlamaH.pl_adapters_free(handle);
        arena.close();
    }

    /**
     * Makes the sets of a new sequence ready.
     *
     * @throws AdapterException when the model's graph has no place for one of the adapters; nothing is changed
     */
    void adopt(Sequence sequence) {
        var held = sequence.heldSets();
        int done = 0;
        try {
            for (; done < held.length; done++) {
                define(held[done]);
            }
        } finally {
            if (done < held.length) {
                while (--done >= 0) {
                    undefine(held[done]);
                }
            }
        }
        users.add(sequence);
    }

    void release(Sequence sequence) {
        if (users.remove(sequence)) {
            for (var set : sequence.heldSets()) {
                undefine(set);
            }
            sequence.releaseAdapters();
        }
    }

    private void define(AdapterSet set) {
        if (set.isEmpty()) {
            return;
        }
        var known = sets.get(set);
        if (known == null) {
            purge();
            int n = set.entries().size();
            if (floats.byteSize() / 4 < n) {
                reserve(2 * n);
            }
            for (int i = 0; i < n; i++) {
                var entry = set.entries().get(i);
                integers.setAtIndex(ValueLayout.JAVA_INT, i, slot(entry.adapter()));
                floats.setAtIndex(ValueLayout.JAVA_FLOAT, i, entry.scale());
            }
            int number = setNumbers.nextClearBit(0);
            LlamaH.pl_adapters_define(handle, number, integers, floats, n, error);
            failure.check("defining a set of " + n + " adapters");
            setNumbers.set(number);
            known = new Defined(number);
            sets.put(set, known);
        }
        known.users++;
    }

    private void undefine(AdapterSet set) {
        if (!set.isEmpty()) {
            sets.get(set).users--;
        }
    }

    private void purge() {
        if (sets.size() < IDLE_SETS) {
            return;
        }
        sets.values().removeIf(set -> {
            if (set.users == 0) {
                setNumbers.clear(set.number);
            }
            return set.users == 0;
        });
    }

    private int slot(Adapter adapter) {
        var known = slots.get(adapter);
        if (known != null) {
            return known;
        }
        var closed = new ArrayList<Adapter>();
        slots.keySet().forEach(other -> {
            if (other.closed()) {
                closed.add(other);
            }
        });
        if (!closed.isEmpty()) {
            sets.entrySet().removeIf(set -> {
                boolean gone = set.getKey().entries().stream().anyMatch(entry -> entry.adapter().closed());
                if (gone) {
                    setNumbers.clear(set.getValue().number);
                }
                return gone;
            });
            closed.forEach(other -> slotNumbers.clear(slots.remove(other)));
        }
        int number = slotNumbers.nextClearBit(0);
        LlamaH.pl_adapters_put(handle, number, adapter.parts(), adapter.targets().size(), error);
        if (failure.failed()) {
            throw new AdapterException(adapter.path() + ": " + failure.message());
        }
        slotNumbers.set(number);
        slots.put(adapter, number);
        return number;
    }

    /** Says under which sets the positions of a native id are evaluated. */
    void assign(int id, Adaptation adaptation) {
        if (assigned[id] == adaptation) {
            return;
        }
        int n = adaptation.spans();
        if (floats.byteSize() / 4 < n) {
            reserve(2 * n);
        }
        for (int i = 0; i < n; i++) {
            var set = adaptation.variant(i).adapters();
            integers.setAtIndex(ValueLayout.JAVA_INT, i, adaptation.from(i));
            integers.setAtIndex(ValueLayout.JAVA_INT, (long) n + i, set.isEmpty() ? 0 : sets.get(set).number);
        }
        LlamaH.pl_adapters_assign(handle, id, integers, integers.asSlice(4L * n), n, error);
        failure.check("choosing the adapters of a sequence");
        assigned[id] = adaptation;
    }
}
