package io.github.panamallama.runtime;

import static io.github.panamallama.runtime.Evaluation.assertClose;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.TreeSet;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The head for multi-token prediction: whatever a sequence went through, it drafts as behind a fresh one. Random weights. */
@Timeout(120)
class MtpTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(512).withMaxSequences(4).withThreads(1);
    private static final int[] DRAFT = {311, 402, 333};

    @TempDir
    Path folder;

    private Model load(Architecture architecture) {
        var path = folder.resolve(architecture + ".gguf");
        if (!Files.exists(path)) {
            RandomModel.tiny(architecture).write(path);
        }
        return Model.load(path, ModelOptions.defaults().withMtp(true));
    }

    private static int[] join(int[] a, int... b) {
        return IntStream.concat(Arrays.stream(a), Arrays.stream(b)).toArray();
    }

    /** The head's logits behind a history that was evaluated in one run, and the draft, in an engine of their own. */
    private static float[] fresh(Model model, int[] history, int... draft) {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            sequence.append(history, null);
            var row = engine.newRow();
            sequence.draft(draft, row);
            return row.toArray();
        }
    }

    /** As {@link Evaluation#tolerance}, of the head's logits. */
    private static double tolerance(Model model, int[] history) {
        var whole = fresh(model, history, DRAFT);
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            for (int token : history) {
                sequence.append(token, null);
            }
            var row = engine.newRow();
            sequence.draft(DRAFT, row);
            return Math.max(4 * Evaluation.largestDifference(whole, row.toArray()), 1e-3 * Evaluation.rms(whole));
        }
    }

    /** The head starts from what the plan made, and is no block of it. */
    @Test
    void plansAreThoseOfTheModelNotOfItsHead() {
        var whole = folder.resolve("whole.gguf");
        var neutral = folder.resolve("neutral.gguf");
        RandomModel.tiny(Architecture.HY_V3).write(whole);
        var plan = LayerPlan.parse("0,1:attn,3", 4);
        Neutralised.write(whole, neutral, plan);
        var options = ModelOptions.defaults().withMtp(true);
        try (var model = Model.load(whole, options); var other = Model.load(neutral, options);
                var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(plan)) {
            assertEquals(4, model.layerCount());
            var history = Evaluation.tokens(model, 60, 8);
            sequence.append(history, null);
            var row = engine.newRow();
            sequence.draft(DRAFT, row);
            assertArrayEquals(fresh(other, history, DRAFT), row.toArray());
            assertThrows(LayerPlanException.class, () -> engine.newSequence(LayerPlan.all(5).skip(1)));
        }
    }

    private static void assertDrafts(Model model, Sequence sequence, double tolerance, String what) {
        var row = sequence.engine().newRow();
        for (int i = 1; i <= DRAFT.length; i++) {
            var draft = Arrays.copyOf(DRAFT, i);
            sequence.draft(draft, row);
            assertClose(fresh(model, sequence.tokens(), draft), row, tolerance, what + ", draft of " + i);
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"HY_V3", "QWEN35"})
    void draftsDependOnTheTokensAloneAndNotOnHowTheyCameToBe(Architecture architecture) {
        try (var model = load(architecture); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            var history = Evaluation.tokens(model, 150, 1);
            double tolerance = tolerance(model, history);
            sequence.append(Arrays.copyOf(history, 90), null);
            assertDrafts(model, sequence, tolerance, "after one run");
            for (int i = 90; i < 100; i++) {
                sequence.append(history[i], null);
            }
            sequence.append(Arrays.copyOfRange(history, 100, 150), null);
            assertDrafts(model, sequence, tolerance, "after several runs");
            for (int length : new int[] {149, 128, 64, 1}) {
                sequence.truncate(length);
                assertDrafts(model, sequence, tolerance, "truncated to " + length);
                try (var fork = sequence.fork()) {
                    fork.append(401, null);
                    assertDrafts(model, fork, tolerance, "fork at " + length);
                    sequence.append(new int[] {402, 403}, null);
                    assertDrafts(model, sequence, tolerance, "behind " + length + ", beside its fork");
                    assertDrafts(model, fork, tolerance, "the fork again");
                    sequence.exchange(fork);
                    assertDrafts(model, sequence, tolerance, "exchanged");
                    assertDrafts(model, fork, tolerance, "exchanged, the other");
                }
                sequence.truncate(length);
            }
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"HY_V3", "QWEN35"})
    void draftsLeaveTheModelsOwnRowsAlone(Architecture architecture) {
        try (var model = load(architecture); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            var history = Evaluation.tokens(model, 60, 2);
            double tolerance = Evaluation.tolerance(model, OPTIONS, history);
            sequence.append(Arrays.copyOf(history, 50), null);
            var row = engine.newRow();
            for (int i = 50; i < 60; i++) {
                sequence.draft(new int[] {history[i], 300 + i}, row);
                sequence.append(history[i], row);
                assertClose(Evaluation.fresh(model, OPTIONS, Arrays.copyOf(history, i + 1)), row, tolerance, "after a draft at " + i);
            }
        }
    }

    @Test
    void aDraftThatChangesItsMindStartsAgain() {
        try (var model = load(Architecture.HY_V3); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            var history = Evaluation.tokens(model, 40, 3);
            double tolerance = tolerance(model, history);
            sequence.append(history, null);
            var row = engine.newRow();
            for (var draft : new int[][] {{310, 311, 312}, {310, 320}, {310, 320, 330}, {310, 320, 330}, {310}, {310, 311}}) {
                sequence.draft(draft, row);
                assertClose(fresh(model, history, draft), row, tolerance, Arrays.toString(draft));
            }
        }
    }

    @Test
    void theBranchOfATreeThatStaysIsFollowed() {
        try (var model = load(Architecture.HY_V3); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            var history = Evaluation.tokens(model, 30, 4);
            double tolerance = tolerance(model, history);
            sequence.append(history, null);
            int[] tokens = {310, 311, 312, 313, 314};
            int[] parents = {-1, 0, -1, 2, 2};
            for (int node : new int[] {4, 1, 0}) {
                int length = sequence.length();
                var tree = new TokenTree(sequence, tokens, parents);
                engine.decode(tree, new Row[tokens.length]);
                tree.keep(node);
                assertDrafts(model, sequence, tolerance, "node " + node + " kept behind " + length);
            }
            try (var tree = new TokenTree(sequence, tokens, parents)) {
                engine.decode(tree, new Row[tokens.length]);
            }
            assertDrafts(model, sequence, tolerance, "no node kept");
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"HY_V3", "QWEN35"})
    void aHistoryThatLostItsCellsIsEvaluatedAgain(Architecture architecture) {
        var options = OPTIONS.withContextSize(256).withMaxSequences(2);
        try (var model = load(architecture); var engine = Engine.open(model, options)) {
            var histories = IntStream.range(0, 4).mapToObj(i -> Evaluation.tokens(model, 60, 10 + i)).toArray(int[][]::new);
            double tolerance = tolerance(model, histories[0]);
            var sequences = IntStream.range(0, 4).mapToObj(i -> engine.newSequence()).toArray(Sequence[]::new);
            for (int i = 0; i < 4; i++) {
                sequences[i].append(histories[i], null);
            }
            for (int i = 0; i < 4; i++) {
                assertDrafts(model, sequences[i], tolerance, "sequence " + i);
            }
            assertTrue(engine.stats().evictions() > 0, engine.stats().toString());
        }
    }

    @Test
    void aRejectedDraftCostsRecurrentModelsOnlyTheTokensOfItsPass() {
        try (var model = load(Architecture.QWEN35); var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            var history = Evaluation.tokens(model, 60, 9);
            double tolerance = tolerance(model, history);
            sequence.append(Arrays.copyOf(history, 40), null);
            for (int i = 40; i < 60; i++) {
                sequence.append(history[i], null);
            }
            var row = engine.newRow();
            for (int pass = 0; pass < 5; pass++) {
                int length = sequence.length();
                sequence.draft(DRAFT, row);
                sequence.append(DRAFT, null);
                sequence.truncate(length + 1); // one was good
                long evaluated = engine.stats().evaluated();
                assertDrafts(model, sequence, tolerance, "pass " + pass);
                assertEquals(evaluated + 1, engine.stats().evaluated(), "pass " + pass);
            }
            sequence.truncate(40);
            long evaluated = engine.stats().evaluated();
            sequence.append(330, row);
            assertEquals(evaluated + 1, engine.stats().evaluated(), "the checkpoint after the prompt is still there");
            sequence.truncate(40);
            for (int i = 0; i < 21; i++) {
                sequence.append(350 + i, null);
            }
            assertDrafts(model, sequence, tolerance, "as long as where a draft began, and another history");
        }
    }

    @Test
    void draftsGiveWayToTheModelWhereCellsAreShort() {
        var options = OPTIONS.withContextSize(256);
        try (var model = load(Architecture.HY_V3); var engine = Engine.open(model, options);
                var first = engine.newSequence(); var second = engine.newSequence()) {
            double tolerance = tolerance(model, Evaluation.tokens(model, 60, 1));
            var row = engine.newRow();
            first.append(Evaluation.tokens(model, 100, 5), null);
            first.draft(Evaluation.tokens(model, 30, 6), row);
            second.append(Evaluation.tokens(model, 150, 7), null); // needs the cells of the draft
            assertEquals(0, engine.stats().evictions());
            assertThrows(ContextFullException.class, () -> second.draft(Evaluation.tokens(model, 30, 8), row));
            assertDrafts(model, second, tolerance, "a shorter one");
            assertDrafts(model, first, tolerance, "where cells were taken");
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"HY_V3", "QWEN35"})
    void callersThatDraftAtTheSameTimeDoNotSeeEachOther(Architecture architecture) throws Exception {
        try (var model = load(architecture); var engine = Engine.open(model, OPTIONS);
                var callers = Executors.newVirtualThreadPerTaskExecutor()) {
            double tolerance = tolerance(model, Evaluation.tokens(model, 60, 20));
            var results = IntStream.range(0, 4).mapToObj(i -> callers.submit(() -> {
                var histories = new int[6][];
                var rows = new float[6][];
                try (var sequence = engine.newSequence()) {
                    for (int round = 0; round < 6; round++) {
                        sequence.append(Evaluation.tokens(model, 3 + 5 * i, 30 + 7 * i + round), null);
                        var row = engine.newRow();
                        for (int n = 1; n <= DRAFT.length; n++) {
                            sequence.draft(Arrays.copyOf(DRAFT, n), row);
                        }
                        histories[round] = sequence.tokens();
                        rows[round] = row.toArray();
                    }
                }
                return new Object[] {histories, rows};
            })).toList();
            for (Future<Object[]> result : results) {
                var histories = (int[][]) result.get()[0];
                var rows = (float[][]) result.get()[1];
                for (int round = 0; round < 6; round++) {
                    double difference = Evaluation.largestDifference(fresh(model, histories[round], DRAFT), rows[round]);
                    assertTrue(difference <= tolerance, "round " + round + " differs by " + difference + ", allowed " + tolerance);
                }
            }
            assertEquals(0, engine.stats().sequenceIds());
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"HY_V3", "QWEN35"})
    void aCancelledRunLeavesNothingBehind(Architecture architecture) {
        try (var model = load(architecture); var engine = Engine.open(model, OPTIONS.withBatchSize(32));
                var sequence = engine.newSequence()) {
            var history = Evaluation.tokens(model, 50, 3);
            double tolerance = tolerance(model, history);
            sequence.append(history, null);
            engine.loop().trace = slices -> sequence.cancel();
            assertThrows(DecodeCancelledException.class, () -> sequence.append(Evaluation.tokens(model, 200, 4), null));
            engine.loop().trace = null;
            assertArrayEquals(history, sequence.tokens());
            assertDrafts(model, sequence, tolerance, "after cancel");
        }
    }

    @Test
    void whatCannotBeDraftedIsRefused() {
        try (var model = load(Architecture.HY_V3)) {
            assertEquals(1, model.mtpHeads());
            var engine = Engine.open(model, OPTIONS);
            var row = engine.newRow();
            var sequence = engine.newSequence();
            assertThrows(IllegalStateException.class, () -> sequence.draft(DRAFT, row));
            sequence.append(310, null);
            assertThrows(IllegalArgumentException.class, () -> sequence.draft(new int[0], row));
            assertThrows(IllegalArgumentException.class, () -> sequence.draft(new int[Sequence.MAX_DRAFT + 1], row));
            assertThrows(IllegalArgumentException.class, () -> sequence.draft(new int[] {512}, row));
            assertThrows(IllegalArgumentException.class, () -> sequence.draft(DRAFT, new Row(5)));
            sequence.append(Evaluation.tokens(model, 509, 1), null);
            sequence.draft(new int[] {310, 311}, row);
            assertThrows(ContextFullException.class, () -> sequence.draft(DRAFT, row));
            engine.close();
            assertThrows(ClosedException.class, () -> sequence.draft(new int[] {310}, row));
        }
        try (var model = Model.load(folder.resolve("HY_V3.gguf")); var engine = Engine.open(model, OPTIONS);
                var sequence = engine.newSequence()) {
            sequence.append(310, null);
            var refusal = assertThrows(IllegalStateException.class, () -> sequence.draft(DRAFT, engine.newRow()));
            assertTrue(refusal.getMessage().contains("withMtp(true)"), refusal.getMessage());
        }
    }

    @Test
    void theArchitecturesAreThoseWithAGraphForTheHead() throws IOException {
        var root = Path.of(System.getProperty("panamallama.upstream", "../ggml-src/upstream"));
        assumeTrue(Files.isDirectory(root.resolve("src/models")), "no upstream tree at " + root + ": run ggml-src/vendor");
        var named = new TreeSet<String>();
        var names = Pattern.compile("\\{ LLM_ARCH_(\\w+), +\"([^\"]+)\"").matcher(Files.readString(root.resolve("src/llama-arch.cpp")))
                .results().toList();
        try (var files = Files.list(root.resolve("src/models"))) {
            for (var file : files.toList()) {
                if (Files.readString(file).contains("gtype == LLM_GRAPH_TYPE_DECODER_MTP")) {
                    var stem = file.getFileName().toString().replace(".cpp", "").replace("-", "").replace("_", "");
                    names.stream().filter(name -> name.group(1).toLowerCase().replace("_", "").equals(stem))
                            .forEach(name -> named.add(name.group(2)));
                }
            }
        }
        assertEquals(named, new TreeSet<>(MtpHeads.ARCHITECTURES));
    }

    @Test
    void aModelWithoutAHeadIsRefusedByName() {
        var plain = folder.resolve("plain.gguf");
        RandomModel.tiny(Architecture.LLAMA).write(plain);
        var how = ModelOptions.defaults().withMtp(true);
        var refusal = assertThrows(ModelLoadException.class, () -> Model.load(plain, how));
        assertTrue(refusal.getMessage().contains("plain.gguf") && refusal.getMessage().contains("llama.nextn_predict_layers"),
                refusal.getMessage());
        var unused = folder.resolve("unused.gguf");
        RandomModel.tiny(Architecture.LLAMA).writer().putU32("llama.nextn_predict_layers", 1).write(unused);
        refusal = assertThrows(ModelLoadException.class, () -> Model.load(unused, how));
        assertTrue(refusal.getMessage().contains("of the architecture llama"), refusal.getMessage());
        var trunk = folder.resolve("trunk.gguf");
        RandomModel.tiny(Architecture.HY_V3).withLayers(3).writer().putU32("hy_v3.nextn_predict_layers", 2).write(trunk);
        refusal = assertThrows(ModelLoadException.class, () -> Model.load(trunk, how));
        assertTrue(refusal.getMessage().contains("blk.2.nextn.eh_proj.weight"), refusal.getMessage());
        try (var model = Model.load(plain)) {
            assertEquals(0, model.mtpHeads());
        }
    }
}
