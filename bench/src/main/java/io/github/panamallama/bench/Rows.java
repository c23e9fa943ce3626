package io.github.panamallama.bench;

import io.github.panamallama.runtime.Row;
import java.util.Random;

/** Rows of logits shaped like a language model's: a bell of 2 nats, and a few dozen tokens that stand out of it. */
final class Rows {
    private Rows() {
    }

    static Row[] peaked(int count, int vocabulary) {
        var rows = new Row[count];
        for (int r = 0; r < count; r++) {
            var random = new Random(1000 + r);
            rows[r] = new Row(vocabulary);
            for (int i = 0; i < vocabulary; i++) {
                rows[r].set(i, (float) (2 * random.nextGaussian()));
            }
            for (int i = 0; i < 40; i++) {
                rows[r].set(random.nextInt(vocabulary), (float) (9 + 8 * random.nextDouble()));
            }
        }
        return rows;
    }
}
