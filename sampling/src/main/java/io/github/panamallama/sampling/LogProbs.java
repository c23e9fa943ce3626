package io.github.panamallama.sampling;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import java.util.ArrayList;
import java.util.List;

/**
 * What the model thought of one position: the log-softmax of its row, before bias, penalties, truncation or temperature.
 *
 * @param chosen the token that was taken
 * @param top    the most likely tokens, most likely first, whether taken or not
 */
public record LogProbs(TokenProbability chosen, List<TokenProbability> top) {
    /**
     * Reads them from a row as the engine filled it.
     *
     * @param top   how many alternatives to list, 0 to {@code scratch.capacity()}
     * @param scratch overwritten
     * @throws io.github.panamallama.runtime.SamplingException if the row is no distribution, or {@code token} is outside it
     */
    public static LogProbs of(Row row, int token, int top, Candidates scratch) {
        if (top < 0 || top > scratch.capacity()) {
            throw new IllegalArgumentException("top must be 0 to " + scratch.capacity() + ", the capacity of the scratch, got " + top);
        }
        double chosen = RowMath.logProbability(row, token);
        if (top == 0) {
            return new LogProbs(new TokenProbability(token, chosen), List.of());
        }
        double denominator = RowMath.logSumExp(row);
        int n = RowMath.topK(row, top, scratch);
        var list = new ArrayList<TokenProbability>(n);
        for (int i = 0; i < n; i++) {
            list.add(new TokenProbability(scratch.token(i), scratch.value(i) - denominator));
        }
        return new LogProbs(new TokenProbability(token, chosen), List.copyOf(list));
    }

    /** As above, with scratch memory of its own. */
    public static LogProbs of(Row row, int token, int top) {
        return of(row, token, top, new Candidates(Math.max(1, top)));
    }
}
