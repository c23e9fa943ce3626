package io.github.panamallama.layers;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.RowMath;
import java.util.function.Predicate;

/**
 * A question to a model: whether what it writes behind a prompt, choosing the likeliest token each time, is right.
 *
 * @param prompt    tokens, at least one
 * @param maxTokens longest answer
 * @param stop      text that ends an answer and does not belong to it; empty for none
 * @param right     judges the answer
 */
public record CompletionTask(Engine engine, int[] prompt, int maxTokens, String stop, Predicate<String> right) implements LabelSearch.Task {
    public CompletionTask {
        if (prompt.length == 0 || maxTokens < 1) {
            throw new IllegalArgumentException("a prompt of " + prompt.length + " tokens and an answer of " + maxTokens
                    + "; both must have at least 1");
        }
    }

    /** What the model answers under a plan. */
    public String answer(LayerPlan plan) {
        var vocabulary = engine.model().vocabulary();
        var decoder = vocabulary.decoder();
        var row = engine.newRow();
        var text = new StringBuilder();
        try (var sequence = engine.newSequence(plan)) {
            sequence.append(prompt, row);
            for (int i = 0; ; ) {
                int token = RowMath.argmax(row);
                if (vocabulary.isEndOfGeneration(token)) {
                    break;
                }
                text.append(decoder.push(token));
                int end = stop.isEmpty() ? -1 : text.indexOf(stop);
                if (end >= 0) {
                    return text.substring(0, end);
                }
                if (++i == maxTokens) {
                    break;
                }
                sequence.append(token, row);
            }
        }
        return text.append(decoder.flush()).toString();
    }

    @Override
    public boolean correct(LayerPlan plan) {
        return right.test(answer(plan));
    }
}
