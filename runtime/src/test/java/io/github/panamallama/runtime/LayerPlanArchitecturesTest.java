package io.github.panamallama.runtime;

import static io.github.panamallama.runtime.Evaluation.assertClose;
import static io.github.panamallama.runtime.Evaluation.largestDifference;
import static io.github.panamallama.runtime.Evaluation.rms;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.EnumSource.Mode;
import org.junit.jupiter.params.provider.ValueSource;

/** Plans on every way to wire a block, against files without those blocks and files in which they add nothing. Random weights. */
@Timeout(120)
class LayerPlanArchitecturesTest {
    private static final EngineOptions OPTIONS =
            EngineOptions.defaults().withContextSize(512).withMaxSequences(4).withThreads(1).withSpareLayers(3);
    private static final int BLOCKS = 5;

    /** Without a place between attention and feed-forward part, or without a name of it. */
    private static final Set<Architecture> ONE_PIECE = EnumSet.of(Architecture.PHI3, Architecture.GPTNEOX, Architecture.COMMAND_R);

    @TempDir
    Path folder;

    private Path file(Architecture architecture) {
        var path = folder.resolve(architecture + ".gguf");
        RandomModel.tiny(architecture).withLayers(BLOCKS).write(path);
        return path;
    }

    private static LayerPlan plan(String text) {
        return LayerPlan.parse(text, BLOCKS);
    }

    /** Longer than the sliding window. */
    private static int[] tokens(Model model) {
        return Evaluation.tokens(model, 90, 11);
    }

