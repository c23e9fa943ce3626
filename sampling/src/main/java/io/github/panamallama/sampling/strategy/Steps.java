package io.github.panamallama.sampling.strategy;

import java.util.Arrays;

/** Tokens with what was measured of them, in arrays that grow. */
final class Steps {
    private int size;
    private int[] tokens = new int[16];
    private double[] values = new double[48];

    Steps() {
    }

    Steps(Steps other) {
        size = other.size;
        tokens = other.tokens.clone();
        values = other.values.clone();
    }

    void add(int token, double logProbability, double entropy, double margin) {
        if (size == tokens.length) {
            tokens = Arrays.copyOf(tokens, 2 * size);
            values = Arrays.copyOf(values, 6 * size);
        }
        tokens[size] = token;
        values[3 * size] = logProbability;
        values[3 * size + 1] = entropy;
        values[3 * size + 2] = margin;
        size++;
    }

    void clear() {
        size = 0;
    }

    int size() {
        return size;
    }

    int[] tokens() {
        return Arrays.copyOf(tokens, size);
    }

    int token(int i) {
        return tokens[check(i)];
    }

    double logProbability(int i) {
        return values[3 * check(i)];
    }

    double entropy(int i) {
        return values[3 * check(i) + 1];
    }

    double margin(int i) {
        return values[3 * check(i) + 2];
    }

    private int check(int i) {
        if (i < 0 || i >= size) {
            throw new IndexOutOfBoundsException("token " + i + " of " + size);
        }
        return i;
    }
}
