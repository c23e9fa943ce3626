package io.github.panamallama.runtime;

import static io.github.panamallama.runtime.Evaluation.assertClose;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(120)
class EngineTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(1024).withThreads(1);
    private static Model model;
    private static double tolerance;

    @BeforeAll
    static void load() {
        model = Model.load(Path.of("..", "models", "java-tiny-f16.gguf"));
        tolerance = Evaluation.tolerance(model, OPTIONS, Evaluation.tokens(model, 40, 1));
    }

    @AfterAll
    static void unload() {
        model.close();
    }

    private static int[] tokens(int count, long seed) {
        return Evaluation.tokens(model, count, seed);
    }

    private static int[] join(int[] a, int... b) {
        return IntStream.concat(Arrays.stream(a), Arrays.stream(b)).toArray();
    }

    // --- sequences ------------------------------------------------------------------------------------------------------

    /** Fewer than the sequences, and fewer than a run that counts as short. */
    @Test
    void smallBatchesEvaluateRunsInParts() {
        var history = tokens(13, 21);
        var expected = Evaluation.fresh(model, OPTIONS, history);
        for (int size : new int[] {1, 4, 8}) {
            try (var engine = Engine.open(model, OPTIONS.withBatchSize(size)); var sequence = engine.newSequence()) {
                var row = engine.newRow();
                sequence.append(history, row);
                assertClose(expected, row, tolerance, "in batches of " + size);
                assertEquals((13 + size - 1) / size, engine.stats().steps());
            }
        }
    }

    @Test
    void equalBatchShapesGiveEqualBits() {
        var history = tokens(100, 2);
        assertArrayEquals(Evaluation.fresh(model, OPTIONS, history), Evaluation.fresh(model, OPTIONS, history));
    }

    @Test
    void rowsOfAllPositionsAreThoseOfTheirPrefixes() {
        var history = tokens(20, 3);
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            var rows = new Row[history.length];
            for (int i = 0; i < rows.length; i += 3) {
                rows[i] = engine.newRow();
            }
            engine.decode(Append.all(sequence, history, rows));
            for (int i = 0; i < rows.length; i += 3) {
                var expected = Evaluation.fresh(model, OPTIONS, Arrays.copyOf(history, i + 1));
                assertClose(expected, rows[i], tolerance, "position " + i);
            }
            assertArrayEquals(history, sequence.tokens());
        }
    }

    @Test
    void forkSharesThePrefixAndDivergesAfterIt() {
        var prefix = tokens(64, 4);
        try (var engine = Engine.open(model, OPTIONS); var left = engine.newSequence()) {
            left.append(prefix, null);
            long evaluated = engine.stats().evaluated();
            try (var right = left.fork()) {
                var row = engine.newRow();
                left.append(301, row);
                assertClose(Evaluation.fresh(model, OPTIONS, join(prefix, 301)), row, tolerance, "left");
                right.append(302, row);
                assertClose(Evaluation.fresh(model, OPTIONS, join(prefix, 302)), row, tolerance, "right");
                assertEquals(evaluated + 2, engine.stats().evaluated(), "the prefix was evaluated again");
                assertEquals(302, right.token(64));
                assertEquals(301, left.token(64));
            }
        }
    }

    @Test
    void exchangedSequencesGoOnFromEachOthersHistoryWithoutEvaluation() {
        var prefix = tokens(64, 14);
        try (var engine = Engine.open(model, OPTIONS); var left = engine.newSequence(); var empty = engine.newSequence()) {
            left.append(prefix, null);
            try (var right = left.fork()) {
                left.append(301, null);
                right.append(new int[] {302, 303}, null);
                right.truncate(65);
                left.exchange(right);
                assertArrayEquals(join(prefix, 302), left.tokens());
                assertArrayEquals(join(prefix, 301), right.tokens());
                long evaluated = engine.stats().evaluated();
                var row = engine.newRow();
                left.append(304, row);
                assertClose(Evaluation.fresh(model, OPTIONS, join(prefix, 302, 304)), row, tolerance, "left");
                right.append(305, row);
                assertClose(Evaluation.fresh(model, OPTIONS, join(prefix, 301, 305)), row, tolerance, "right");
                assertEquals(evaluated + 2, engine.stats().evaluated());
            }
            left.exchange(empty);
            assertEquals(0, left.length());
            var row = engine.newRow();
            left.append(prefix, row);
            assertClose(Evaluation.fresh(model, OPTIONS, prefix), row, tolerance, "from nothing");
            empty.append(306, row);
            assertClose(Evaluation.fresh(model, OPTIONS, join(prefix, 302, 304, 306)), row, tolerance, "the other");
            assertThrows(IllegalArgumentException.class, () -> left.exchange(left));
            try (var engine2 = Engine.open(model, OPTIONS); var foreign = engine2.newSequence()) {
                assertThrows(IllegalArgumentException.class, () -> left.exchange(foreign));
            }
        }
    }

    @Test
    void truncateForgetsWhatFollows() {
        var prefix = tokens(50, 5);
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            sequence.append(join(prefix, tokens(30, 6)), null);
            sequence.truncate(50);
            assertEquals(50, sequence.length());
            long evaluated = engine.stats().evaluated();
            var row = engine.newRow();
            sequence.append(333, row);
            assertClose(Evaluation.fresh(model, OPTIONS, join(prefix, 333)), row, tolerance, "after truncate");
            assertEquals(evaluated + 1, engine.stats().evaluated());
        }
    }

    @Test
    void forkAfterTruncateSharesOnlyWhatIsLeft() {
        var prefix = tokens(40, 7);
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            sequence.append(join(prefix, tokens(20, 8)), null);
            sequence.truncate(40);
            try (var fork = sequence.fork()) {
                var row = engine.newRow();
                fork.append(400, row);
                assertClose(Evaluation.fresh(model, OPTIONS, join(prefix, 400)), row, tolerance, "fork");
            }
        }
    }

    @Test
    void anEmptySequenceCanBeForkedAndTruncated() {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(); var fork = sequence.fork()) {
            sequence.truncate(0);
            var row = engine.newRow();
            fork.append(310, row);
            assertClose(Evaluation.fresh(model, OPTIONS, 310), row, tolerance, "fork of nothing");
        }
    }

    @Test
    void aTreeGivesEveryNodeTheLogitsOfItsOwnBranch() {
        var prefix = tokens(30, 9);
        int[] nodes = {310, 311, 312, 313, 314, 315};
        int[] parents = {-1, 0, 0, 1, -1, 4};
        int[][] branches = {{310}, {310, 311}, {310, 312}, {310, 311, 313}, {314}, {314, 315}};
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            sequence.append(prefix, null);
            var rows = IntStream.range(0, nodes.length).mapToObj(i -> engine.newRow()).toArray(Row[]::new);
            var row = engine.newRow();
            try (var tree = new TokenTree(sequence, nodes, parents)) {
                assertEquals(3, tree.leaves());
                long steps = engine.stats().steps();
                engine.decode(tree, rows);
                assertEquals(steps + 1, engine.stats().steps());
                for (int i = 0; i < nodes.length; i++) {
                    assertClose(Evaluation.fresh(model, OPTIONS, join(prefix, branches[i])), rows[i], tolerance, "node " + i);
                }
                tree.keep(3);
            }
            assertArrayEquals(join(prefix, 310, 311, 313), sequence.tokens());
            long evaluated = engine.stats().evaluated();
            sequence.append(320, row);
            assertEquals(evaluated + 1, engine.stats().evaluated());
            assertClose(Evaluation.fresh(model, OPTIONS, join(prefix, 310, 311, 313, 320)), row, tolerance, "after keep");
            assertEquals(1, engine.stats().sequenceIds());
        }
    }

    @Test
    void keepingAnotherLeafOrNoneLeavesTheSequenceRight() {
        var prefix = tokens(30, 10);
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            sequence.append(prefix, null);
            var row = engine.newRow();
            try (var tree = new TokenTree(sequence, new int[] {310, 311, 312}, new int[] {-1, -1, 1})) {
                engine.decode(tree, new Row[3]);
                assertThrows(ConcurrentUseException.class, () -> sequence.append(1, null));
            }
            assertArrayEquals(prefix, sequence.tokens());
            try (var tree = new TokenTree(sequence, new int[] {310, 311, 312}, new int[] {-1, -1, 1})) {
                engine.decode(tree, new Row[3]);
                tree.keep(1);
            }
            sequence.append(320, row);
            assertClose(Evaluation.fresh(model, OPTIONS, join(prefix, 311, 320)), row, tolerance, "after keep of an inner node");
            assertEquals(1, engine.stats().sequenceIds());
        }
    }

    @Test
    void treesWithWrongParentsOrTooManyLeavesAreRefused() {
        try (var engine = Engine.open(model, OPTIONS.withMaxSequences(2)); var sequence = engine.newSequence()) {
            assertThrows(IllegalArgumentException.class, () -> new TokenTree(sequence, new int[] {1, 2}, new int[] {-1, 1}));
            assertThrows(IllegalArgumentException.class, () -> new TokenTree(sequence, new int[] {1, 2}, new int[] {-1}));
            var refusal = assertThrows(IllegalArgumentException.class,
                    () -> new TokenTree(sequence, new int[] {1, 2, 3}, new int[] {-1, -1, -1}));
            assertTrue(refusal.getMessage().contains("maxSequences"), refusal.getMessage());
        }
    }

    // --- batching -------------------------------------------------------------------------------------------------------

    @Test
    void aSoleCallerEvaluatesOnItsOwnThread() {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            var thread = new AtomicReference<Thread>();
            engine.loop().trace = slices -> thread.set(Thread.currentThread());
            sequence.append(301, null);
            assertSame(Thread.currentThread(), thread.get());
        }
    }

    @Test
    void severalAppendsOfOneCallShareOneStep() {
        try (var engine = Engine.open(model, OPTIONS)) {
            var sequences = IntStream.range(0, 8).mapToObj(i -> engine.newSequence()).toList();
            var rows = sequences.stream().map(s -> engine.newRow()).toList();
            var appends = new Append[8];
            for (int i = 0; i < 8; i++) {
                appends[i] = Append.of(sequences.get(i), tokens(5, i), rows.get(i));
            }
            engine.decode(appends);
            assertEquals(1, engine.stats().steps());
            for (int i = 0; i < 8; i++) {
                assertClose(Evaluation.fresh(model, OPTIONS, tokens(5, i)), rows.get(i), tolerance, "sequence " + i);
            }
            sequences.forEach(Sequence::close);
            assertEquals(0, engine.stats().sequenceIds());
            assertEquals(0, engine.stats().cells());
        }
    }

    /** Runs {@code body} in the leader after each step with the number of steps so far, from 1. */
    private static List<List<DecodeLoop.Slice>> trace(Engine engine, Consumer<Integer> body) {
        var steps = new CopyOnWriteArrayList<List<DecodeLoop.Slice>>();
        engine.loop().trace = slices -> {
            steps.add(slices);
            body.accept(steps.size());
        };
        return steps;
    }

    private static void awaitParked(Thread thread) {
        while (thread.getState() != Thread.State.WAITING) {
            Thread.onSpinWait();
        }
    }

    @Test
    void callersThatWaitAtTheSameTimeAreMergedIntoOneBatch() throws Exception {
        try (var engine = Engine.open(model, OPTIONS)) {
            var others = new ArrayList<Thread>();
            var failures = new CopyOnWriteArrayList<Throwable>();
            var steps = trace(engine, step -> {
                if (step == 1) { // while the first step is still under the lead, seven more callers queue up
                    for (int i = 0; i < 7; i++) {
                        int token = 310 + i;
                        others.add(Thread.ofPlatform().uncaughtExceptionHandler((t, e) -> failures.add(e)).start(() -> {
                            try (var sequence = engine.newSequence()) {
                                sequence.append(token, null);
                            }
                        }));
                    }
                    others.forEach(EngineTest::awaitParked);
                }
            });
            try (var sequence = engine.newSequence()) {
                sequence.append(301, null);
            }
            for (var thread : others) {
                thread.join();
            }
            assertEquals(List.of(), failures);
            assertEquals(7, steps.get(1).size(), "the seven that waited go together");
        }
    }

    @Test
    void longPromptsGoInChunksBehindWaitingRows() throws Exception {
        try (var engine = Engine.open(model, OPTIONS.withBatchSize(128).withPromptChunk(32));
                var talker = engine.newSequence(); var reader = engine.newSequence()) {
            var other = new AtomicReference<Thread>();
            var steps = trace(engine, step -> {
                if (step == 1) {
                    other.set(Thread.ofPlatform().start(() -> talker.append(301, null)));
                    awaitParked(other.get());
                }
            });
            var prompt = tokens(400, 11);
            var row = engine.newRow();
            reader.append(prompt, row);
            other.get().join();
            assertEquals(List.of(new DecodeLoop.Slice(reader, 0, 128)), steps.get(0));
            assertEquals(List.of(new DecodeLoop.Slice(talker, 0, 1), new DecodeLoop.Slice(reader, 128, 32)), steps.get(1));
            assertClose(Evaluation.fresh(model, OPTIONS, prompt), row, tolerance, "the chunked prompt");
        }
    }

    @Test
    void promptsShareABatchEvenly() throws Exception {
        try (var engine = Engine.open(model, OPTIONS.withBatchSize(120));
                var a = engine.newSequence(); var b = engine.newSequence(); var c = engine.newSequence()) {
            var steps = trace(engine, step -> { });
            engine.decode(Append.of(a, tokens(300, 12), null), Append.of(b, tokens(300, 13), null), Append.of(c, tokens(30, 14), null));
            assertEquals(
                    List.of(new DecodeLoop.Slice(a, 0, 40), new DecodeLoop.Slice(b, 0, 40), new DecodeLoop.Slice(c, 0, 30)),
                    steps.getFirst());
        }
    }

    @Test
    void aCancelledPromptEndsWithinOneStepAndOthersGoOn() throws Exception {
        try (var engine = Engine.open(model, OPTIONS.withBatchSize(64));
                var doomed = engine.newSequence(); var survivor = engine.newSequence()) {
            doomed.append(tokens(10, 15), null);
            var other = new AtomicReference<Thread>();
            var row = engine.newRow();
            var steps = trace(engine, step -> {
                if (step == 1) {
                    other.set(Thread.ofPlatform().start(() -> survivor.append(tokens(5, 16), row)));
                    awaitParked(other.get());
                    doomed.cancel();
                }
            });
            assertThrows(DecodeCancelledException.class, () -> doomed.append(tokens(500, 17), null));
            other.get().join();
            assertEquals(2, steps.size(), "one step of the prompt, one of the survivor");
            assertEquals(10, doomed.length());
            assertClose(Evaluation.fresh(model, OPTIONS, tokens(5, 16)), row, tolerance, "survivor");
            engine.loop().trace = null;
            doomed.append(310, row);
            assertClose(Evaluation.fresh(model, OPTIONS, join(tokens(10, 15), 310)), row, tolerance, "after cancel");
        }
    }

    @Test
    void cancelStopsARunningNativeCall() throws Exception {
        try (var engine = Engine.open(model, OPTIONS.withBatchSize(1024)); var sequence = engine.newSequence()) {
            var prompt = tokens(1000, 18);
            var decode = CompletableFuture.runAsync(() -> sequence.append(prompt, null), Thread::startVirtualThread);
            while (!sequence.request.inBatch && !decode.isDone()) {
                Thread.onSpinWait();
            }
            sequence.cancel();
            var end = assertThrows(ExecutionException.class, () -> decode.get(60, TimeUnit.SECONDS));
            assertInstanceOf(DecodeCancelledException.class, end.getCause());
            assertEquals(0, sequence.length());
            var row = engine.newRow();
            sequence.append(tokens(20, 19), row);
            assertClose(Evaluation.fresh(model, OPTIONS, tokens(20, 19)), row, tolerance, "after an abort");
        }
    }

    @Test
    void anInterruptCancelsAndStaysSet() throws Exception {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            Thread.currentThread().interrupt();
            assertThrows(DecodeCancelledException.class, () -> sequence.append(301, null));
            assertTrue(Thread.interrupted());
            sequence.append(301, null);
            assertEquals(1, sequence.length());
        }
    }

    // --- cells and ids --------------------------------------------------------------------------------------------------

    @Test
    void moreSequencesThanIdsTakeTurns() {
        try (var engine = Engine.open(model, OPTIONS.withMaxSequences(3))) {
            var sequences = IntStream.range(0, 12).mapToObj(i -> engine.newSequence()).toList();
            var row = engine.newRow();
            for (int round = 0; round < 2; round++) {
                for (int i = 0; i < sequences.size(); i++) {
                    sequences.get(i).append(tokens(2, 100 * round + i), row);
                    var expected = round == 0 ? tokens(2, i) : join(tokens(2, i), tokens(2, 100 + i));
                    assertClose(Evaluation.fresh(model, OPTIONS, expected), row, tolerance, "round " + round + ", sequence " + i);
                }
            }
            assertTrue(engine.stats().evictions() > 0, engine.stats().toString());
            assertTrue(engine.stats().sequenceIds() <= 3);
        }
    }

    @Test
    void oneCallMayNameMoreSequencesThanThereAreIds() {
        try (var engine = Engine.open(model, OPTIONS.withMaxSequences(2))) {
            var sequences = IntStream.range(0, 7).mapToObj(i -> engine.newSequence()).toList().reversed();
            var rows = sequences.stream().map(s -> engine.newRow()).toList();
            for (int round = 0; round < 2; round++) {
                var appends = new Append[7];
                for (int i = 0; i < 7; i++) { // the youngest first, so that older ones take ids from those already chosen
                    appends[i] = Append.of(sequences.get(i), tokens(i % 2 == 0 ? 3 : 40, i + 50 * round), rows.get(i));
                }
                engine.decode(appends);
                for (int i = 0; i < 7; i++) {
                    assertClose(Evaluation.fresh(model, OPTIONS, sequences.get(i).tokens()), rows.get(i), tolerance, "sequence " + i);
                }
            }
        }
    }

    @Test
    void anIdleSequenceLosesItsCellsAndIsEvaluatedAgain() {
        try (var engine = Engine.open(model, OPTIONS.withContextSize(256));
                var first = engine.newSequence(); var second = engine.newSequence()) {
            var a = tokens(200, 20);
            var b = tokens(150, 21);
            var row = engine.newRow();
            first.append(a, null);
            second.append(b, row);
            assertClose(Evaluation.fresh(model, OPTIONS, b), row, tolerance, "second");
            first.append(301, row);
            assertClose(Evaluation.fresh(model, OPTIONS, join(a, 301)), row, tolerance, "first, evaluated again");
            assertTrue(engine.stats().evictions() >= 2, engine.stats().toString());
        }
    }

    @Test
    void whenCellsRunOutTheYoungestIsPreemptedAndAllFinish() throws Exception {
        int count = 4;
        int length = 120;
        try (var engine = Engine.open(model, OPTIONS.withContextSize(256)); var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            var runs = new ArrayList<java.util.concurrent.Future<int[]>>();
            var half = new CyclicBarrier(count);
            var rows = new Row[count];
            for (int i = 0; i < count; i++) {
                int n = i;
                rows[n] = engine.newRow();
                runs.add(threads.submit(() -> {
                    try (var sequence = engine.newSequence()) {
                        for (int token : tokens(length, 30 + n)) {
                            if (sequence.length() == length / 2) {
                                half.await(); // all four hold 60 cells of 256 and want 60 more
                            }
                            sequence.append(token, rows[n]);
                        }
                        return sequence.tokens();
                    }
                }));
            }
            for (int i = 0; i < count; i++) {
                assertArrayEquals(tokens(length, 30 + i), runs.get(i).get());
                assertClose(Evaluation.fresh(model, OPTIONS, tokens(length, 30 + i)), rows[i], tolerance, "sequence " + i);
            }
            var stats = engine.stats();
            assertTrue(stats.preemptions() + stats.evictions() > 0, stats.toString());
            assertEquals(0, stats.sequenceIds());
            assertEquals(0, stats.cells());
        }
    }

    @Test
    void aSequenceLongerThanTheContextIsRefusedAndLosesNothing() {
        try (var engine = Engine.open(model, OPTIONS.withContextSize(256)); var sequence = engine.newSequence()) {
            var row = engine.newRow();
            sequence.append(tokens(250, 40), null);
            var refusal = assertThrows(ContextFullException.class, () -> sequence.append(tokens(7, 41), null));
            assertTrue(refusal.getMessage().contains("256"), refusal.getMessage());
            assertEquals(250, sequence.length());
            sequence.append(tokens(6, 42), row);
            assertClose(Evaluation.fresh(model, OPTIONS, join(tokens(250, 40), tokens(6, 42))), row, tolerance, "to the last cell");
            assertThrows(ContextFullException.class, () -> sequence.append(301, null));
        }
    }

    // --- wrong use ------------------------------------------------------------------------------------------------------

    @Test
    void tokensOutsideTheVocabularyAndWrongRowsAreRefused() {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            int size = model.vocabulary().size();
            for (int bad : new int[] {-1, size, Integer.MIN_VALUE, Integer.MAX_VALUE}) {
                assertThrows(IllegalArgumentException.class, () -> sequence.append(bad, null));
                assertThrows(IllegalArgumentException.class, () -> sequence.append(new int[] {301, bad}, null));
            }
            assertThrows(IllegalArgumentException.class, () -> sequence.append(301, new Row(size - 1)));
            assertThrows(IllegalArgumentException.class, () -> sequence.append(new int[0], null));
            assertThrows(IllegalArgumentException.class, () -> sequence.truncate(1));
            assertThrows(IllegalArgumentException.class, () -> sequence.truncate(-1));
            assertEquals(0, sequence.length());
        }
    }

    @Test
    void aSequenceInUseRefusesASecondCaller() {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            var second = new AtomicReference<Throwable>();
            trace(engine, step -> {
                try {
                    sequence.append(302, null);
                } catch (Throwable e) {
                    second.set(e);
                }
            });
            sequence.append(301, null);
            assertInstanceOf(ConcurrentUseException.class, second.get());
            assertArrayEquals(new int[] {301}, sequence.tokens());
            assertThrows(ConcurrentUseException.class,
                    () -> engine.decode(Append.of(sequence, new int[] {1}, null), Append.of(sequence, new int[] {2}, null)));
        }
    }

    @Test
    void closedSequencesAndEnginesSayso() {
        var engine = Engine.open(model, OPTIONS);
        var sequence = engine.newSequence();
        var other = engine.newSequence();
        sequence.append(301, null);
        sequence.close();
        sequence.close();
        assertThrows(ClosedException.class, () -> sequence.append(302, null));
        assertThrows(ClosedException.class, sequence::fork);
        assertEquals(0, engine.stats().sequenceIds());
        engine.close();
        engine.close();
        assertThrows(ClosedException.class, () -> other.append(302, null));
        assertThrows(ClosedException.class, engine::newSequence);
        other.close();
    }

    @Test
    void closingTheEngineEndsDecodesInFlight() throws Exception {
        var engine = Engine.open(model, OPTIONS.withBatchSize(64));
        var closer = new AtomicReference<Thread>();
        trace(engine, step -> {
            if (step == 1) {
                closer.set(Thread.ofPlatform().start(engine::close));
                awaitParked(closer.get());
            }
        });
        var sequence = engine.newSequence();
        assertThrows(ClosedException.class, () -> sequence.append(tokens(500, 50), null));
        closer.get().join();
        assertThrows(ClosedException.class, () -> sequence.append(301, null));
    }

    @Test
    void closingASequenceCancelsItsDecode() throws Exception {
        try (var engine = Engine.open(model, OPTIONS.withBatchSize(64))) {
            var sequence = engine.newSequence();
            trace(engine, step -> sequence.close());
            assertThrows(DecodeCancelledException.class, () -> sequence.append(tokens(500, 51), null));
            assertEquals(0, engine.stats().sequenceIds());
        }
    }

    @Test
    void engineOptionsNameTheValueThatIsWrong() {
        var refusal = assertThrows(IllegalArgumentException.class, () -> OPTIONS.withMaxSequences(257));
        assertTrue(refusal.getMessage().contains("257") && refusal.getMessage().contains("256"), refusal.getMessage());
        assertThrows(IllegalArgumentException.class, () -> OPTIONS.withContextSize(-1));
        assertThrows(IllegalArgumentException.class, () -> OPTIONS.withThreads(100_000));
        assertNotEquals(OPTIONS, OPTIONS.withThreads(2));
        assertFalse(OPTIONS.withBatchSize(16).ubatchSize() > 16);
    }
}
