package io.github.panamallama.runtime;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.stream.Collectors;

/**
 * Adapters with scales: under which weights a {@link Sequence} is evaluated. Fixed when the sequence is made. Immutable; equal when the
 * same adapters come with the same scales in the same order.
 *
 * <p>What several adapters of a set add is summed; a scale multiplies what the adapter's own {@code alpha / rank} gives. At most one of a
 * set may be an activated LoRA (one with {@link Adapter#invocationTokens}).
 */
public final class AdapterSet {
    private static final AdapterSet NONE = new AdapterSet(List.of());

    /**
     * @param adapter what acts
     * @param scale   how strongly, finite: 1 as it was trained, 0 not at all; may be negative
     */
    public record Entry(Adapter adapter, float scale) {
        public Entry {
            Objects.requireNonNull(adapter, "adapter");
            if (!Float.isFinite(scale)) {
                throw new IllegalArgumentException("the scale of " + adapter.name() + " is " + scale + "; it must be finite");
            }
        }
    }

    private final List<Entry> entries;
    private final AdapterSet inactive;
    private final int[] invocation;

    private AdapterSet(List<Entry> entries) {
        this.entries = entries;
        Entry activated = null;
        for (int i = 0; i < entries.size(); i++) {
            var entry = entries.get(i);
            for (int j = 0; j < i; j++) {
                if (entries.get(j).adapter == entry.adapter) {
                    throw new IllegalArgumentException(entry.adapter.name()
                            + " is in the set twice; give it once, with the sum of the scales");
                }
            }
            if (entry.adapter.owner() != entries.getFirst().adapter.owner()) {
                throw new IllegalArgumentException(entry.adapter.name() + " was loaded for another model than " + entries.getFirst()
                        .adapter.name());
            }
            if (entry.adapter.invocationTokens().length > 0) {
                if (activated != null) {
                    throw new IllegalArgumentException(activated.adapter.name() + " and " + entry.adapter.name()
                            + " are both activated by tokens (aLoRA); a set may have one of that kind");
                }
                activated = entry;
            }
        }
        this.invocation = activated == null ? new int[0] : activated.adapter.invocationTokens();
        if (activated == null) {
            this.inactive = this;
        } else {
            var others = new ArrayList<>(entries);
            others.remove(activated);
            this.inactive = of(others);
        }
    }

    /** The empty set: the model as it is. */
    public static AdapterSet none() {
        return NONE;
    }

    /** One adapter as it was trained. */
    public static AdapterSet of(Adapter adapter) {
        return of(adapter, 1);
    }

    /** One adapter. */
    public static AdapterSet of(Adapter adapter, float scale) {
        return of(List.of(new Entry(adapter, scale)));
    }

    /**
     * Several adapters.
     *
     * @throws IllegalArgumentException if an adapter comes twice, or they belong to different models
     */
    public static AdapterSet of(List<Entry> entries) {
        return entries.isEmpty() ? NONE : new AdapterSet(List.copyOf(entries));
    }

    /** This set and one more adapter. */
    public AdapterSet with(Adapter adapter, float scale) {
        var more = new ArrayList<>(entries);
        more.add(new Entry(adapter, scale));
        return of(more);
    }

    /** The adapters, in the order in which they are applied. */
    public List<Entry> entries() {
        return entries;
    }

    /** Whether this is the model as it is. */
    public boolean isEmpty() {
        return entries.isEmpty();
    }

    // --- for sequences ---------------------------------------------------------------------------------------------------

    /** What holds before the {@link #invocation}: this set without its activated adapter. */
    AdapterSet inactive() {
        return inactive;
    }

    /** The tokens that switch the activated adapter on; empty for none. Not to be changed. */
    int[] invocation() {
        return invocation;
    }

    /** Keeps all adapters open until {@link #release}. */
    void retain() {
        for (int i = 0; i < entries.size(); i++) {
            try {
                entries.get(i).adapter.retain();
            } catch (ClosedException e) {
                while (--i >= 0) {
                    entries.get(i).adapter.letGo();
                    entries.get(i).adapter.release();
                }
                throw e;
            }
        }
    }

    /** Allows them to be closed; their memory is kept until {@link #release}. */
    void letGo() {
        for (var entry : entries) {
            entry.adapter.letGo();
        }
    }

    void release() {
        for (var entry : entries) {
            entry.adapter.release();
        }
    }

    @Override
    public boolean equals(Object other) {
        return this == other || other instanceof AdapterSet set && entries.equals(set.entries);
    }

    @Override
    public int hashCode() {
        return entries.hashCode();
    }

    @Override
    public String toString() {
        return entries.isEmpty() ? "no adapters" : entries.stream()
                .map(entry -> entry.adapter.name() + (entry.scale == 1 ? "" : ":" + entry.scale)).collect(Collectors.joining(" + "));
    }
}
