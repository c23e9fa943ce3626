package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;

/** Measures rows, where that is wanted. */
final class Gauge {
    private final boolean on;
    private final Candidates two = new Candidates(2);

    Gauge(boolean on) {
        this.on = on;
    }

    boolean on() {
        return on;
    }

    /** Adds a token chosen at an unchanged row. */
    void add(Row row, int token, Steps out) {
        if (!on) {
            unmeasured(token, out);
            return;
        }
        int found = RowMath.topK(row, Math.min(2, row.size()), two);
        out.add(token, RowMath.logProbability(row, token), RowMath.entropy(row),
                found < 2 ? Double.POSITIVE_INFINITY : two.value(0) - two.value(1));
    }

    void unmeasured(int token, Steps out) {
        out.add(token, Double.NaN, Double.NaN, Double.NaN);
    }
}
