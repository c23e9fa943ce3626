package io.github.panamallama.sampling;

import java.util.Arrays;

/** How often each token occurs in a window: open addressing beside a dense list, so that adding, removing and walking allocate nothing. */
final class TokenCounts {
    private static final int FREE = -1;

    private int[] slots;    // hash table: index into the dense arrays, or FREE; a power of two, at most half full
    private int[] tokens;   // dense
    private int[] counts;
    private int size;

    TokenCounts() {
        slots = new int[64];
        Arrays.fill(slots, FREE);
        tokens = new int[32];
        counts = new int[32];
    }

    TokenCounts(TokenCounts other) {
        slots = other.slots.clone();
        tokens = other.tokens.clone();
        counts = other.counts.clone();
        size = other.size;
    }

    /** Number of distinct tokens. */
    int size() {
        return size;
    }

    /** The {@code i}-th distinct token, in no particular order. */
    int token(int i) {
        return tokens[i];
    }

    /** The count, at least 1, of the {@code i}-th distinct token. */
    int count(int i) {
        return counts[i];
    }

    void add(int token) {
        int slot = slotOf(token);
        if (slots[slot] != FREE) {
            counts[slots[slot]]++;
        } else {
            put(slot, token, 1);
        }
    }

    /** Makes the count at least this one, which is above 0. */
    void raise(int token, int count) {
        int slot = slotOf(token);
        if (slots[slot] != FREE) {
            counts[slots[slot]] = Math.max(counts[slots[slot]], count);
        } else {
            put(slot, token, count);
        }
    }

    void clear() {
        if (size > 0) {
            Arrays.fill(slots, FREE);
            size = 0;
        }
    }

    private void put(int slot, int token, int count) {
        if (size == tokens.length) {
            grow();
            slot = slotOf(token);
        }
        slots[slot] = size;
        tokens[size] = token;
        counts[size++] = count;
    }

    /** Removes one occurrence of a token that is present. */
    void remove(int token) {
        int slot = slotOf(token);
        int index = slots[slot];
        if (--counts[index] > 0) {
            return;
        }
        int last = --size;
        if (index != last) {
            slots[slotOf(tokens[last])] = index;
            tokens[index] = tokens[last];
            counts[index] = counts[last];
        }
        close(slot);
    }

    /** Empties a slot and moves later entries of its run back, so that no search stops early. */
    private void close(int hole) {
        int mask = slots.length - 1;
        int next = hole;
        while (true) {
            next = (next + 1) & mask;
            if (slots[next] == FREE) {
                break;
            }
            int home = home(tokens[slots[next]], mask);
            if (((next - home) & mask) >= ((next - hole) & mask)) {
                slots[hole] = slots[next];
                hole = next;
            }
        }
        slots[hole] = FREE;
    }

    private int slotOf(int token) {
        int mask = slots.length - 1;
        int slot = home(token, mask);
        while (slots[slot] != FREE && tokens[slots[slot]] != token) {
            slot = (slot + 1) & mask;
        }
        return slot;
    }

    private static int home(int token, int mask) {
        int h = token * 0x9e3779b9;
        return (h ^ (h >>> 16)) & mask;
    }

    private void grow() {
        tokens = Arrays.copyOf(tokens, 2 * size);
        counts = Arrays.copyOf(counts, 2 * size);
        slots = new int[4 * size];
        Arrays.fill(slots, FREE);
        for (int i = 0; i < size; i++) {
            slots[slotOf(tokens[i])] = i;
        }
    }
}
