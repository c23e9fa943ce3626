package io.github.panamallama.bench;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SelfDraftCostsTest {
    private static final LayerPlan PLAN = LayerPlan.all(4).skip(1, 2);

    @TempDir
    Path folder;

    @Test
    void breakEvenIsWhereTheTokensOfAPassAreWorthItsTime() {
        assertEquals(0.6, SelfDraftCosts.breakEven(1.6, 1), 1e-9);
        assertEquals(0.5, SelfDraftCosts.breakEven(1.75, 2), 1e-9);
        assertEquals(0.5, SelfDraftCosts.breakEven(1.9375, 4), 1e-9);
        assertEquals(0, SelfDraftCosts.breakEven(0.9, 3), 1e-9);
        assertEquals(1, SelfDraftCosts.breakEven(5, 4), 1e-9);
        assertTrue(SelfDraftCosts.breakEven(5.01, 4) > 1, "not even if all drafts are right");
    }

    private float[] logits(Path file, LayerPlan plan) {
        try (var model = Model.load(file); var engine = Engine.open(model, EngineOptions.defaults().withContextSize(64).withThreads(1));
                var sequence = engine.newSequence(plan)) {
            var row = engine.newRow();
            sequence.append(new int[] {300, 301, 302, 400, 5}, row);
            return row.toArray();
        }
    }

    @Test
    void quietBlocksAddAsMuchOfWhatTheyDidAsIsAskedFor() throws IOException {
        var original = folder.resolve("tiny.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withType(GgmlType.Q8_0).write(original);
        try (var quiet = new QuietModel(original, PLAN)) {
            assertEquals(-1, Files.mismatch(original, quiet.with(1)));
            float[] whole = logits(original, LayerPlan.all(4));
            double before = 0;
            for (double factor : new double[] {0.01, 0.2, 0.6, 1}) {
                double difference = distance(logits(quiet.with(factor), LayerPlan.all(4)), logits(original, PLAN));
                assertTrue(difference > before, factor + ": " + difference + " after " + before);
                before = difference;
            }
            assertArrayEquals(whole, logits(quiet.with(1), LayerPlan.all(4)), "each factor is of the original");
            assertArrayEquals(logits(original, PLAN), logits(quiet.with(0), LayerPlan.all(4)), 1e-4f, "blocks that add nothing");
            assertArrayEquals(logits(original, PLAN), logits(quiet.with(0.3), PLAN), 1e-4f, "what runs stays as it was");
        }
        assertEquals(1, folder.toFile().list().length);
    }

    private static double distance(float[] a, float[] b) {
        double sum = 0;
        for (int i = 0; i < a.length; i++) {
            sum += (a[i] - b[i]) * (a[i] - b[i]);
        }
        return Math.sqrt(sum);
    }

    @Test
    void onlyWeightsOfOneTypeCanBeScaled() throws IOException {
        var original = folder.resolve("tiny.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(original);
        try (var quiet = new QuietModel(original, PLAN)) {
            assertThrows(IOException.class, () -> quiet.with(0.5));
        }
    }
}
