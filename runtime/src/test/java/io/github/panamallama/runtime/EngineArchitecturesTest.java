package io.github.panamallama.runtime;

import static io.github.panamallama.runtime.Evaluation.assertClose;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What every kind of cache has to do alike: plain attention, sliding windows, recurrent states. Random weights, tiny shapes. */
@Timeout(120)
class EngineArchitecturesTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(512).withMaxSequences(4).withThreads(1);

    @TempDir
    Path folder;

    private Model load(Architecture architecture) {
        var path = folder.resolve(architecture + ".gguf");
        RandomModel.tiny(architecture).write(path);
        return Model.load(path);
    }

    private static int[] join(int[] a, int... b) {
        return IntStream.concat(Arrays.stream(a), Arrays.stream(b)).toArray();
    }

    @ParameterizedTest
    @EnumSource
    void truncateAndForkGiveTheLogitsOfAFreshEvaluation(Architecture architecture) {
        try (var model = load(architecture)) {
            var history = Evaluation.tokens(model, 200, 1);
            double tolerance = Evaluation.tolerance(model, OPTIONS, history);
            for (int checkpoints : new int[] {4, 0}) {
                try (var engine = Engine.open(model, OPTIONS.withCheckpoints(checkpoints)); var sequence = engine.newSequence()) {
                    var row = engine.newRow();
                    sequence.append(Arrays.copyOf(history, 100), null);
                    sequence.append(Arrays.copyOfRange(history, 100, 200), row);
                    assertClose(Evaluation.fresh(model, OPTIONS, history), row, tolerance, "in two runs");
                    for (int length : new int[] {199, 150, 100, 40, 1}) {
                        sequence.truncate(length);
                        var prefix = Arrays.copyOf(history, length);
                        try (var fork = sequence.fork()) {
                            fork.append(330, row);
                            assertClose(Evaluation.fresh(model, OPTIONS, join(prefix, 330)), row, tolerance, "fork at " + length);
                        }
                        sequence.append(331, row);
                        assertClose(Evaluation.fresh(model, OPTIONS, join(prefix, 331)), row, tolerance, "truncated to " + length);
                        sequence.append(332, row);
                        assertClose(Evaluation.fresh(model, OPTIONS, join(prefix, 331, 332)), row, tolerance, "one more at " + length);
                        sequence.truncate(length);
                    }
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void checkpointsOfAForgottenHistoryAreNotUsed(Architecture architecture) {
        try (var model = load(architecture); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            var first = Evaluation.tokens(model, 100, 6);
            var second = Evaluation.tokens(model, 80, 7);
            double tolerance = Evaluation.tolerance(model, OPTIONS, first);
            sequence.append(first, null); // leaves a checkpoint at 100
            sequence.truncate(40);
            for (int token : second) {
                sequence.append(token, null); // to 120, one by one: leaves none
            }
            sequence.truncate(110);
            var row = engine.newRow();
            sequence.append(330, row);
            var expected = join(join(Arrays.copyOf(first, 40), Arrays.copyOf(second, 70)), 330);
            assertClose(Evaluation.fresh(model, OPTIONS, expected), row, tolerance, architecture + " after two truncations");
        }
    }

    @ParameterizedTest
    @EnumSource
    void sequencesOfOneBatchDoNotSeeEachOther(Architecture architecture) {
        try (var model = load(architecture); var engine = Engine.open(model, OPTIONS)) {
            double tolerance = Evaluation.tolerance(model, OPTIONS, Evaluation.tokens(model, 60, 2));
            var sequences = IntStream.range(0, 4).mapToObj(i -> engine.newSequence()).toArray(Sequence[]::new);
            var rows = IntStream.range(0, 4).mapToObj(i -> engine.newRow()).toArray(Row[]::new);
            for (int round = 0; round < 2; round++) {
                var appends = new Append[4];
                for (int i = 0; i < 4; i++) {
                    appends[i] = Append.of(sequences[i], Evaluation.tokens(model, 10 + 7 * i, 10 * round + i), rows[i]);
                }
                engine.decode(appends);
                for (int i = 0; i < 4; i++) {
                    assertClose(Evaluation.fresh(model, OPTIONS, sequences[i].tokens()), rows[i], tolerance,
                            architecture + ", round " + round + ", sequence " + i);
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void aCancelledPromptLeavesTheSequenceAsItWas(Architecture architecture) {
        try (var model = load(architecture); var engine = Engine.open(model, OPTIONS.withBatchSize(32));
                var sequence = engine.newSequence()) {
            var history = Evaluation.tokens(model, 50, 3);
            double tolerance = Evaluation.tolerance(model, OPTIONS, history);
            sequence.append(history, null);
            engine.loop().trace = slices -> sequence.cancel();
            assertThrows(DecodeCancelledException.class, () -> sequence.append(Evaluation.tokens(model, 200, 4), null));
            engine.loop().trace = null;
            assertEquals(50, sequence.length());
            var row = engine.newRow();
            sequence.append(330, row);
            assertClose(Evaluation.fresh(model, OPTIONS, join(history, 330)), row, tolerance, "after cancel");
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"MAMBA"})
    void recurrentModelsUseCheckpointsAndRefuseTrees(Architecture architecture) {
        try (var model = load(architecture); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            sequence.append(Evaluation.tokens(model, 64, 5), null);
            sequence.append(301, null);
            sequence.truncate(64);
            long evaluated = engine.stats().evaluated();
            sequence.append(302, null);
            assertEquals(evaluated + 1, engine.stats().evaluated(), "the checkpoint after the prompt was not used");
            var refusal = assertThrows(IllegalArgumentException.class, () -> new TokenTree(sequence, new int[] {1, 2}, new int[] {-1, -1}));
            assertTrue(refusal.getMessage().contains("recurrent"), refusal.getMessage());
        }
    }

    /** Native code asserts it on a thread of its own, which ends the process. */
    @Test
    void aSequenceIsNoLongerThanItsModelHasPositions() {
        var file = folder.resolve("short.gguf");
        RandomModel.tiny(RandomModel.Architecture.GPT2).withContextLength(8).write(file);
        try (var model = Model.load(file); var engine = Engine.open(model,
                EngineOptions.defaults().withContextSize(256)); var sequence = engine.newSequence()) {
            var failure = assertThrows(ContextFullException.class, () -> sequence.append(new int[9], engine.newRow()));
            assertTrue(failure.getMessage().contains("the model learned 8 positions"), failure.getMessage());
            sequence.append(new int[8], engine.newRow());
            assertThrows(ContextFullException.class, () -> sequence.append(0, null));
            assertEquals(8, sequence.length());
        }
    }
}
