package io.github.panamallama.examples.cli;

import java.util.ArrayList;
import java.util.List;

/**
 * Parts of a text, divided into those to learn from and those to judge by.
 *
 * @param heldOut every {@value #HELD_OUT}th
 */
record Split<T>(List<T> learning, List<T> heldOut) {
    static final int HELD_OUT = 5;

    static <T> Split<T> of(List<T> parts) {
        var split = new Split<T>(new ArrayList<>(), new ArrayList<>());
        for (int i = 0; i < parts.size(); i++) {
            (i % HELD_OUT == HELD_OUT - 1 ? split.heldOut : split.learning).add(parts.get(i));
        }
        return split;
    }
}
