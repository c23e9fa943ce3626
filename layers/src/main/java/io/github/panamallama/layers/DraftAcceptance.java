package io.github.panamallama.layers;

import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.CacheReuse;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.Sequence;
import java.util.ArrayList;

/** How often drafts under a plan are right, which decides whether self-speculative decoding pays on a text; without decoding it. */
public final class DraftAcceptance {
    private DraftAcceptance() {
    }

    /**
     * At how many positions of a text the likeliest next token under a plan is that of the sequence's own plan: greedy decoding would
     * accept a draft's first token there. As in decoding, each is drafted behind the keys and values that the sequence has of all tokens
     * before.
     *
     * @param sequence holds the text, and stays as it is; the engine needs room for {@code together} more sequences and as many cells
     * @param rows     logits behind the tokens of the text, at least from {@code from} to {@code to}
     * @param from     the first position that counts, at least 0
     * @param to       the position behind the last that counts
     * @param together positions that are evaluated in one batch, each on a fork
     * @throws io.github.panamallama.runtime.LayerPlanException if the plan does not fit the model, or reads keys and values that the
     *                 sequence's plan left out
     */
    public static int count(Sequence sequence, LayerPlan plan, Row[] rows, int from, int to, int together) {
        if (from < 0 || to > sequence.length() || together < 1) {
            throw new IllegalArgumentException("positions " + from + " to " + to + " of " + sequence.length() + ", " + together
                    + " at a time; they must lie within the text, and 1 at least be evaluated");
        }
        int accepted = 0;
        for (int first = from; first < to; first += together) {
            int count = Math.min(together, to - first);
            var forks = new ArrayList<Sequence>();
            try {
                var appends = new Append[count];
                var drafted = new Row[count];
                for (int i = 0; i < count; i++) {
                    var fork = sequence.fork(plan, CacheReuse.APPROXIMATE);
                    forks.add(fork);
                    fork.truncate(first + i);
                    drafted[i] = sequence.engine().newRow();
                    appends[i] = Append.of(fork, new int[] {sequence.token(first + i)}, drafted[i]);
                }
                sequence.engine().decode(appends);
                for (int i = 0; i < count; i++) {
                    accepted += RowMath.argmax(drafted[i]) == RowMath.argmax(rows[first + i]) ? 1 : 0;
                }
            } finally {
                forks.forEach(Sequence::close);
            }
        }
        return accepted;
    }
}
