package io.github.panamallama.runtime;

import static io.github.panamallama.runtime.Evaluation.assertClose;
import static io.github.panamallama.runtime.Evaluation.largestDifference;
import static io.github.panamallama.runtime.Evaluation.rms;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Plans on real graphs: what is left out is gone, what is repeated is evaluated again, and sequences do not disturb each other. */
class LayerPlanModelTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(512).withThreads(1).withSpareLayers(3);

    @TempDir
    static Path folder;
    private static Path file;
    private static Model model;
    private static int[] tokens;
    private static double tolerance;

    @BeforeAll
    static void load() {
        file = folder.resolve("llama.gguf");
        RandomModel.tiny(Architecture.LLAMA).withLayers(5).write(file);
        model = Model.load(file);
        tokens = Evaluation.tokens(model, 40, 7);
        tolerance = Evaluation.tolerance(model, OPTIONS, tokens);
    }

    @AfterAll
    static void unload() {
        model.close();
    }

    private static LayerPlan plan(String text) {
        return LayerPlan.parse(text, model.layerCount());
    }

    /** The logits after {@code tokens} under a plan, by one append in an engine of its own. */
    private static float[] evaluate(Model model, LayerPlan plan, int... tokens) {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(plan)) {
            var row = engine.newRow();
            sequence.append(tokens, row);
            return row.toArray();
        }
    }

    @Test
    void everyBlockOnceIsThePlainPath() {
        assertArrayEquals(Evaluation.fresh(model, OPTIONS, tokens), evaluate(model, LayerPlan.all(5), tokens));
    }

    @ParameterizedTest
    @CsvSource({"LLAMA,1", "LLAMA,0", "LLAMA,3", "LLAMA,4", "LLAMA,1 2", "LLAMA,0 4", "LLAMA,0 1 2 3", "QWEN3,2", "QWEN3,0 3"})
    void leavingOutIsPruning(Architecture architecture, String blocks) {
        var whole = folder.resolve(architecture + "-whole.gguf");
        var pruned = folder.resolve(architecture + "-pruned.gguf");
        RandomModel.tiny(architecture).withLayers(5).write(whole);
        var left = Arrays.stream(blocks.split(" ")).mapToInt(Integer::parseInt).toArray();
        Pruned.write(whole, pruned, left);
        try (var one = Model.load(whole); var other = Model.load(pruned)) {
            assertEquals(5 - left.length, other.layerCount());
            var expected = Evaluation.fresh(other, OPTIONS, tokens);
            var actual = evaluate(one, LayerPlan.all(5).skip(left), tokens);
            if (left[left.length - 1] == 4) { // tokens are dropped behind the last block, not within: other batch shapes
                assertTrue(largestDifference(expected, actual) <= Math.max(tolerance, 1e-5 * rms(expected)));
            } else {
                assertArrayEquals(expected, actual);
            }
            var full = Evaluation.fresh(one, OPTIONS, tokens);
            assertTrue(largestDifference(full, expected) > 0.05 * rms(full), "the blocks matter");
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"0,2-4", "0-1,3", "0:ffn,1-4", "0-2,3:attn,4", "0-1,2x2,3-4", "0,1x3,2,4", "0x2,1-2,3x2,4", "0-3,4:ffn",
            "0-3,4:attn", "1:attn,3:ffn", "0-3,4x2", "0,1x2,3,4x3"})
    void tokenByTokenIsTheWhole(String text) {
        var whole = evaluate(model, plan(text), tokens);
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(plan(text))) {
            var row = engine.newRow();
            for (int token : tokens) {
                sequence.append(token, row);
            }
            assertClose(whole, row, tolerance, text);
            sequence.truncate(20);
            sequence.append(Arrays.copyOfRange(tokens, 20, 40), row);
            assertClose(whole, row, tolerance, text + " after going back");
        }
    }

    /** A block that runs twice is a model in which the block stands twice. */
    @ParameterizedTest
    @CsvSource({"LLAMA,0-1;2x2;3,0 1 2 2 3", "LLAMA,0x2;1;3x3,0 0 1 3 3 3", "QWEN3,0;2x2;3,0 2 2 3", "QWEN3,1x2;3,1 1 3",
        "LLAMA,0-2;3x2,0 1 2 3 3", "LLAMA,3x4,3 3 3 3", "QWEN3,0x2;2;3x3,0 0 2 3 3 3"})
    void repeatingIsStandingTwice(Architecture architecture, String text, String blocks) {
        var once = folder.resolve(architecture + "-once.gguf");
        var twice = folder.resolve(architecture + "-twice.gguf");
        RandomModel.tiny(architecture).write(once);
        var order = Arrays.stream(blocks.split(" ")).mapToInt(Integer::parseInt).toArray();
        Stacked.write(once, twice, order);
        var plan = LayerPlan.parse(text.replace(';', ','), 4);
        try (var one = Model.load(once); var other = Model.load(twice)) {
            assertArrayEquals(Evaluation.fresh(other, OPTIONS, tokens), evaluate(one, plan, tokens));
        }
    }

    /** The last block drops tokens whose logits are not wanted, but not before its last run. */
    @ParameterizedTest
    @EnumSource(names = {"ON", "OFF"})
    void whichLogitsAreWantedDoesNotMatterToARepeatedLastBlock(FlashAttention attention) {
        var options = OPTIONS.withFlashAttention(attention);
        var twice = folder.resolve("last-twice.gguf");
        Stacked.write(file, twice, 0, 1, 2, 3, 4, 4, 4);
        var plan = plan("0-3,4x3");
        try (var stacked = Model.load(twice); var engine = Engine.open(model, options); var other = Engine.open(stacked, options)) {
            var expected = Stream.generate(other::newRow).limit(40).toArray(Row[]::new);
            var all = Stream.generate(engine::newRow).limit(40).toArray(Row[]::new);
            try (var reference = other.newSequence(); var sequence = engine.newSequence(plan)) {
                other.decode(Append.all(reference, tokens, expected));
                engine.decode(Append.all(sequence, tokens, all));
            }
            for (int i = 0; i < 40; i++) {
                assertArrayEquals(expected[i].toArray(), all[i].toArray(), "all are wanted, row " + i);
            }
            var some = new Row[40];
            for (int i : new int[] {3, 17, 39}) {
                some[i] = engine.newRow();
            }
            try (var sequence = engine.newSequence(plan)) {
                engine.decode(Append.all(sequence, tokens, some));
                for (int i : new int[] {3, 17, 39}) {
                    assertClose(expected[i].toArray(), some[i], tolerance, "three are wanted, row " + i);
                }
            }
            var row = engine.newRow();
            try (var sequence = engine.newSequence(plan)) {
                sequence.append(Arrays.copyOf(tokens, 30), null);
                sequence.append(Arrays.copyOfRange(tokens, 30, 40), row);
                assertClose(expected[39].toArray(), row, tolerance, "none, then the last");
            }
            try (var sequence = engine.newSequence(plan)) {
                sequence.append(tokens, row);
                assertClose(expected[39].toArray(), row, tolerance, "the last is wanted");
            }
        }
    }

    /** Prompts in parts and single tokens of several sequences, in one batch under one plan. */
    @Test
    void sequencesThatRepeatTheLastBlockShareABatch() {
        var plan = plan("0,2-3,4x2");
        try (var engine = Engine.open(model, OPTIONS); var one = engine.newSequence(plan); var two = engine.newSequence(plan);
                var three = engine.newSequence(plan)) {
            var others = Evaluation.tokens(model, 40, 8);
            var rows = new Row[] {engine.newRow(), engine.newRow(), engine.newRow()};
            engine.decode(Append.of(one, Arrays.copyOf(tokens, 30), null), Append.of(two, Arrays.copyOf(others, 39), rows[1]));
            engine.decode(Append.of(one, Arrays.copyOfRange(tokens, 30, 40), rows[0]), Append.of(two, new int[] {others[39]}, rows[1]),
                    Append.of(three, Arrays.copyOf(tokens, 20), null));
            engine.decode(Append.of(three, Arrays.copyOfRange(tokens, 20, 40), rows[2]));
            assertClose(evaluate(model, plan, tokens), rows[0], tolerance, "a prompt in parts");
            assertClose(evaluate(model, plan, others), rows[1], tolerance, "a prompt and a token");
            assertClose(evaluate(model, plan, tokens), rows[2], tolerance, "the same prompt, later");
        }
    }

    /** Adapters, too, act on all tokens in the runs before the last. */
    @Test
    void adaptersActInEveryRunOfTheLastBlock() {
        var merged = folder.resolve("merged.gguf");
        var lora = TestLora.random(GgufFile.read(file), 4, 3, TestLora::projection);
        TestLora.merge(GgufFile.read(file), merged, new TestLora.Scaled(lora, 1));
        var plan = plan("0-1,3,4x2");
        try (var reference = Model.load(merged); var adapter = Adapter.load(model, lora.write(folder.resolve("lora.gguf")));
                var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(AdapterSet.of(adapter), plan)) {
            var expected = evaluate(reference, plan, tokens);
            var row = engine.newRow();
            sequence.append(Arrays.copyOf(tokens, 30), null);
            sequence.append(Arrays.copyOfRange(tokens, 30, 40), row);
            assertClose(expected, row, 2 * tolerance, "adapted");
            assertTrue(largestDifference(evaluate(model, plan, tokens), expected) > 10 * tolerance, "the adapter matters");
        }
    }

    @Test
    void keysAndValuesAloneCanBeTakenUp() {
        // keys and values of block 1 come from the input of block 1, which is the same with and without its own run
        try (var engine = Engine.open(model, OPTIONS); var light = engine.newSequence(plan("0,1:kv,2-4"))) {
            var row = engine.newRow();
            light.append(Arrays.copyOf(tokens, 30), null);
            try (var full = light.fork(LayerPlan.all(5), CacheReuse.APPROXIMATE)) {
                full.append(Arrays.copyOfRange(tokens, 30, 40), row);
                assertEquals(2, full.spans().size());
                assertClose(byHand(), row, tolerance, "the last ten tokens with all blocks");
            }
        }
    }

    /** The same by other means: the first thirty tokens without the run of block 1, all that follows with it. */
    private static float[] byHand() {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(plan("0,1:kv,2-4"))) {
            var row = engine.newRow();
            for (int i = 0; i < 30; i++) {
                sequence.append(tokens[i], null);
            }
            var full = sequence.fork(LayerPlan.all(5), CacheReuse.APPROXIMATE);
            for (int i = 30; i < 40; i++) {
                full.append(tokens[i], row);
            }
            full.close();
            return row.toArray();
        }
    }

    @Test
    void sequencesWithOtherPlansDoNotDisturbEachOther() throws Exception {
        var texts = new String[] {"all", "0,2-4", "0-1,2x2,3-4", "1-4", "0:attn,1-4"};
        var expected = new float[texts.length][];
        for (int i = 0; i < texts.length; i++) {
            expected[i] = evaluate(model, plan(texts[i]), tokens);
        }
        try (var engine = Engine.open(model, OPTIONS); var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            var jobs = new ArrayList<Callable<Void>>();
            var rows = new Row[texts.length];
            for (int i = 0; i < texts.length; i++) {
                int number = i;
                rows[i] = engine.newRow();
                jobs.add(() -> {
                    try (var sequence = engine.newSequence(plan(texts[number]))) {
                        sequence.append(Arrays.copyOf(tokens, 25 + number), null);
                        for (int j = 25 + number; j < 40; j++) {
                            sequence.append(tokens[j], rows[number]);
                        }
                        return null;
                    }
                });
            }
            for (var done : threads.invokeAll(jobs)) {
                done.get();
            }
            for (int i = 0; i < texts.length; i++) {
                assertClose(expected[i], rows[i], tolerance, texts[i]);
            }
            assertEquals(0, engine.stats().sequenceIds(), "nothing is left");
        }
    }

    @Test
    void aDraftReadsTheFullPrefixAndLeavesItAlone() {
        try (var engine = Engine.open(model, OPTIONS); var full = engine.newSequence()) {
            var row = engine.newRow();
            full.append(Arrays.copyOf(tokens, 30), null);
            try (var draft = full.fork(plan("0,2-4"), CacheReuse.APPROXIMATE)) {
                draft.append(Arrays.copyOfRange(tokens, 30, 36), row);
                assertTrue(largestDifference(Evaluation.fresh(model, OPTIONS, Arrays.copyOf(tokens, 36)), row.toArray()) > 10 * tolerance);
            }
            full.append(Arrays.copyOfRange(tokens, 30, 40), row);
            assertClose(Evaluation.fresh(model, OPTIONS, tokens), row, tolerance, "the full sequence");
        }
    }

    @Test
    void aForkWithAnotherPlanIsEvaluatedAgain() {
        try (var engine = Engine.open(model, OPTIONS); var full = engine.newSequence()) {
            full.append(Arrays.copyOf(tokens, 39), null);
            try (var other = full.fork(plan("0,2-4"), CacheReuse.EXACT)) {
                var row = engine.newRow();
                other.append(tokens[39], row);
                assertClose(evaluate(model, plan("0,2-4"), tokens), row, tolerance, "the fork");
                assertEquals(0, full.evaluatedAlike(other, 39));
            }
        }
    }

    @Test
    void whatWasTakenOverIsEvaluatedAsItWas() {
        // two ids and cells for one and a half sequences: the fork loses what it took over, and gets it back under the plan it had
        var options = OPTIONS.withContextSize(256).withMaxSequences(2);
        try (var engine = Engine.open(model, options); var full = engine.newSequence()) {
            var row = engine.newRow();
            full.append(Arrays.copyOf(tokens, 30), null);
            try (var draft = full.fork(plan("0,2-4"), CacheReuse.APPROXIMATE)) {
                draft.append(Arrays.copyOfRange(tokens, 30, 39), null);
                full.close();
                try (var greedy = engine.newSequence(); var other = engine.newSequence()) {
                    greedy.append(Evaluation.tokens(model, 200, 1), null);
                    other.append(Evaluation.tokens(model, 100, 2), null);
                }
                draft.append(tokens[39], row);
                assertTrue(engine.stats().evictions() > 0, "it lost its cells");
            }
            try (var again = Engine.open(model, OPTIONS); var reference = again.newSequence()) {
                reference.append(Arrays.copyOf(tokens, 30), null);
                var expected = again.newRow();
                try (var draft = reference.fork(plan("0,2-4"), CacheReuse.APPROXIMATE)) {
                    draft.append(Arrays.copyOfRange(tokens, 30, 40), expected);
                }
                assertClose(expected.toArray(), row, tolerance, "evaluated again in two spans");
            }
        }
    }

    @Test
    void whoHasAnotherPlanDoesNotWaitForALongPrompt() {
        try (var engine = Engine.open(model, OPTIONS.withBatchSize(32)); var full = engine.newSequence();
                var light = engine.newSequence(plan("0,2-4")); var twice = engine.newSequence(plan("0,1x2,2-4"))) {
            var steps = new ArrayList<Sequence>();
            engine.loop().trace = slices -> steps.add(slices.getFirst().sequence());
            engine.decode(Append.of(full, Evaluation.tokens(model, 200, 3), null), Append.of(light, Evaluation.tokens(model, 60, 4), null),
                    Append.of(twice, new int[] {300}, null));
            assertTrue(steps.indexOf(light) < 3 && steps.indexOf(twice) < 3, "everybody is among the first three");
            assertTrue(steps.lastIndexOf(light) < 5, "turn by turn");
        }
    }

    /** With one token in a graph, tokens are dropped or not, and the graph looks the same until there are none left. */
    @ParameterizedTest
    @ValueSource(strings = {"0-2,3x2,4", "0-3,4x2", "0-2,4x4"})
    void aBlockIsRepeatedHoweverSmallTheGraph(String text) {
        try (var engine = Engine.open(model, OPTIONS.withUbatchSize(1).withBatchSize(1)); var sequence = engine.newSequence(plan(text))) {
            var row = engine.newRow();
            sequence.append(tokens, row);
            assertClose(evaluate(model, plan(text), tokens), row, tolerance, "one by one");
        }
    }

    @Test
    void badPlansAreRefused() {
        try (var engine = Engine.open(model, OPTIONS)) {
            assertTrue(assertThrows(LayerPlanException.class,
                    () -> engine.newSequence(LayerPlan.all(4).skip(1))).getMessage().contains("5"));
            assertThrows(LayerPlanException.class, () -> engine.newSequence(LayerPlan.all(4)));
            assertThrows(LayerPlanException.class, () -> engine.newSequence(LayerPlan.all(5).skip(0, 1, 2, 3, 4)));
            assertThrows(LayerPlanException.class, () -> engine.newSequence(LayerPlan.all(5).skipKeepingCache(0, 1, 2, 3, 4)));
            var repeats = assertThrows(LayerPlanException.class, () -> engine.newSequence(LayerPlan.all(5).repeat(1, 5)));
            assertTrue(repeats.getMessage().contains("4") && repeats.getMessage().contains("3"), repeats.getMessage());
            try (var sequence = engine.newSequence()) {
                var row = engine.newRow();
                sequence.append(tokens, row);
                assertClose(Evaluation.fresh(model, OPTIONS, tokens), row, tolerance, "after all that");
            }
        }
        var recurrent = folder.resolve("mamba.gguf");
        RandomModel.tiny(Architecture.MAMBA).write(recurrent);
        try (var mamba = Model.load(recurrent); var engine = Engine.open(mamba, OPTIONS.withSpareLayers(0))) {
            assertTrue(assertThrows(LayerPlanException.class, () -> engine.newSequence(LayerPlan.all(4).skip(1))).getMessage()
                    .contains("recurrent"));
        }
    }
}
