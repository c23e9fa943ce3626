package io.github.panamallama.runtime.search;

import java.util.ArrayList;
import java.util.List;

/** The beginning of a text: which one, and how many tokens of it. */
public record Slice(int text, int tokens) {
    /** Texts of these lengths, each as a whole. */
    public static List<Slice> all(List<Integer> lengths) {
        var all = new ArrayList<Slice>();
        for (int text = 0; text < lengths.size(); text++) {
            all.add(new Slice(text, lengths.get(text)));
        }
        return all;
    }
}
