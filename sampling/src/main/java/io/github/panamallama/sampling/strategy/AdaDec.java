package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import java.nio.file.Path;
import java.util.function.Predicate;
import java.util.regex.Pattern;

/**
 * AdaDec: where the model is undecided, look ahead before choosing. While the entropy is below a threshold, tokens are chosen as usual.
 * Above it the best candidates are each continued for some tokens, all in one batch per depth, and the one with the best mean
 * log-probability is taken; one token per pause (He et al., arXiv 2506.08980). Greedy sampling is the paper's; with another sampling the
 * look-ahead continues as that would. Bias, penalties and constraint decide with the model which tokens are candidates; entropy and scores
 * are the model's own.
 *
 * <p>The look-ahead of the winner is what would come next anyway, so it is kept with its rows: the tokens are the same as without,
 * fewer rows are evaluated. A finished look-ahead stays as it is (the paper's code goes on adding to its score). Its factor lambda scales
 * all candidates alike and is left out.
 *
 * <p>Counts {@code pauses}, {@code lookAheadRows}, {@code reusedRows}, {@code changed} (another token than without a pause) and
 * {@code noRoom} (pauses that the context had no room for).
 *
 * @param threshold  entropy in nats at which decoding pauses; positive infinity never pauses
 * @param candidates continued at a pause, at least 1; the paper's value is 3
 * @param depth      tokens of look-ahead, at least 0; the paper's value is 5
 * @param reuse      whether the winner's look-ahead is kept; false only to compare
 * @param finished   whether a look-ahead, given as text from the candidate on, goes no further; end-of-generation tokens and the stop
 *                   strings of the decoding end it in any case
 */
public record AdaDec(double threshold, int candidates, int depth, boolean reuse, Predicate<String> finished) implements Strategy {
    /** No further end of a look-ahead. */
    public static final Predicate<String> NO_FURTHER_END = text -> false;
    /** {@link #functionIsOver}, as a constant that is known in other processes too. */
    public static final Predicate<String> AT_END_OF_FUNCTION = AdaDec::functionIsOver;

    private static final Pattern FUNCTION_IS_OVER = Pattern.compile("\\n[^\\s]|\\n(?:[ \\t\\r]*\\n){4}");

    public AdaDec {
        if (!(threshold >= 0)) {
            throw new IllegalArgumentException("threshold must be at least 0 nats, got " + threshold);
        }
        if (candidates < 1) {
            throw new IllegalArgumentException("candidates must be at least 1, got " + candidates);
        }
        if (depth < 0) {
            throw new IllegalArgumentException("depth must be at least 0 tokens, got " + depth);
        }
        if (finished == null) {
            throw new IllegalArgumentException("finished must be given; NO_FURTHER_END for none");
        }
    }

    /** Three candidates, five tokens of look-ahead. */
    public static AdaDec of(double threshold) {
        return new AdaDec(threshold, 3, 5, true, NO_FURTHER_END);
    }

    /**
     * With the threshold learned for this model, without adapters ({@link EntropyThreshold}).
     *
     * @param thresholds file of {@link EntropyThreshold#store}
     * @throws LlamaException if it has none for this model
     */
    public static AdaDec learned(Model model, Path thresholds) {
        return of(EntropyThreshold.load(thresholds, model).threshold());
    }

    /**
     * The paper's further end of a look-ahead, for functions in languages like Python: a new line that is neither blank nor indented, or
     * four blank lines in a row. Use it as {@code withFinished(AdaDec.AT_END_OF_FUNCTION)}.
     */
    public static boolean functionIsOver(String text) {
        return FUNCTION_IS_OVER.matcher(text).find();
    }

    public AdaDec withCandidates(int candidates) {
        return new AdaDec(threshold, candidates, depth, reuse, finished);
    }

    public AdaDec withDepth(int depth) {
        return new AdaDec(threshold, candidates, depth, reuse, finished);
    }

    public AdaDec withReuse(boolean reuse) {
        return new AdaDec(threshold, candidates, depth, reuse, finished);
    }

    public AdaDec withFinished(Predicate<String> finished) {
        return new AdaDec(threshold, candidates, depth, reuse, finished);
    }
}