    private static float[] evaluate(Model model, LayerPlan plan, int... tokens) {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(plan)) {
            var row = engine.newRow();
            sequence.append(tokens, row);
            return row.toArray();
        }
    }

    @ParameterizedTest
    @EnumSource(mode = Mode.EXCLUDE, names = {"MAMBA", "JAMBA", "QWEN35"})
    void aGraphThatIsWrittenAgainIsTheSame(Architecture architecture) {
        try (var model = Model.load(file(architecture)); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            var tokens = tokens(model);
            var row = engine.newRow();
            sequence.tap(Tap.norms(), reading -> { }); // the plan of every block once, not the plain path
            sequence.append(tokens, row);
            assertArrayEquals(Evaluation.fresh(model, OPTIONS, tokens), row.toArray());
        }
    }

    /** What is left out, and what is left of a block that runs in part, is what a model computes whose other parts add nothing. */
    @ParameterizedTest
    @EnumSource(mode = Mode.EXCLUDE, names = {"MAMBA", "JAMBA", "QWEN35"})
    void leavingOutIsAddingNothing(Architecture architecture) {
        var whole = file(architecture);
        var neutral = folder.resolve("neutral.gguf");
        try (var model = Model.load(whole)) {
            var tokens = tokens(model);
            var full = Evaluation.fresh(model, OPTIONS, tokens);
            for (var text : new String[] {"0-1,3-4", "1-4", "0-3", "0,2,4", "0-1,2:kv,3-4", "0-3,4:kv", "0:kv,1-4", "3", "1:kv,2:kv,3",
                "0-1,2:attn,3-4", "0-1,2:ffn,3-4", "0:attn,1-4", "0:ffn,1-4", "0-3,4:attn", "0-3,4:ffn", "0:ffn,1:attn,2:kv,4", "0-4:attn",
                "0-4:ffn"}) {
                var plan = plan(text);
                boolean inPart = IntStream.range(0, BLOCKS).anyMatch(i -> plan.attention(i) != plan.feedForward(i));
                if (inPart && ONE_PIECE.contains(architecture)) {
                    var refusal = assertThrows(LayerPlanException.class, () -> evaluate(model, plan, tokens), text);
                    var message = refusal.getMessage();
                    assertTrue(message.contains("can't be told apart") && message.contains(text), message);
                    continue;
                }
                Neutralised.write(whole, neutral, plan);
                try (var other = Model.load(neutral)) {
                    var expected = Evaluation.fresh(other, OPTIONS, tokens);
                    assertArrayEquals(expected, evaluate(model, plan, tokens), architecture + " " + text);
                    assertTrue(largestDifference(full, expected) > 0.02 * rms(full), architecture + " " + text + ": the blocks matter");
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource(mode = Mode.EXCLUDE, names = {"MAMBA", "JAMBA", "QWEN35", "GEMMA3", "HY_V3"}) // blocks that know their index
    void leavingOutIsPruning(Architecture architecture) {
        var whole = file(architecture);
        var pruned = folder.resolve("pruned.gguf");
        for (var left : new int[][] {{2}, {0}, {1, 3}, {4}}) {
            Pruned.write(whole, pruned, left);
            try (var one = Model.load(whole); var other = Model.load(pruned)) {
                assertEquals(BLOCKS - left.length, other.layerCount());
                var tokens = tokens(one);
                var expected = Evaluation.fresh(other, OPTIONS, tokens);
                var actual = evaluate(one, LayerPlan.all(BLOCKS).skip(left), tokens);
                if (left[left.length - 1] == BLOCKS - 1) { // tokens are dropped behind the last block, not within: other batch shapes
                    assertTrue(largestDifference(expected, actual) <= Evaluation.tolerance(one, OPTIONS, tokens));
                } else {
                    assertArrayEquals(expected, actual);
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource(mode = Mode.EXCLUDE, names = {"MAMBA", "JAMBA", "QWEN35", "HY_V3"})
    void repeatingIsStandingTwice(Architecture architecture) {
        var once = file(architecture);
        var twice = folder.resolve("twice.gguf");
        for (var order : new int[][] {{0, 1, 2, 2, 3, 4}, {0, 0, 1, 2, 3, 3, 3, 4}, {1, 2, 2, 4}, {0, 1, 2, 3, 4, 4}, {0, 2, 2, 4, 4, 4}}) {
            var plan = LayerPlan.keeping(new boolean[BLOCKS]);
            for (int block : order) {
                plan = plan.repeat(block, plan.runs(block) + 1);
            }
            Stacked.write(once, twice, order);
            try (var one = Model.load(once); var other = Model.load(twice)) {
                var tokens = tokens(one);
                assertArrayEquals(Evaluation.fresh(other, OPTIONS, tokens), evaluate(one, plan, tokens), architecture + " " + plan);
            }
        }
    }

    @ParameterizedTest
    @EnumSource(mode = Mode.EXCLUDE, names = {"MAMBA", "JAMBA", "QWEN35"})
    void aDecodeWithCacheIsTheWholeAgain(Architecture architecture) {
        try (var model = Model.load(file(architecture))) {
            var tokens = tokens(model);
            double tolerance = Evaluation.tolerance(model, OPTIONS, tokens);
            for (var text : new String[] {"0-1,3-4", "1-4", "0-3", "0-1,2x3,3-4", "0x2,2:kv,3-4", "0-2,3:attn,4", "0:ffn,1-4",
                "0-3,4x2", "0x2,2,3:kv,4x3"}) {
                if (ONE_PIECE.contains(architecture) && (text.contains("attn") || text.contains("ffn"))) {
                    continue;
                }
                var whole = evaluate(model, plan(text), tokens);
                try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(plan(text))) {
                    var row = engine.newRow();
                    for (int i = 0; i < 90; i++) {
                        sequence.append(tokens[i], i == 89 ? row : null);
                    }
                    assertClose(whole, row, tolerance, architecture + " " + text);
                    sequence.truncate(60);
                    sequence.append(Arrays.copyOfRange(tokens, 60, 90), row); // leaves a checkpoint where there is a window
                    assertClose(whole, row, tolerance, architecture + " " + text + " after going back");
                    sequence.append(new int[] {301, 302, 303}, null);
                    sequence.truncate(90);
                    sequence.append(304, row);
                    var longer = Arrays.copyOf(tokens, 91);
                    longer[90] = 304;
                    assertClose(evaluate(model, plan(text), longer), row, tolerance, architecture + " " + text + " from where it was");
                }
            }
        }
    }

    /** Models with a sliding window have two caches, whose cells are not in the same places. */
    @ParameterizedTest
    @ValueSource(strings = {"0-1,2x2,3-4", "0,1x2,2-4", "0x2,1x3,2-4", "0-3,4x2", "0-1,2x2,3,4x2"})
    void whatIsRepeatedIsSavedAndRestoredWithItsOwnCache(String text) {
        try (var model = Model.load(file(Architecture.GEMMA3)); var engine = Engine.open(model, OPTIONS)) {
            var tokens = tokens(model);
            var expected = evaluate(model, plan(text), tokens);
            double tolerance = Evaluation.tolerance(model, OPTIONS, tokens);
            try (var sequence = engine.newSequence(plan(text)); var first = engine.newSequence()) {
                first.append(Evaluation.tokens(model, 10, 1), null);
                sequence.append(Arrays.copyOf(tokens, 60), null); // leaves a checkpoint
                for (int token : Evaluation.tokens(model, 40, 2)) {
                    sequence.append(token, null);
                }
                first.close(); // the next tokens go to its cells, and then to those that left the window
                for (int token : Evaluation.tokens(model, 50, 3)) {
                    sequence.append(token, null);
                }
                sequence.truncate(60);
                long evaluated = engine.stats().evaluated();
                var row = engine.newRow();
                sequence.append(Arrays.copyOfRange(tokens, 60, 90), row);
                assertEquals(evaluated + 30, engine.stats().evaluated(), "it went back to the checkpoint");
                assertClose(expected, row, tolerance, text);
            }
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MAMBA", "JAMBA", "QWEN35"})
    void modelsWithAStateAreRefused(Architecture architecture) {
        try (var model = Model.load(file(architecture)); var engine = Engine.open(model, OPTIONS)) {
            var refusal = assertThrows(LayerPlanException.class, () -> engine.newSequence(LayerPlan.all(model.layerCount()).skip(1)));
            assertTrue(refusal.getMessage().contains("recurrent state"), refusal.getMessage());
            try (var sequence = engine.newSequence(LayerPlan.all(model.layerCount()))) { // the model as it is
                var row = engine.newRow();
                sequence.append(tokens(model), row);
                assertArrayEquals(Evaluation.fresh(model, OPTIONS, tokens(model)), row.toArray());
                assertThrows(LayerPlanException.class, () -> sequence.fork(plan("0-3"), CacheReuse.EXACT));
            }
        }
    }
}
