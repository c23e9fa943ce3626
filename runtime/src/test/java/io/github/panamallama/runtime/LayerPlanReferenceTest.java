package io.github.panamallama.runtime;

import static io.github.panamallama.runtime.Evaluation.largestDifference;
import static io.github.panamallama.runtime.Evaluation.rms;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Plans against a forward pass in plain Java: all that files with other weights can't say, such as who reads whose keys and values. */
class LayerPlanReferenceTest {
    /** Nothing is rounded to 16 bits. */
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(256).withThreads(1).withSpareLayers(4)
            .withCacheTypes(GgmlType.F32, GgmlType.F32).withFlashAttention(FlashAttention.OFF);
    private static final int BLOCKS = 5;

    @TempDir
    static Path folder;
    private static Model model;
    private static TinyLlama reference;
    private static int[] tokens;

    @BeforeAll
    static void load() {
        var file = folder.resolve("llama.gguf");
        RandomModel.tiny(Architecture.LLAMA).withLayers(BLOCKS).write(file);
        model = Model.load(file);
        reference = new TinyLlama(file);
        tokens = Evaluation.tokens(model, 48, 21);
    }

    @AfterAll
    static void unload() {
        model.close();
    }

    private static LayerPlan plan(String text) {
        return LayerPlan.parse(text, BLOCKS);
    }

    private static int[] slice(int from, int to) {
        return Arrays.copyOfRange(tokens, from, to);
    }

    private static void assertSame(float[] expected, Row actual, String what) {
        double allowed = 1e-4 * rms(expected);
        double difference = largestDifference(expected, actual.toArray());
        assertTrue(difference <= allowed, () -> what + ": logits differ by " + difference + ", allowed " + allowed);
    }

