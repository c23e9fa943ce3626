package io.github.panamallama.tests;

import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import java.util.Arrays;
import java.util.SplittableRandom;

/**
 * How far the logits of one history lie apart when only batch shape and cell layout differ. Nothing but rounding tells these
 * evaluations apart, so that their spread is what a comparison across shapes has to allow.
 *
 * <p>The spread is small while all shapes take the same kernels: below {@value #WIDE} tokens in a batch and without flash attention,
 * which changes its path at that width and at 512 cells. Tests that stay within say more.
 */
final class Noise {
    /** From this width on, matrix and attention kernels work in tiles. */
    static final int WIDE = 64;
    /** The spread is a maximum over samples of a random quantity; the next sample may exceed it. */
    private static final double MARGIN = 3;
    private static final long SEED = 7;

    private Noise() {
    }

    /** Largest difference of two logits that counts as equal for this model in an engine with these options. */
    static double tolerance(Model model, EngineOptions options) {
        var random = new SplittableRandom(SEED);
        double spread = 0;
        double scale = 0;
        try (var engine = Engine.open(model, options)) {
            int length = Math.min(90, options.contextSize() / 3);
            for (int sample = 0; sample < 2; sample++) {
                var tokens = random.ints(length, 0, model.vocabulary().size()).toArray();
                var reference = evaluate(engine, tokens, length);
                for (var row : reference) {
                    for (float logit : row) {
                        scale = Math.max(scale, Math.abs(logit));
                    }
                }
                for (int chunk : new int[] {1, 4, 23, 61}) {
                    spread = Math.max(spread, difference(reference, evaluate(engine, tokens, chunk)));
                }
                // the same again behind the cells of another sequence, and in one batch with a third
                try (var first = engine.newSequence(); var second = engine.newSequence(); var third = engine.newSequence()) {
                    first.append(Arrays.copyOf(tokens, 29), engine.newRow());
                    spread = Math.max(spread, difference(reference, evaluate(engine, tokens, 1)));
                    spread = Math.max(spread, difference(reference, evaluate(engine, tokens, length)));
                    var rows = rows(engine, length);
                    engine.decode(Append.of(second, Arrays.copyOf(tokens, 11), null), Append.all(third, tokens, rows));
                    spread = Math.max(spread, difference(reference, Arrays.stream(rows).map(Row::toArray).toArray(float[][]::new)));
                }
            }
        }
        // where all shapes give the same bits, one rounding of the largest logit is allowed
        return MARGIN * Math.max(spread, Math.ulp((float) scale));
    }

    static Row[] rows(Engine engine, int count) {
        var rows = new Row[count];
        Arrays.setAll(rows, i -> engine.newRow());
        return rows;
    }

    /** The rows after each token of a fresh sequence, evaluated in chunks. */
    static float[][] evaluate(Engine engine, int[] tokens, int chunk) {
        var result = new float[tokens.length][];
        try (var sequence = engine.newSequence()) {
            for (int from = 0; from < tokens.length; from += chunk) {
                var part = Arrays.copyOfRange(tokens, from, Math.min(tokens.length, from + chunk));
                var rows = rows(engine, part.length);
                engine.decode(Append.all(sequence, part, rows));
                for (int i = 0; i < rows.length; i++) {
                    result[from + i] = rows[i].toArray();
                }
            }
        }
        return result;
    }

    static double difference(float[][] a, float[][] b) {
        double largest = 0;
        for (int i = 0; i < a.length; i++) {
            largest = Math.max(largest, difference(a[i], b[i]));
        }
        return largest;
    }

    static double difference(float[] a, float[] b) {
        double largest = 0;
        for (int i = 0; i < a.length; i++) {
            double d = Math.abs((double) a[i] - b[i]);
            if (!(d <= largest)) {
                largest = d;        // NaN stays
            }
        }
        return largest;
    }
}
