package io.github.panamallama.runtime;

import io.github.panamallama.runtime.gguf.GgmlType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;

/**
 * How llama.cpp lays out the state of one sequence of an engine ({@code llama_state_seq_get_data}). Learned from what it has written there,
 * which has every count, type and row size of the caches; bytes from elsewhere are then checked field by field, because native code
 * believes some of them (CVE-2026-43629).
 *
 * <p>A state is one cache behind the other, as {@code state_write} of llama.cpp's memory classes has them: attention (several where layers
 * have windows or indexers) and a recurrent one. Immutable.
 */
final class StateLayout {
    /** {@code io_magic} of {@code llama-context.cpp}. */
    private static final int MAGIC = 0xaf143cd8;
    private static final long HEADER = 8;

    private final List<Cache> caches;

    private StateLayout(List<Cache> caches) {
        this.caches = caches;
    }

    private sealed interface Cache {
    }

    /**
     * A KV cache.
     *
     * @param extended   cells carry a place in two dimensions and their token
     * @param transposed values lie cell by cell, which is how they are kept without flash attention
     * @param keys       per layer
     * @param values     per layer, or none where keys are all there is
     */
    private record Attention(boolean extended, boolean transposed, List<Rows> keys, List<Rows> values) implements Cache {
    }

    /**
     * Recurrent states.
     *
     * @param layers of the model, with those that have no state
     * @param rows   of the layers that have one: first their convolutions, then what they sum up
     */
    private record Recurrent(int layers, List<Rows> rows) implements Cache {
    }

    /**
     * What a layer keeps of a token.
     *
     * @param type     of ggml
     * @param size     bytes of a row; of an element where values are transposed
     * @param elements of a row where values are transposed, else 1
     */
    private record Rows(int type, long size, int elements) {
        long bytes(long cells) {
            return Math.multiplyExact(cells, size * elements);
        }
    }

    /**
     * The layout of a state; null if it is none of the known ones.
     *
     * @param state of one token or more, as native code wrote it
     */
    static StateLayout of(MemorySegment state) {
        for (int variant = 0; variant < 4; variant++) {
            try {
                return new StateLayout(caches(new Cursor(state), (variant & 1) != 0, (variant & 2) == 0));
            } catch (StateException e) {
                // another variant, or none
            }
        }
        return null;
    }

    private static List<Cache> caches(Cursor in, boolean extended, boolean values) {
        in.skip(HEADER);
        var caches = new ArrayList<Cache>();
        while (in.left() > 0) {
            // the first cell's sequences, of which there is one; or the transposition, which is never
            caches.add(in.peek(12) == 1 ? attention(in, extended, values) : recurrent(in));
        }
        return List.copyOf(caches);
    }

    private static Attention attention(Cursor in, boolean extended, boolean values) {
        in.expect(1, "streams");
        int cells = in.integer();
        for (int i = 0; i < cells; i++) {
            in.skip(4);
            in.expect(1, "sequences of a cell");
            in.skip(extended ? 16 : 4);
        }
        boolean transposed = in.integer() == 1;
        int layers = in.integer();
        var keys = new ArrayList<Rows>();
        for (int i = 0; i < layers; i++) {
            keys.add(rows(in, cells, false));
        }
        var others = new ArrayList<Rows>();
        for (int i = 0; i < layers && values; i++) {
            others.add(rows(in, cells, transposed));
        }
        return new Attention(extended, transposed, List.copyOf(keys), List.copyOf(others));
    }

    private static Recurrent recurrent(Cursor in) {
        in.expect(1, "cells");
        in.skip(4);
        in.expect(0, "sequences of a cell");
        in.expect(0, "transposition");
        int layers = in.integer();
        var rows = new ArrayList<Rows>();
        while (in.left() > 0) { // it is the last one
            rows.add(rows(in, 1, false));
        }
        return new Recurrent(layers, List.copyOf(rows));
    }

    private static Rows rows(Cursor in, int cells, boolean transposed) {
        var type = in.integer();
        var rows = transposed ? new Rows(type, in.integer(), in.integer()) : new Rows(type, in.longInteger(), 1);
        if (GgmlType.byId(type).isEmpty() || rows.size < 1 || rows.size > in.left() || rows.elements < 1) {
            throw new StateException("no row of a cache: " + rows);
        }
        in.skip(rows.bytes(cells));
        return rows;
    }

    /** The bytes that a state of so many tokens has at most. */
    long most(int length) {
        long bytes = HEADER;
        for (var cache : caches) {
            switch (cache) {
                case Attention attention -> {
                    bytes += 16 + length * (attention.extended ? 24L : 12L);
                    for (var rows : attention.keys) {
                        bytes += 12 + rows.bytes(length);
                    }
                    for (var rows : attention.values) {
                        bytes += 12 + rows.bytes(length);
                    }
                }
                case Recurrent recurrent -> {
                    bytes += 20;
                    for (var rows : recurrent.rows) {
                        bytes += 12 + rows.bytes(1);
                    }
                }
            }
        }
        return bytes;
    }

