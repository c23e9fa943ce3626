package io.github.panamallama.sampling.automaton;

import java.util.Arrays;

/** Numbers arrays of ints by value, from 0 on. */
final class Interner {
    private int[][] values = new int[64][];
    private int[] hashes = new int[64];
    private int[] slots = new int[256];
    private int size;
    private long volume;

    Interner() {
        Arrays.fill(slots, -1);
    }

    /** Memory, in ints. */
    long volume() {
        return volume;
    }

    int size() {
        return size;
    }

    int[] get(int id) {
        return values[id];
    }

    /** The number of the first {@code length} values of {@code from}; {@link #size} grows if they are new. */
    int intern(int[] from, int length) {
        int hash = length;
        for (int i = 0; i < length; i++) {
            hash = (hash ^ from[i]) * 0x9e3779b1;
            hash ^= hash >>> 15;
        }
        int slot = hash & slots.length - 1;
        while (slots[slot] >= 0) {
            int id = slots[slot];
            if (hashes[id] == hash && Arrays.equals(values[id], 0, values[id].length, from, 0, length)) {
                return id;
            }
            slot = slot + 1 & slots.length - 1;
        }
        if (size == values.length) {
            values = Arrays.copyOf(values, 2 * size);
            hashes = Arrays.copyOf(hashes, 2 * size);
        }
        values[size] = Arrays.copyOf(from, length);
        hashes[size] = hash;
        slots[slot] = size++;
        volume += 10 + length;
        if (2 * size > slots.length) {
            slots = new int[2 * slots.length];
            Arrays.fill(slots, -1);
            for (int id = 0; id < size; id++) {
                int s = hashes[id] & slots.length - 1;
                while (slots[s] >= 0) {
                    s = s + 1 & slots.length - 1;
                }
                slots[s] = id;
            }
        }
        return size - 1;
    }
}
