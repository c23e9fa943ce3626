package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;

/** The arithmetic of {@link Uscd} on two rows. */
final class Contrast {
    private final Uscd settings;
    private final Row p;
    private final Row m;

    Contrast(Uscd settings, int size) {
        this.settings = settings;
        p = new Row(size);
        m = new Row(size);
    }

    /** Whether the distribution of these logits needs no contrast. */
    boolean sure(Row logits) {
        p.segment().copyFrom(logits.segment());
        RowMath.softmax(p, 1);
        double collision = 0;
        for (int v = 0; v < p.size(); v++) {
            double x = p.get(v);
            collision += x * x;
        }
        return collision > settings.kappa();
    }

    /**
     * Log-scores after the subtraction, behind {@link #sure} for the standard logits; null if nothing is left. Valid until the next call.
     */
    Row scores(Row lameLogits) {
        m.segment().copyFrom(lameLogits.segment());
        RowMath.softmax(m, 1);
        return scores(p, m, settings) ? p : null;
    }

    /** Replaces probabilities by log-scores; false if none is above zero, and then {@code p} is worth nothing. */
    static boolean scores(Row p, Row m, Uscd settings) {
        double cut = settings.eta() / p.size();
        boolean any = false;
        for (int v = 0; v < p.size(); v++) {
            double z = p.get(v) > 0 && p.get(v) >= cut ? settings.positive() * p.get(v) + settings.negative() * m.get(v) : 0;
            any |= z > 0;
            p.set(v, z > 0 ? (float) Math.log(z) : Float.NEGATIVE_INFINITY);
        }
        return any;
    }
}