    @ParameterizedTest
    @ValueSource(strings = {"all", "0-1,3-4", "1-4", "0-3", "2", "0,1:kv,2-4", "0-1,2:attn,3-4", "0-1,2:ffn,3-4", "0:ffn,1:attn,2-3,4:kv",
        "0-3,4:attn", "0-3,4:ffn", "0,1x2,2-4", "0x2,1x3,2-4", "0,2x2,3x3,4", "0:attn,1x2,2:kv,3:ffn,4"})
    void everyPlanIsWhatItSays(String text) {
        var expected = reference.start().append(plan(text), tokens);
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(plan(text))) {
            var row = engine.newRow();
            sequence.append(tokens, row);
            assertSame(expected, row, text);
            sequence.truncate(20);
            for (int i = 20; i < tokens.length; i++) {
                sequence.append(tokens[i], row);
            }
            assertSame(expected, row, text + " token by token");
        }
    }

    /** First under one plan, then under another that reads what the first one kept; evicted and computed again in between. */
    @ParameterizedTest
    @ValueSource(strings = {"0,1:kv,2-4>all", "0:kv,1:kv,2-4>all", "0-3,4:kv>all", "0,1:kv,2:attn,3-4>0-1,2x1,3-4", "all>0,2-4", "all>0-2",
        "all>0,1:ffn,2-4", "all>0,1:kv,2-4", "0,1x2,2-4>0,1x2,3-4", "0,1x2,2-4>all", "0x2,1:kv,2-4>0x2,1-4", "0,1x3,2-4>0,1x2,2-4",
        "0,1:kv,2-4>all>0,2-4", "0:kv,1-4>0,1:kv,2-4>all"})
    void aPlanReadsWhatAnotherOneKept(String text) {
        var plans = text.split(">");
        var history = reference.start();
        float[] expected = null;
        try (var engine = Engine.open(model, OPTIONS.withMaxSequences(2))) {
            var row = engine.newRow();
            var sequence = engine.newSequence(plan(plans[0]));
            int step = tokens.length / plans.length;
            for (int i = 0; i < plans.length; i++) {
                if (i > 0) {
                    var next = sequence.fork(plan(plans[i]), CacheReuse.APPROXIMATE);
                    sequence.close();
                    sequence = next;
                }
                var run = slice(i * step, (i + 1) * step);
                expected = history.append(plan(plans[i]), run);
                sequence.append(run, row);
                assertSame(expected, row, text + ", part " + i);
            }
            assertEquals(plans.length, sequence.spans().size());
            takeCells(engine);
            sequence.append(300, row);
            assertSame(history.append(plan(plans[plans.length - 1]), 300), row, text + ", evaluated again");
            sequence.close();
        }
    }

    /** Cells are used again: what a block left out does not hold nothing, but what somebody else put there. */
    @ParameterizedTest
    @ValueSource(strings = {"0,2-4>all>block 1", "0,1:ffn,2-4>0-1,3>block 1", "all>0x2,1-4>repetitions of block 0",
        "0x2,1-4>0,1x2,2-4>repetitions of block 1", "0-1x2,2-4>0,1x2,2-4>repetitions of block 1",
        "0,1x2,2-4>0,1x3,2-4>repetitions of block 1", "0-3>0-3,4:attn>block 4"})
    void whatWasNeverKeptIsNotRead(String text) {
        var parts = text.split(">");
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(plan(parts[0]))) {
            sequence.fork(plan(parts[1]), CacheReuse.APPROXIMATE).close(); // nothing is evaluated yet
            sequence.append(slice(0, 20), null);
            var refusal = assertThrows(LayerPlanException.class, () -> sequence.fork(plan(parts[1]), CacheReuse.APPROXIMATE));
            assertTrue(refusal.getMessage().contains(parts[2]) && refusal.getMessage().contains(parts[0].equals("all") ? "0-4" : parts[0]),
                    refusal.getMessage());
            var row = engine.newRow();
            try (var exact = sequence.fork(plan(parts[1]), CacheReuse.EXACT)) {
                exact.append(slice(20, 30), row);
                assertSame(reference.start().append(plan(parts[1]), slice(0, 30)), row, text);
            }
            sequence.append(slice(20, 30), row);
            assertSame(reference.start().append(plan(parts[0]), slice(0, 30)), row, text + ", the parent");
        }
    }

    @Test
    void whatWasTakenOverAndTruncatedIsEvaluatedUnderTheOwnPlan() {
        var history = reference.start();
        history.append(plan("all"), slice(0, 20));
        try (var engine = Engine.open(model, OPTIONS); var full = engine.newSequence()) {
            var row = engine.newRow();
            full.append(slice(0, 30), null);
            try (var light = full.fork(plan("0,2-4"), CacheReuse.APPROXIMATE)) {
                light.append(slice(30, 40), null);
                light.truncate(20);
                light.append(slice(20, 35), row);
                assertSame(history.append(plan("0,2-4"), slice(20, 35)), row, "behind the truncation");
            }
        }
    }

    @Test
    void whatEndsBetweenTwoPlansGoesOnUnderBoth() {
        var history = reference.start();
        history.append(plan("all"), slice(0, 30));
        history.append(plan("0,2-4"), slice(30, 40));
        try (var engine = Engine.open(model, OPTIONS.withMaxSequences(2)); var full = engine.newSequence()) {
            full.append(slice(0, 30), null);
            try (var light = full.fork(plan("0,2-4"), CacheReuse.APPROXIMATE)) {
                light.append(slice(30, 40), null);
                full.close();
                takeCells(engine);
                engine.loop().trace = slices -> light.cancel(); // behind the part of the other plan
                assertThrows(DecodeCancelledException.class, () -> light.append(slice(40, 44), null));
                engine.loop().trace = null;
                assertEquals(40, light.length());
                takeCells(engine);
                light.tap(Tap.norms(), reading -> {
                    if (reading.position() == 35) {
                        throw new IllegalStateException("enough");
                    }
                });
                assertThrows(IllegalStateException.class, () -> light.append(slice(40, 44), null));
                assertEquals(40, light.length());
                light.untap();
                var row = engine.newRow();
                light.append(slice(40, 44), row);
                assertSame(history.append(plan("0,2-4"), slice(40, 44)), row, "after a cancel and a sink that threw");
            }
        }
    }

    private static void takeCells(Engine engine) {
        long before = engine.stats().evictions();
        try (var one = engine.newSequence(); var two = engine.newSequence()) {
            one.append(Evaluation.tokens(model, 120, 1), null);
            two.append(Evaluation.tokens(model, 120, 2), null);
        }
        assertTrue(engine.stats().evictions() > before, "somebody lost cells");
    }

    @Test
    void draftsLeaveTheFullSequenceAsItIs() {
        var history = reference.start();
        try (var engine = Engine.open(model, OPTIONS); var full = engine.newSequence()) {
            var row = engine.newRow();
            full.append(slice(0, 30), row);
            assertSame(history.append(plan("all"), slice(0, 30)), row, "the prefix");
            var drafted = reference.start();
            drafted.append(plan("all"), slice(0, 30));
            try (var draft = full.fork(plan("0,3-4"), CacheReuse.APPROXIMATE)) {
                for (int i = 30; i < 36; i++) {
                    draft.append(tokens[i], row);
                    assertSame(drafted.append(plan("0,3-4"), tokens[i]), row, "draft " + i);
                }
                full.append(slice(30, 37), row);
                assertSame(history.append(plan("all"), slice(30, 37)), row, "the full sequence, verifying");
                draft.append(tokens[36], row);
                assertSame(drafted.append(plan("0,3-4"), tokens[36]), row, "the draft, going on");
            }
        }
    }
}
