package io.github.panamallama.runtime.search;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DivergenceTest {
    @TempDir
    Path folder;

    private static double divergence(float[] p, float[] q) {
        var reference = MemorySegment.ofArray(p);
        return Divergence.between(reference, Divergence.logSumExp(reference, p.length), MemorySegment.ofArray(q), q.length);
    }

    private static float ln(double p) {
        return (float) Math.log(p);
    }

    @Test
    void isTheKullbackLeiblerDivergenceOfTheSoftmaxes() {
        float[] half = {3, 3};
        float[] quarter = {ln(0.25) + 7, ln(0.75) + 7};
        assertEquals(0.5 * Math.log(2) + 0.5 * Math.log(2 / 3.0), divergence(half, quarter), 1e-6);
        assertEquals(0.25 * Math.log(0.5) + 0.75 * Math.log(1.5), divergence(quarter, half), 1e-6);
        assertEquals(0, divergence(quarter, quarter));
        // what the reference excludes costs nothing, what the candidate excludes cannot be made good
        assertEquals(Math.log(2), divergence(new float[] {0, Float.NEGATIVE_INFINITY}, half), 1e-12);
        assertEquals(Double.POSITIVE_INFINITY, divergence(half, new float[] {0, Float.NEGATIVE_INFINITY}));
        assertEquals(0, divergence(new float[] {1000, -1000}, new float[] {900, -900}), 1e-12);
    }

    @Test
    void logitsThatAreNoNumbersGiveNaN() {
        float[] good = {1, 2};
        for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY}) {
            assertEquals(Double.NaN, divergence(good, new float[] {1, bad}));
            assertEquals(Double.NaN, divergence(new float[] {bad, 1}, good));
        }
    }

    @Test
    void comparesOnlyWithWhatItHasSeen() {
        var file = folder.resolve("random.gguf");
        RandomModel.tiny(Architecture.LLAMA).write(file);
        int[] text = {3, 9, 27, 81};
        try (var model = Model.load(file); var engine = Engine.open(model, EngineOptions.defaults().withContextSize(256).withThreads(1))) {
            int vocabulary = model.vocabulary().size();
            var tight = assertThrows(LlamaException.class, () -> new Divergence(List.of(text), vocabulary, 16L * vocabulary - 1));
            assertTrue(tight.getMessage().contains("take " + 16L * vocabulary + " bytes"), tight.getMessage());
            var divergence = new Divergence(List.of(text), vocabulary, 16L * vocabulary);
            try (var sequence = engine.newSequence()) {
                assertThrows(IllegalStateException.class, () -> divergence.sum(sequence, new Slice(0, 4)));
            }
            try (var sequence = engine.newSequence()) {
                divergence.refer(0, sequence);
            }
            try (var sequence = engine.newSequence()) {
                assertEquals(0, divergence.sum(sequence, new Slice(0, 4)), 1e-12);
            }
        }
    }
}
