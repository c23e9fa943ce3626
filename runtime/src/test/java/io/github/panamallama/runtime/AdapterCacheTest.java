package io.github.panamallama.runtime;

import static io.github.panamallama.runtime.Evaluation.largestDifference;
import static io.github.panamallama.runtime.Evaluation.rms;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Keys and values belong to the adapters that computed them. Tolerances are the model's own noise between batch shapes. */
@Timeout(600)
class AdapterCacheTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(512).withThreads(1);
    private static final LayerPlan PLAN = LayerPlan.all(RandomModel.tiny(RandomModel.Architecture.LLAMA).layers());
    private static final int[] INVOCATION = {401, 402, 403};

    @TempDir
    static Path folder;
    private static Model model;
    private static Adapter one;
    private static Adapter two;
    /** Has the weights of {@link #one}. */
    private static Adapter activated;
    private static double tolerance;

    @BeforeAll
    static void load() {
        var base = folder.resolve("base.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(base);
        model = Model.load(base);
        var lora = TestLora.random(GgufFile.read(base), 8, 3, TestLora::projection);
        one = Adapter.load(model, lora.write(folder.resolve("one.gguf")));
        two = Adapter.load(model, TestLora.random(GgufFile.read(base), 4, 4, TestLora::projection).write(folder.resolve("two.gguf")));
        activated = Adapter.load(model, lora.write(folder.resolve("activated.gguf"), INVOCATION));
        tolerance = Evaluation.tolerance(model, OPTIONS, tokens(40, 1));
    }

    @AfterAll
    static void unload() {
        one.close();
        two.close();
        activated.close();
        model.close();
    }

    /** Ids below 400, so that no invocation is among them by chance. */
    private static int[] tokens(int count, long seed) {
        return Arrays.stream(Evaluation.tokens(model, count, seed)).map(token -> 300 + token % 100).toArray();
    }

    private static int[] join(int[] first, int... more) {
        return IntStream.concat(Arrays.stream(first), Arrays.stream(more)).toArray();
    }

    private static float[] after(Sequence sequence, int... run) {
        var row = sequence.engine().newRow();
        sequence.append(run, row);
        return row.toArray();
    }

    private static float[] fresh(AdapterSet set, int... tokens) {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(set)) {
            return after(sequence, tokens);
        }
    }

    private static void assertClose(float[] expected, float[] actual, String what) {
        double difference = largestDifference(expected, actual);
        assertTrue(difference <= tolerance, () -> what + ": logits differ by " + difference + ", allowed " + tolerance);
    }

    private static void assertDiffers(float[] one, float[] other, String what) {
        double difference = largestDifference(one, other);
        assertTrue(difference > 5 * tolerance, () -> what + ": logits differ by " + difference + " only, noise is " + tolerance);
    }

    @Test
    void aForkUnderOtherAdaptersIsEvaluatedAgain() {
        try (var engine = Engine.open(model, OPTIONS); var parent = engine.newSequence(AdapterSet.of(one))) {
            var history = tokens(30, 2);
            after(parent, history);
            long before = engine.stats().evaluated();
            try (var child = parent.fork(AdapterSet.of(two)); var plain = parent.fork(AdapterSet.none())) {
                assertClose(fresh(AdapterSet.of(two), join(history, 305)), after(child, 305), "under the other adapter");
                assertEquals(31, engine.stats().evaluated() - before, "the history and one token");
                assertClose(fresh(AdapterSet.none(), join(history, 306)), after(plain, 306), "under none");
                assertClose(fresh(AdapterSet.of(one), join(history, 307)), after(parent, 307), "the parent");
            }
        }
    }

    @Test
    void aForkUnderAnEqualSetSharesEverything() {
        try (var engine = Engine.open(model, OPTIONS); var parent = engine.newSequence(AdapterSet.of(one, 0.5f))) {
            var history = tokens(30, 2);
            after(parent, history);
            long before = engine.stats().evaluated();
            try (var child = parent.fork(AdapterSet.of(one, 0.5f)); var same = parent.fork()) {
                assertEquals(AdapterSet.of(one, 0.5f), same.adapters());
                assertArrayEquals(after(child, 305), after(same, 305));
                assertEquals(2, engine.stats().evaluated() - before);
            }
        }
    }

    @Test
    void swappingThereAndBackEqualsNeverSwapping() {
        var history = tokens(30, 2);
        var set = AdapterSet.of(one);
        try (var engine = Engine.open(model, OPTIONS); var stays = engine.newSequence(set); var goes = engine.newSequence(set)) {
            after(stays, history);
            after(goes, history);
            try (var there = goes.fork(AdapterSet.of(two))) {
                after(there, 310, 311);
                try (var back = there.fork(set)) {
                    back.truncate(30);
                    assertClose(after(stays, 305), after(back, 305), "there and back");
                }
            }
            assertArrayEquals(fresh(set, history), fresh(set, history));
            stays.truncate(30);
            assertArrayEquals(after(stays, 305), after(goes, 305), "the one that was forked from");
        }
    }

    @Test
    void anApproximateForkTakesTheCacheOverAndSaysSo() {
        try (var engine = Engine.open(model, OPTIONS); var parent = engine.newSequence(AdapterSet.of(one))) {
            var history = tokens(30, 2);
            after(parent, history);
            long before = engine.stats().evaluated();
            try (var child = parent.fork(AdapterSet.of(two), CacheReuse.APPROXIMATE)) {
                var approximate = after(child, 305);
                assertEquals(1, engine.stats().evaluated() - before, "nothing of the history is evaluated again");
                assertEquals(List.of(new Sequence.Span(0, AdapterSet.of(one), PLAN), new Sequence.Span(30, AdapterSet.of(two), PLAN)),
                        child.spans());
                assertEquals(AdapterSet.of(two), child.adapters());
                assertDiffers(fresh(AdapterSet.of(two), join(history, 305)), approximate, "exact and approximate");
                assertDiffers(fresh(AdapterSet.of(one), join(history, 305)), approximate, "the parent's adapter and approximate");

                child.truncate(20);
                assertEquals(List.of(new Sequence.Span(0, AdapterSet.of(one), PLAN), new Sequence.Span(20, AdapterSet.of(two), PLAN)),
                        child.spans());
                try (var exact = child.fork(AdapterSet.none()).fork(AdapterSet.of(two))) {
                    assertClose(fresh(AdapterSet.of(two), join(Arrays.copyOf(history, 20), 305)), after(exact, 305), "an exact fork of it");
                }
            }
        }
    }

    @Test
    void whatWasTakenOverStaysWhatItWasAfterEviction() {
        // room for one history at a time
        try (var engine = Engine.open(model, OPTIONS.withContextSize(256)); var parent = engine.newSequence(AdapterSet.of(one));
                var greedy = engine.newSequence()) {
            var history = tokens(100, 2);
            after(parent, history);
            try (var child = parent.fork(AdapterSet.of(two), CacheReuse.APPROXIMATE)) {
                var kept = after(child, 305, 306);
                parent.close();
                long evictions = engine.stats().evictions();
                after(greedy, tokens(250, 9));
                assertTrue(engine.stats().evictions() > evictions, "the child's cells were taken");
                greedy.close();
                child.truncate(101);
                assertClose(kept, after(child, 306), "computed again under the same spans");
            }
        }
    }

    @Test
    void anActivatedAdapterActsFromItsTokensOnAndSharesWhatComesBefore() {
        var set = AdapterSet.of(activated);
        var history = tokens(30, 2);
        var invoked = join(history, INVOCATION);
        // the same weights without the mechanism: the history as the model itself has it, the rest under the adapter
        float[] expected;
        try (var engine = Engine.open(model, OPTIONS); var plain = engine.newSequence()) {
            after(plain, history);
            try (var adapted = plain.fork(AdapterSet.of(one), CacheReuse.APPROXIMATE)) {
                expected = after(adapted, join(INVOCATION, 305));
            }
        }
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(set)) {
            assertClose(fresh(AdapterSet.none(), history), after(sequence, history), "before its tokens");
            assertEquals(List.of(new Sequence.Span(0, AdapterSet.none(), PLAN)), sequence.spans());
            after(sequence, INVOCATION);
            assertEquals(List.of(new Sequence.Span(0, AdapterSet.none(), PLAN), new Sequence.Span(30, set, PLAN)), sequence.spans());
            assertClose(expected, after(sequence, 305), "its tokens in one run");

            sequence.truncate(30);
            assertEquals(1, sequence.spans().size(), "its tokens are gone");
            for (int token : INVOCATION) {
                sequence.append(token, null);
            }
            assertClose(expected, after(sequence, 305), "its tokens one by one, the first two of which were evaluated without it");
            sequence.truncate(32);
            assertClose(fresh(AdapterSet.none(), join(Arrays.copyOf(invoked, 32), 305)), after(sequence, 305),
                    "without the last of its tokens");
        }
        assertClose(expected, fresh(set, join(invoked, 305)), "everything in one run");
        try (var engine = Engine.open(model, OPTIONS); var plain = engine.newSequence()) {
            after(plain, invoked);
            long before = engine.stats().evaluated();
            try (var child = plain.fork(set)) {
                assertClose(expected, after(child, 305), "forked from the model itself");
                assertEquals(INVOCATION.length + 1, engine.stats().evaluated() - before, "what comes before its tokens is shared");
            }
        }
    }

    @Test
    void treesSeeTheAdaptersOfTheirSequence() {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence(AdapterSet.of(one))) {
            var history = tokens(20, 2);
            after(sequence, history);
            var tree = new TokenTree(sequence, new int[] {305, 306, 307}, new int[] {-1, 0, -1});
            var rows = new Row[] {engine.newRow(), engine.newRow(), engine.newRow()};
            engine.decode(tree, rows);
            assertClose(fresh(AdapterSet.of(one), join(history, 305)), rows[0].toArray(), "first level");
            assertClose(fresh(AdapterSet.of(one), join(history, 305, 306)), rows[1].toArray(), "second level");
            assertClose(fresh(AdapterSet.of(one), join(history, 307)), rows[2].toArray(), "the other branch");
            tree.keep(1);
            assertClose(fresh(AdapterSet.of(one), join(history, 305, 306, 308)), after(sequence, 308), "after the branch that was kept");
        }
    }

    @Test
    void onlySequencesUnderEqualSetsExchangeHistories() {
        try (var engine = Engine.open(model, OPTIONS); var first = engine.newSequence(AdapterSet.of(one));
                var second = engine.newSequence(AdapterSet.of(one)); var other = engine.newSequence(AdapterSet.of(two))) {
            after(first, 301, 302);
            after(second, 303, 304, 305);
            first.exchange(second);
            assertEquals(3, first.length());
            assertClose(fresh(AdapterSet.of(one), 303, 304, 305, 306), after(first, 306), "the other's history");
            var e = assertThrows(IllegalArgumentException.class, () -> first.exchange(other));
            assertTrue(e.getMessage().contains("one.gguf") && e.getMessage().contains("two.gguf"), e.getMessage());
        }
    }

    @Test
    void whenIdsRunOutEverybodyKeepsItsOwnAdapters() {
        try (var engine = Engine.open(model, OPTIONS.withMaxSequences(2))) {
            var sets = List.of(AdapterSet.none(), AdapterSet.of(one), AdapterSet.of(two), AdapterSet.of(one, -1));
            var sequences = new ArrayList<Sequence>();
            sets.forEach(set -> sequences.add(engine.newSequence(set)));
            var history = tokens(12, 4);
            for (int i = 0; i < history.length; i++) {
                for (int s = 0; s < sets.size(); s++) {
                    var logits = after(sequences.get(s), history[i]);
                    if (i == history.length - 1) {
                        assertClose(fresh(sets.get(s), history), logits, "under " + sets.get(s));
                    }
                }
            }
            assertTrue(engine.stats().evictions() > 0, "ids were taken");
            sequences.forEach(Sequence::close);
        }
    }
}
