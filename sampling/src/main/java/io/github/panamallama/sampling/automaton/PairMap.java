package io.github.panamallama.sampling.automaton;

import java.util.Arrays;

/** From pairs of non-negative ints to ints, open addressing. */
final class PairMap {
    private long[] keys = new long[64];
    private int[] values = new int[64];
    private int size;

    PairMap() {
        Arrays.fill(keys, -1);
    }

    /** The value, or -1. */
    int get(int a, int b) {
        long key = (long) a << 32 | b;
        for (int i = slot(key, keys.length); keys[i] != -1; i = i + 1 & keys.length - 1) {
            if (keys[i] == key) {
                return values[i];
            }
        }
        return -1;
    }

    void put(int a, int b, int value) {
        if (3 * ++size > 2 * keys.length) {
            var oldKeys = keys;
            var oldValues = values;
            keys = new long[2 * oldKeys.length];
            values = new int[keys.length];
            Arrays.fill(keys, -1);
            for (int i = 0; i < oldKeys.length; i++) {
                if (oldKeys[i] != -1) {
                    insert(oldKeys[i], oldValues[i]);
                }
            }
        }
        insert((long) a << 32 | b, value);
    }

    private void insert(long key, int value) {
        int i = slot(key, keys.length);
        while (keys[i] != -1 && keys[i] != key) {
            i = i + 1 & keys.length - 1;
        }
        keys[i] = key;
        values[i] = value;
    }

    private static int slot(long key, int length) {
        long h = key * 0x9e3779b97f4a7c15L;
        return (int) (h >>> 32) & length - 1;
    }
}
