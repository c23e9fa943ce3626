package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.FlashAttention;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Sequence;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Forks and truncations give the logits of a fresh evaluation. Their batches have other shapes and their cells lie elsewhere, so
 * the claim is equality within the model's own noise between such shapes ({@link Noise}).
 */
class BranchesTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(512).withThreads(1).withMaxSequences(6)
            .withBatchSize(Noise.WIDE - 1).withFlashAttention(FlashAttention.OFF);

    private static final Map<Path, Double> TOLERANCES = new HashMap<>();

    static Stream<Path> models() {
        return Models.all().stream();
    }

    @ParameterizedTest
    @MethodSource("models")
    void forkAndParentBothGoOnAsIfEachHadBeenEvaluatedAlone(Path path) {
        try (var model = Model.load(path)) {
            double tolerance = tolerance(path, model);
            var random = random(11);
            var prefix = tokens(model, random, 40);
            var left = tokens(model, random, 9);
            var right = tokens(model, random, 9);
            float[][] forked;
            float[][] parent;
            try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
                sequence.append(prefix, engine.newRow());
                try (var fork = sequence.fork()) {
                    assertArrayEquals(prefix, fork.tokens());
                    forked = append(engine, fork, right, 3);
                    parent = append(engine, sequence, left, 9);
                    assertArrayEquals(concat(prefix, right), fork.tokens());
                    assertArrayEquals(concat(prefix, left), sequence.tokens());
                }
            }
            assertFresh(model, prefix, right, forked, tolerance, "the fork");
            assertFresh(model, prefix, left, parent, tolerance, "the parent");
        }
    }

    @ParameterizedTest
    @MethodSource("models")
    void forkOutlivesItsParentAndItsSiblings(Path path) {
        try (var model = Model.load(path)) {
            double tolerance = tolerance(path, model);
            var random = random(12);
            var prefix = tokens(model, random, 33);
            var rest = tokens(model, random, 6);
            float[][] rows;
            try (var engine = Engine.open(model, OPTIONS)) {
                var parent = engine.newSequence();
                parent.append(prefix, engine.newRow());
                var child = parent.fork();
                var sibling = parent.fork();
                sibling.append(tokens(model, random, 5), engine.newRow());
                parent.close();
                var grandchild = child.fork();
                child.close();
                sibling.close();
                rows = append(engine, grandchild, rest, 2);
                grandchild.close();
                assertEquals(0, engine.stats().cells());
                assertEquals(0, engine.stats().sequenceIds());
            }
            assertFresh(model, prefix, rest, rows, tolerance, "the grandchild");
        }
    }

    @ParameterizedTest
    @MethodSource("models")
    void truncationForgetsWhatCameAfter(Path path) {
        try (var model = Model.load(path)) {
            double tolerance = tolerance(path, model);
            var random = random(13);
            var first = tokens(model, random, 70);
            try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
                sequence.append(first, engine.newRow());
                // further back than a sliding window, to the very start, by one token, and not at all
                for (int length : new int[] {69, 41, 7, 0}) {
                    sequence.truncate(length);
                    assertEquals(length, sequence.length());
                    var rest = tokens(model, random, 8);
                    var kept = Arrays.copyOf(first, length);
                    assertFresh(model, kept, rest, append(engine, sequence, rest, 4), tolerance, "the sequence cut to " + length);
                    sequence.truncate(length);
                }
            }
        }
    }

    /** A walk over a tree of branches, its shape drawn at random, every node's row compared with a fresh evaluation. */
    @ParameterizedTest
    @MethodSource("models")
    void anyMixOfForksTruncationsAndAppendsKeepsEveryHistoryRight(Path path) {
        try (var model = Model.load(path)) {
            double tolerance = tolerance(path, model);
            long seed = 4711;
            var random = random(seed);
            var open = new ArrayList<Sequence>();
            var histories = new ArrayList<List<Integer>>();
            try (var engine = Engine.open(model, OPTIONS); var fresh = Engine.open(model, OPTIONS)) {
                open.add(engine.newSequence());
                histories.add(new ArrayList<>());
                for (int step = 0; step < 60; step++) {
                    int which = random.nextInt(open.size());
                    var sequence = open.get(which);
                    var history = histories.get(which);
                    int action = random.nextInt(10);
                    if (action < 5 && history.size() < 90) {
                        var more = tokens(model, random, 1 + random.nextInt(12));
                        var row = engine.newRow();
                        sequence.append(more, row);
                        Arrays.stream(more).forEach(history::add);
                        var all = history.stream().mapToInt(Integer::intValue).toArray();
                        assertArrayEquals(all, sequence.tokens());
                        var expected = fresh.newRow();
                        try (var again = fresh.newSequence()) {
                            again.append(all, expected);
                        }
                        double difference = Noise.difference(expected.toArray(), row.toArray());
                        assertTrue(difference <= tolerance, "step " + step + " with seed " + seed + ", length " + all.length + ": "
                                + difference + " > " + tolerance);
                    } else if (action < 8 && open.size() < 8) {
                        // more sequences than native ids: some lose their cells meanwhile
                        open.add(sequence.fork());
                        histories.add(new ArrayList<>(history));
                    } else if (action < 9) {
                        int length = random.nextInt(history.size() + 1);
                        sequence.truncate(length);
                        history.subList(length, history.size()).clear();
                    } else if (open.size() > 1) {
                        sequence.close();
                        open.remove(which);
                        histories.remove(which);
                    }
                }
                open.forEach(Sequence::close);
                assertEquals(0, engine.stats().cells());
                assertEquals(0, engine.stats().sequenceIds());
            }
        }
    }

    /** Measured once for each model. */
    private static double tolerance(Path path, Model model) {
        return TOLERANCES.computeIfAbsent(path, key -> {
            double tolerance = Noise.tolerance(model, OPTIONS);
            System.out.println(path.getFileName() + ": logits may differ by " + tolerance);
            return tolerance;
        });
    }

    private static SplittableRandom random(long seed) {
        System.out.println("seed " + seed);
        return new SplittableRandom(seed);
    }

    private static int[] tokens(Model model, SplittableRandom random, int count) {
        return random.ints(count, 0, model.vocabulary().size()).toArray();
    }

    private static int[] concat(int[] a, int[] b) {
        return IntStream.concat(Arrays.stream(a), Arrays.stream(b)).toArray();
    }

    private static float[][] append(Engine engine, Sequence sequence, int[] tokens, int chunk) {
        var result = new float[tokens.length][];
        for (int from = 0; from < tokens.length; from += chunk) {
            var part = Arrays.copyOfRange(tokens, from, Math.min(tokens.length, from + chunk));
            var rows = Noise.rows(engine, part.length);
            engine.decode(Append.all(sequence, part, rows));
            for (int i = 0; i < part.length; i++) {
                result[from + i] = rows[i].toArray();
            }
        }
        return result;
    }

    private static void assertFresh(Model model, int[] prefix, int[] rest, float[][] rows, double tolerance, String what) {
        try (var engine = Engine.open(model, OPTIONS)) {
            var all = Noise.evaluate(engine, concat(prefix, rest), prefix.length + rest.length);
            for (int i = 0; i < rest.length; i++) {
                double difference = Noise.difference(all[prefix.length + i], rows[i]);
                assertTrue(difference <= tolerance,
                        what + ", token " + i + " after the branch: off by " + difference + ", noise allows " + tolerance);
            }
        }
    }
}
