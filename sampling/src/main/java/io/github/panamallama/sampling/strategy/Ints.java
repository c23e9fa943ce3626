package io.github.panamallama.sampling.strategy;

import java.util.Arrays;

/** Tokens in an array that grows. */
final class Ints {
    private int[] values;
    private int size;

    Ints(int... values) {
        this.values = Arrays.copyOf(values, Math.max(16, values.length));
        size = values.length;
    }

    Ints(Ints other) {
        values = other.values.clone();
        size = other.size;
    }

    void add(int value) {
        if (size == values.length) {
            values = Arrays.copyOf(values, 2 * size);
        }
        values[size++] = value;
    }

    int get(int i) {
        return values[i];
    }

    int last() {
        return values[size - 1];
    }

    int size() {
        return size;
    }

    boolean isEmpty() {
        return size == 0;
    }

    void clear() {
        size = 0;
    }

    void truncate(int size) {
        this.size = size;
    }

    int[] toArray() {
        return Arrays.copyOf(values, size);
    }

    int[] from(int start) {
        return Arrays.copyOfRange(values, start, size);
    }
}
