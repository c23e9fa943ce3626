package io.github.panamallama.sampling.strategy;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Hidden states of a text, by position, to be compared with others. Kept as unit vectors in tiles of {@value #TILE} tokens, element by
 * element, so that the loop over a tile's tokens has no sum in it and becomes vector instructions.
 */
final class States {
    private static final int TILE = 64;

    private final List<float[]> tiles = new ArrayList<>();
    private final float[] sums = new float[TILE];

    /** Keeps the state of a token. */
    void set(int position, float[] state) {
        while (tiles.size() <= position / TILE) {
            tiles.add(new float[state.length * TILE]);
        }
        var tile = tiles.get(position / TILE);
        float scale = scale(state);
        for (int i = 0, at = position % TILE; i < state.length; i++, at += TILE) {
            tile[at] = scale * state[i];
        }
    }

    /** The largest cosine of the angles between a state and those of the first {@code count} tokens, at least 1 of them. */
    double largestCosine(float[] state, int count) {
        var sums = this.sums;
        float largest = Float.NEGATIVE_INFINITY;
        for (int first = 0; first < count; first += TILE) {
            var tile = tiles.get(first / TILE);
            Arrays.fill(sums, 0);
            for (int i = 0; i < state.length; i++) {
                float element = state[i];
                int row = i * TILE;
                for (int t = 0; t < TILE; t++) {
                    sums[t] += element * tile[row + t];
                }
            }
            for (int t = 0; t < Math.min(TILE, count - first); t++) {
                largest = Math.max(largest, sums[t]);
            }
        }
        return largest * scale(state);
    }

    /** What makes a unit vector of it; a state of zeros is at right angles to everything. */
    private static float scale(float[] state) {
        double sum = 0;
        for (float element : state) {
            sum += (double) element * element;
        }
        return sum == 0 ? 0 : (float) (1 / Math.sqrt(sum));
    }
}
