package io.github.panamallama.sampling.strategy;

/**
 * Contrastive search: of the {@code candidates} likeliest tokens, the one that is likely and whose hidden state is unlike those of the text
 * before it, so that a text does not repeat itself (Su et al., arXiv 2202.06417). The score of a token {@code v} is {@code (1 - alpha) p(v)
 * - alpha max cos(h_v, h_j)}, the largest cosine over all tokens {@code j} before it: of the sequence, the prompt and the text.
 *
 * <p>The candidates of a position are evaluated in one batch, the chosen one is kept: as many batches as without, {@code candidates} times
 * the rows. {@code p} is the softmax over what a constraint allows, with bias and penalties; the rest of the sampling has no effect, for
 * nothing is drawn. What the sequence held before the prompt is evaluated once more, because its hidden states were not kept.
 *
 * <p>A hidden state is the residual stream behind a block. The last block of most models evaluates only tokens whose logits are wanted; to
 * compare there, as the paper does, the logits of every token of the prompt are computed and thrown away. So the block before it is the
 * default, which costs nothing more. States take 4 bytes per element of the embedding and token. The sequence's own tap is replaced.
 *
 * <p>Counts positions where the likeliest token was {@code changed} for another one, and those with {@code fewerCandidates} for want of
 * room in the context.
 *
 * @param candidates compared at each position, at least 1; as many sequences of the engine are needed
 * @param alpha      weight of the likeness, 0 to 1; 0 is greedy decoding
 * @param fromLast   the block behind which states are compared, counted from the last one, which is 0
 */
public record ContrastiveSearch(int candidates, double alpha, int fromLast) implements Strategy {
    public ContrastiveSearch {
        if (candidates < 1) {
            throw new IllegalArgumentException("candidates must be at least 1, got " + candidates);
        }
        if (!(alpha >= 0 && alpha <= 1)) {
            throw new IllegalArgumentException("alpha must be 0 to 1, got " + alpha);
        }
        if (fromLast < 0) {
            throw new IllegalArgumentException("fromLast must be at least 0, got " + fromLast);
        }
    }

    /** The paper's four candidates and its alpha of 0.6, behind the last block but one. */
    public static ContrastiveSearch of() {
        return new ContrastiveSearch(4, 0.6, 1);
    }

    public ContrastiveSearch withCandidates(int candidates) {
        return new ContrastiveSearch(candidates, alpha, fromLast);
    }

    public ContrastiveSearch withAlpha(double alpha) {
        return new ContrastiveSearch(candidates, alpha, fromLast);
    }

    public ContrastiveSearch withFromLast(int fromLast) {
        return new ContrastiveSearch(candidates, alpha, fromLast);
    }
}
