package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.SplittableRandom;

/**
 * Logits to compare with: a history evaluated from scratch in its own engine, and how much the model's own results differ between
 * batch shapes, which is the tolerance of every comparison across shapes.
 */
final class Evaluation {
    private Evaluation() {
    }

    /** Random token ids, none of them special in the test models. */
    static int[] tokens(Model model, int count, long seed) {
        var random = new SplittableRandom(seed);
        int size = model.vocabulary().size();
        return random.ints(count, Math.min(300, size / 2), size).toArray();
    }

    /** The logits after the last of {@code tokens}, by one append to a fresh sequence of a fresh engine. */
    static float[] fresh(Model model, EngineOptions options, int... tokens) {
        try (var engine = Engine.open(model, options); var sequence = engine.newSequence()) {
            var row = engine.newRow();
            sequence.append(tokens, row);
            return row.toArray();
        }
    }

    /** As {@link #fresh}, token by token. */
    static float[] freshSingly(Model model, EngineOptions options, int... tokens) {
        try (var engine = Engine.open(model, options); var sequence = engine.newSequence()) {
            var row = engine.newRow();
            for (int token : tokens) {
                sequence.append(token, row);
            }
            return row.toArray();
        }
    }

    /**
     * What results of this model may differ by when the same history was evaluated in other batch shapes: four times the largest
     * difference between one batch and single tokens, and never less than what float32 sums of other order give.
     */
    static double tolerance(Model model, EngineOptions options, int... tokens) {
        var whole = fresh(model, options, tokens);
        return Math.max(4 * largestDifference(whole, freshSingly(model, options, tokens)), 1e-3 * rms(whole));
    }

    static double largestDifference(float[] a, float[] b) {
        double largest = 0;
        for (int i = 0; i < a.length; i++) {
            largest = Math.max(largest, Math.abs(a[i] - b[i]));
        }
        return largest;
    }

    static double rms(float[] a) {
        double sum = 0;
        for (float x : a) {
            sum += x * x;
        }
        return Math.sqrt(sum / a.length);
    }

    static void assertClose(float[] expected, Row actual, double tolerance, String what) {
        var logits = actual.toArray();
        double difference = largestDifference(expected, logits);
        assertTrue(difference <= tolerance, () -> what + ": logits differ by " + difference + ", allowed " + tolerance);
        assertTrue(rms(logits) > 10 * tolerance, () -> what + ": the tolerance " + tolerance + " says nothing at an rms of " + rms(logits));
    }
}