    /**
     * Makes sure that bytes are a state of this layout, for these tokens and complete.
     *
     * @param tokens of the sequence, at least {@code length}, which is 1 or more
     * @param window tokens that layers with a sliding window see; 0 without such layers
     * @throws StateException that says which field is wrong
     */
    void check(MemorySegment state, int[] tokens, int length, int window) {
        var in = new Cursor(state);
        in.expect(MAGIC, "magic number");
        int id = in.integer();
        long attentions = caches.stream().filter(Attention.class::isInstance).count();
        int seen = 0;
        for (var cache : caches) {
            switch (cache) {
                case Attention attention -> {
                    boolean windowed = ++seen == attentions && window > 0;
                    check(in, attention, id, tokens, length, windowed ? Math.min(window, length) : length);
                }
                case Recurrent recurrent -> {
                    in.expect(1, "recurrent states");
                    in.expect(length - 1, "position of the recurrent state");
                    in.expect(0, "sequences of the recurrent state");
                    in.expect(0, "transposition of the recurrent state");
                    in.expect(recurrent.layers, "layers");
                    recurrent.rows.forEach(rows -> check(in, rows, 1, false));
                }
            }
        }
        if (in.left() > 0) {
            throw new StateException(in.left() + " bytes are behind the end of the state");
        }
    }

    private static void check(Cursor in, Attention cache, int id, int[] tokens, int length, int least) {
        in.expect(1, "streams");
        int cells = in.integer();
        if (cells < least || cells > length) {
            throw new StateException(cells + " cells for " + length + " tokens" + (least < length ? ", of which the window sees " + least
                    : ""));
        }
        var positions = new BitSet(length);
        for (int i = 0; i < cells; i++) {
            int position = in.integer();
            if (position < length - cells || position >= length || positions.get(position)) {
                throw new StateException("cell " + i + " is at position " + position + ", which is another cell's or none of the last "
                        + cells
                        + " of " + length);
            }
            positions.set(position);
            in.expect(1, "sequences of cell " + i);
            if (cache.extended) {
                int x = in.integer();
                int y = in.integer();
                if (x != y || x != 0 && x != position) {
                    throw new StateException("cell " + i + " is at " + x + ", " + y + ", where no text is");
                }
                in.expect(tokens[position], "token of cell " + i);
            }
            in.expect(id, "sequence of cell " + i);
        }
        int transposed = in.integer();
        if (transposed != (cache.transposed ? 1 : 0)) {
            throw new StateException("it was saved " + (cache.transposed ? "with" : "without") + " flash attention, this engine works "
                    + (cache.transposed ? "without" : "with") + " it (EngineOptions.flashAttention)");
        }
        in.expect(cache.keys.size(), "layers");
        cache.keys.forEach(rows -> check(in, rows, cells, false));
        cache.values.forEach(rows -> check(in, rows, cells, cache.transposed));
    }

    private static void check(Cursor in, Rows rows, int cells, boolean transposed) {
        in.expect(rows.type, "type");
        if (transposed) {
            in.expect((int) rows.size, "bytes of an element");
            in.expect(rows.elements, "elements of a row");
        } else {
            long size = in.longInteger();
            if (size != rows.size) {
                throw new StateException("bytes of a row: " + size + " at byte " + (in.at - 8) + ", where " + rows.size + " belong");
            }
        }
        in.skip(rows.bytes(cells));
    }

    /** Reads from front to back, and never behind the end. */
    private static final class Cursor {
        private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.nativeOrder());
        private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.nativeOrder());

        private final MemorySegment bytes;
        private long at;

        Cursor(MemorySegment bytes) {
            this.bytes = bytes;
        }

        long left() {
            return bytes.byteSize() - at;
        }

        void skip(long count) {
            if (count > left()) {
                throw new StateException("the state ends at byte " + bytes.byteSize() + ", where " + count + " more are due at byte " + at);
            }
            at += count;
        }

        int integer() {
            skip(4);
            return bytes.get(INT, at - 4);
        }

        long longInteger() {
            skip(8);
            return bytes.get(LONG, at - 8);
        }

        /** The integer that stands so many bytes further on; -1 behind the end. */
        int peek(int further) {
            return left() < further + 4 ? -1 : bytes.get(INT, at + further);
        }

        void expect(int value, String what) {
            int found = integer();
            if (found != value) {
                throw new StateException(what + ": " + found + " at byte " + (at - 4) + ", where " + value + " belongs");
            }
        }
    }
}
