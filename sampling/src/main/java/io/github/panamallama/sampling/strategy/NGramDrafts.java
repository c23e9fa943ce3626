package io.github.panamallama.sampling.strategy;

/**
 * ADED: drafts without a draft model. A table of tri-grams, sharpened by what is being written, proposes a tree of drafts; the model
 * evaluates the tree in one batch, and the path that it would have written is kept (Liu et al., arXiv 2407.12021).
 *
 * <p>Exact: one token is drawn at each node from the model's own row, and followed if the tree has it. Texts are those of {@link Plain}
 * with the same sampling and seed, token for token, up to what rows of other batch shapes differ by. (The paper's code draws once per path,
 * which prefers drafted tokens to others.)
 *
 * <p>Counts {@code passes}, {@code drafted} nodes and {@code accepted} tokens, {@code plainSteps} without a draft.
 *
 * @param table      what is proposed; the decoding changes it. One caller at a time: give each user an {@link TrigramTable#overlay}
 * @param nodes      most drafted tokens per pass, 1 or more; the paper's value is 64, on a CPU less is more
 * @param paths      most leaves of the tree; the paper's value is 24
 * @param depth      longest path before its last token is added; the paper's value is 4
 * @param iterations of the tree search; the paper's value is 150
 * @param breakEven  accepted tokens per pass below which drafts pause for a while; 0 never pauses
 */
public record NGramDrafts(TrigramTable table, int nodes, int paths, int depth, int iterations, double breakEven) implements Strategy {
    public NGramDrafts {
        if (table == null) {
            throw new IllegalArgumentException("a table must be given; TrigramTable.empty(vocabulary) knows nothing yet");
        }
        atLeastOne("nodes", nodes);
        atLeastOne("paths", paths);
        atLeastOne("depth", depth);
        atLeastOne("iterations", iterations);
        if (!(breakEven >= 0)) {
            throw new IllegalArgumentException("breakEven must be at least 0 tokens per pass, got " + breakEven);
        }
    }

    /** 12 nodes on at most 6 paths: for CPUs, where every row of a batch costs time. */
    public static NGramDrafts of(TrigramTable table) {
        return new NGramDrafts(table, 12, 6, 4, 150, 0);
    }

    /** The paper's: 64 nodes on 24 paths, which needs an engine of 25 sequences. */
    public static NGramDrafts wide(TrigramTable table) {
        return new NGramDrafts(table, 64, 24, 4, 150, 0);
    }

    public NGramDrafts withTree(int nodes, int paths) {
        return new NGramDrafts(table, nodes, paths, depth, iterations, breakEven);
    }

    public NGramDrafts withBreakEven(double breakEven) {
        return new NGramDrafts(table, nodes, paths, depth, iterations, breakEven);
    }

    private static void atLeastOne(String name, int value) {
        if (value < 1) {
            throw new IllegalArgumentException(name + " must be at least 1, got " + value);
        }
    }
}
