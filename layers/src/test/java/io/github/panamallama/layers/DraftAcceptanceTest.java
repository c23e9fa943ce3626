package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.CacheReuse;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DraftAcceptanceTest {
    private static final LayerPlan ALL = LayerPlan.all(6);
    private static final int LENGTH = 50;

    @TempDir
    static Path folder;
    private static Model model;
    private static Engine engine;
    private static int[] text;

    @BeforeAll
    static void load() {
        var file = folder.resolve("tiny.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withLayers(6).write(file);
        model = Model.load(file);
        engine = Engine.open(model, EngineOptions.defaults().withContextSize(256).withMaxSequences(16).withThreads(1));
        text = new SplittableRandom(3).ints(LENGTH, 300, model.vocabulary().size()).toArray();
    }

    @AfterAll
    static void close() {
        engine.close();
        model.close();
    }

    private static Row[] rows() {
        var rows = new Row[LENGTH];
        Arrays.setAll(rows, i -> engine.newRow());
        return rows;
    }

    @Test
    void countsWhatDraftsOneByOneWouldGet() {
        for (var plan : new LayerPlan[] {ALL.skip(3), ALL.skip(1, 2, 4), ALL.skipFeedForward(2, 3)}) {
            var rows = rows();
            var drafted = engine.newRow();
            int expected = 0;
            try (var sequence = engine.newSequence(); var growing = engine.newSequence()) {
                engine.decode(Append.all(sequence, text, rows));
                for (int i = 0; i < LENGTH; i++) {
                    try (var draft = growing.fork(plan, CacheReuse.APPROXIMATE)) {
                        draft.append(text[i], drafted);
                    }
                    growing.append(text[i], null);
                    expected += i >= 5 && i < 45 && RowMath.argmax(drafted) == RowMath.argmax(rows[i]) ? 1 : 0;
                }
                assertTrue(expected > 0 && expected < 40, plan + ": " + expected);
                for (int together : new int[] {1, 7, 15}) {
                    assertEquals(expected, DraftAcceptance.count(sequence, plan, rows, 5, 45, together), 1, plan + ", up to a near-tie");
                }
                assertEquals(LENGTH, sequence.length());
                assertTrue(sequence.plan().isFull() && sequence.spans().size() == 1);
            }
            assertEquals(0, engine.stats().sequenceIds());
        }
    }

    @Test
    void theWholeModelAgreesWithItself() {
        var rows = rows();
        try (var sequence = engine.newSequence()) {
            engine.decode(Append.all(sequence, text, rows));
            assertEquals(LENGTH, DraftAcceptance.count(sequence, ALL, rows, 0, LENGTH, 8), 1, "up to a near-tie");
        }
    }

    @Test
    void whatCannotBeCountedIsRefused() {
        var rows = rows();
        try (var sequence = engine.newSequence(ALL.skip(2))) {
            engine.decode(Append.all(sequence, text, rows));
            assertThrows(LayerPlanException.class, () -> DraftAcceptance.count(sequence, ALL.skip(3), rows, 0, LENGTH, 8));
            assertThrows(IllegalArgumentException.class, () -> DraftAcceptance.count(sequence, ALL.skip(2), rows, -1, LENGTH, 8));
            assertThrows(IllegalArgumentException.class, () -> DraftAcceptance.count(sequence, ALL.skip(2), rows, 0, LENGTH + 1, 8));
            assertThrows(IllegalArgumentException.class, () -> DraftAcceptance.count(sequence, ALL.skip(2), rows, 0, LENGTH, 0));
        }
        assertEquals(0, engine.stats().sequenceIds());
    }
}
