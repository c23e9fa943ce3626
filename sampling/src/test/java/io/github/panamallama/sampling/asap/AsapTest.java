package io.github.panamallama.sampling.asap;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.SamplingException;
import io.github.panamallama.sampling.Constraint;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.FiniteConstraint;
import io.github.panamallama.sampling.asap.Asap.Method;
import io.github.panamallama.sampling.track.TableTrack;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.function.Function;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Exact, on models that are tables and languages that can be listed. Token 0 ends texts. */
@Timeout(60)
class AsapTest {
    private static final int SIZE = 6;
    private static final byte[] MODEL = {1, 2, 3};
    private static final int[] PROMPT = {5, 4};

    /** Seventeen of the strings of five letters 1 and 2, as the method's page suggests. */
    private static List<int[]> bits(long seed) {
        var random = new SplittableRandom(seed);
        var all = new ArrayList<int[]>();
        for (int i = 0; i < 32; i++) {
            int bits = i;
            all.add(IntStream.range(0, 5).map(j -> 1 + (bits >> j & 1)).toArray());
        }
        while (all.size() > 17) {
            all.remove(random.nextInt(all.size()));
        }
        return all;
    }

    private static Constraint language(List<int[]> texts) {
        return new FiniteConstraint(SIZE, texts, 0);
    }

    /** Undecided between the letters, with a liking for the language. */
    private static Function<int[], float[]> model(long seed) {
        var random = TableTrack.random(SIZE, -1, 0.9, seed);
        return history -> {
            var row = random.apply(history);
            if (history.length < PROMPT.length + 5) {
                row[1] += 1.5f;
                row[2] += 1.5f;
            } else {
                row[0] += 2;
            }
            return row;
        };
    }

    /** Draws until every position that can be reached is in the trie. */
    private static Target drawEverything(Asap asap) {
        var target = asap.enumerate(100_000);
        while (asap.stats().nodes() < target.positions()) {
            assertTrue(asap.stats().draws() < 200_000, asap.stats().toString());
            asap.draw(20);
        }
        return target;
    }

    private static Asap asap(Function<int[], float[]> model, Constraint constraint, AsapOptions options) {
        return new Asap(new TableTrack(SIZE, 64, model), MODEL, PROMPT, constraint, "test", options, token -> token == 0, Arrays::toString);
    }

    private static AsapOptions options() {
        return AsapOptions.defaults().withMaxTokens(10);
    }

    @Test
    void theSamplersOwnDistributionReachesTheModelsUnderTheGrammar() {
        for (long seed : new long[] {11, 12, 13}) {
            System.out.println("AsapTest seed " + seed);
            try (var asap = asap(model(seed), language(bits(seed)), options().withSeed(seed))) {
                var target = asap.enumerate(1000);
                assertEquals(17, target.texts().size());
                assertEquals(1, target.texts().stream().mapToDouble(text -> Math.exp(text.logProposal())).sum(), 1e-12);
                double masking = target.divergence();
                assertTrue(masking > 0.01, "masking alone is off by " + masking);
                drawEverything(asap);
                assertTrue(target.divergence() < 1e-9, "divergence " + target.divergence() + ", of masking alone " + masking);
                assertEquals(target.logMass(), asap.logMassBound(), 1e-9);
                System.out.println("  seed " + seed + ": masking " + masking + " nats, after " + asap.stats().draws() + " draws "
                        + target.divergence());
            }
        }
    }

    @Test
    void estimatesNeverRiseAndNeverFallBelowTheTruth() {
        long seed = 21;
        for (int denseLimit : new int[] {1024, 1}) {
            try (var asap = asap(model(seed), language(bits(seed)), options().withDenseLimit(denseLimit).withSeed(seed))) {
                var target = asap.enumerate(1000);
                var before = new HashMap<String, Double>();
                for (int i = 0; i < 400; i++) {
                    asap.draw();
                    check(asap.trie(), target.truth(), "", before);
                    assertTrue(asap.logMassBound() >= target.logMass() - 1e-6);
                }
                drawEverything(asap);
                assertEquals(target.logMass(), asap.logMassBound(), denseLimit == 1 ? 1e-5 : 1e-9, "C of the root comes down to Z");
            }
        }
    }

    private static void check(Node node, Node truth, String path, Map<String, Double> before) {
        var last = before.put(path, node.logEstimate);
        assertTrue(last == null || node.logEstimate <= last, "the estimate at " + path + " rose");
        assertTrue(node.logEstimate >= truth.logEstimate - 1e-6, "the estimate at " + path + " is below the truth");
        for (int i = 0; i < node.ids.length; i++) {
            if (node.child(i) != null) {
                assertEquals(node.child(i).logEstimate, node.childEstimate(i), 0);
                check(node.child(i), truth.child(truth.index(node.ids[i])), path + " " + node.ids[i], before);
            }
        }
    }

    @Test
    void drawsOfAFrozenTrieFollowItsOwnDistribution() {
        long seed = 31;
        System.out.println("AsapTest seed " + seed);
        for (int denseLimit : new int[] {1024, 1}) {
            try (var asap = asap(model(seed), language(bits(seed)), options().withDenseLimit(denseLimit).withSeed(seed))) {
                var target = asap.enumerate(1000);
                int n = 100_000;
                // masking alone draws from a trie that stays as it is
                var counts = new HashMap<String, Integer>();
                for (var draw : asap.draw(n, Method.CONSTRAINED)) {
                    counts.merge(draw.text(), 1, Integer::sum);
                    assertEquals(target.logProposal(draw.tokens()), draw.logProposal(), 1e-5);
                }
                var p = new HashMap<String, Double>();
                target.texts().forEach(text -> p.put(text.text(), Math.exp(target.logProposal(text.tokens()))));
                assertChiSquare(p, counts, n);
            }
        }
    }

    @Test
    void drawsAfterLearningAndRejectionFollowTheTarget() {
        long seed = 41;
        System.out.println("AsapTest seed " + seed);
        for (var method : List.of(Method.ASAP, Method.REJECTION)) {
            try (var asap = asap(model(seed), language(bits(seed)), options().withSeed(seed))) {
                var target = asap.enumerate(1000);
                if (method == Method.ASAP) {
                    drawEverything(asap);
                }
                int n = 20_000;
                var counts = new HashMap<String, Integer>();
                long attempts = 0;
                for (var draw : asap.draw(n, method)) {
                    counts.merge(draw.text(), 1, Integer::sum);
                    attempts += draw.attempts();
                    assertEquals(method == Method.REJECTION, Double.isNaN(draw.logProposal()));
                }
                var p = new HashMap<String, Double>();
                target.texts().forEach(text -> p.put(text.text(), Math.exp(text.logProposal())));
                assertChiSquare(p, counts, n);
                if (method == Method.REJECTION) {
                    double z = Math.exp(target.logMass());
                    assertEquals(z, n / (double) attempts, 5 * Math.sqrt(z * (1 - z) / attempts), "the share of accepted walks is Z");
                }
            }
        }
    }

    private static void assertChiSquare(Map<String, Double> p, Map<String, Integer> counts, int n) {
        double chiSquare = 0;
        int cells = 0;
        double rareExpected = 0;
        double rareSeen = 0;
        assertTrue(p.keySet().containsAll(counts.keySet()), "texts outside the language: " + counts.keySet());
        for (var entry : p.entrySet()) {
            double expected = entry.getValue() * n;
            double seen = counts.getOrDefault(entry.getKey(), 0);
            if (expected < 5) {
                rareExpected += expected;
                rareSeen += seen;
            } else {
                chiSquare += (seen - expected) * (seen - expected) / expected;
                cells++;
            }
        }
        if (rareExpected >= 5) {
            chiSquare += (rareSeen - rareExpected) * (rareSeen - rareExpected) / rareExpected;
            cells++;
        }
        double bound = cells - 1 + 4.5 * Math.sqrt(2.0 * (cells - 1)) + 4;
        assertTrue(chiSquare < bound, "chi-square " + chiSquare + " above " + bound + " with " + cells + " cells");
    }

    @Test
    void meanImportanceWeightsEstimateTheMassOfTheLanguage() {
        try (var asap = asap(model(51), language(bits(51)), options())) {
            var target = asap.enumerate(1000);
            double mean = asap.draw(20_000).stream().mapToDouble(draw -> Math.exp(draw.logWeight())).average().orElseThrow();
            assertEquals(Math.exp(target.logMass()), mean, 0.02 * Math.exp(target.logMass()));
        }
    }

    @Test
    void withEveryTextAllowedNothingChanges() {
        // all strings of up to three letters, each followed by the end, cover all that a model with that limit can say
        int size = 3;
        var model = TableTrack.random(size, -1, 1.5, 61);
        var texts = new ArrayList<int[]>();
        for (int a = -1; a < 9; a++) {
            texts.add(a < 0 ? new int[] {} : new int[] {1 + a / 3 % 2});
            texts.add(new int[] {1 + (a & 1), 1 + (a >> 1 & 1)});
        }
        // a model that always ends after two tokens
        Function<int[], float[]> ending = history -> history.length < PROMPT.length + 2 ? model.apply(history) : new float[] {0, -200,
                -200};
        var unique = new ArrayList<int[]>();
        texts.forEach(text -> {
            if (unique.stream().noneMatch(other -> Arrays.equals(other, text))) {
                unique.add(text);
            }
        });
        try (var asap = new Asap(new TableTrack(size, 64, ending), MODEL, new int[] {1, 2}, new FiniteConstraint(size, unique, 0), "all",
                options(), token -> token == 0, Arrays::toString)) {
            var target = asap.enumerate(1000);
            assertEquals(0, target.logMass(), 1e-6);
            assertEquals(0, target.divergence(), 1e-9);
            asap.draw(200);
            assertEquals(0, asap.logMassBound(), 1e-6);
            assertEquals(0, target.divergence(), 1e-9);
        }
    }

    @Test
    void parallelDrawsLearnTheSameAndShareBatches() {
        long seed = 71;
        try (var one = asap(model(seed), language(bits(seed)), options().withSeed(1));
                var eight = asap(model(seed), language(bits(seed)), options().withParallel(8).withSeed(2))) {
            int positions;
            try (var reference = asap(model(seed), language(bits(seed)), options())) {
                positions = reference.enumerate(1000).positions();
            }
            for (var asap : List.of(one, eight)) {
                while (asap.stats().nodes() < positions) {
                    asap.draw(8);
                }
            }
            compare(one.trie(), eight.trie());
            assertEquals(one.stats().nodes(), eight.stats().nodes());
            assertTrue(eight.stats().batches() < one.stats().batches(), eight.stats() + " against " + one.stats());
        }
    }

    private static void compare(Node a, Node b) {
        assertArrayEquals(a.ids, b.ids);
        assertEquals(a.logEstimate, b.logEstimate, 1e-4);
        for (int i = 0; i < a.ids.length; i++) {
            assertEquals(a.child(i) == null, b.child(i) == null);
            if (a.child(i) != null) {
                compare(a.child(i), b.child(i));
            }
        }
    }

    @Test
    void aKnownPrefixCostsNothing() {
        try (var asap = asap(model(81), language(bits(81)), options())) {
            drawEverything(asap);
            long rows = asap.stats().rows();
            asap.draw(1000);
            assertEquals(rows, asap.stats().rows(), "everything reachable is known, nothing is evaluated");
        }
    }

    @Test
    void sparsePositionsKeepWhatWasDrawnAndComeToTheSameEstimates() {
        long seed = 91;
        try (var dense = asap(model(seed), language(bits(seed)), options());
                var sparse = asap(model(seed), language(bits(seed)), options().withDenseLimit(1))) {
            drawEverything(dense);
            drawEverything(sparse);
            assertTrue(sparse.trie().sparse);
            assertEquals(dense.logMassBound(), sparse.logMassBound(), 1e-5);
        }
    }

    @Test
    void textsLongerThanTheLimitAreNotPartOfTheLanguage() {
        var texts = List.of(new int[] {1}, new int[] {1, 2}, new int[] {2, 2, 2, 2, 2});
        try (var asap = asap(model(101), language(texts), options().withMaxTokens(2))) {
            var target = asap.enumerate(100);
            assertEquals(2, target.texts().size());
            for (var draw : asap.draw(200)) {
                assertTrue(draw.tokens().length <= 3 && draw.tokens()[0] == 1, draw.text());
            }
            assertEquals(target.logMass(), asap.logMassBound(), 1e-9);
            assertTrue(asap.stats().deadEnds() > 0, "the long text was begun at least once");
        }
    }

    @Test
    void aLanguageThatCannotBeReachedIsAnError() {
        var texts = List.of(new int[] {2, 2, 2, 2, 2});
        try (var asap = asap(model(111), language(texts), options().withMaxTokens(3))) {
            var thrown = assertThrows(ConstraintException.class, asap::draw);
            assertTrue(thrown.getMessage().startsWith("no string of the grammar is reachable"), thrown.getMessage());
            assertThrows(ConstraintException.class, asap::draw);
            assertThrows(ConstraintException.class, () -> asap.draw(1, Method.REJECTION));
            assertThrows(ConstraintException.class, () -> asap.draw(1, Method.CONSTRAINED));
        }
    }

    @Test
    void memoryStaysWithinItsBoundAndWhatWasLearnedAboveStays() {
        long seed = 121;
        var texts = new ArrayList<int[]>();
        var random = new SplittableRandom(seed);
        for (int i = 0; i < 600; i++) {
            texts.add(random.ints(8, 1, 5).toArray());
        }
        try (var asap = asap(model(seed), language(texts), options().withMaxBytes(60_000).withSeed(seed))) {
            double last = 0;
            for (int i = 0; i < 1500; i++) {
                asap.draw();
                assertTrue(asap.stats().bytes() <= 60_000, asap.stats().toString());
                assertTrue(asap.logMassBound() <= last);
                last = asap.logMassBound();
            }
            assertTrue(asap.stats().evictions() > 100, asap.stats().toString());
            try (var unbounded = asap(model(seed), language(texts), options())) {
                assertTrue(last >= unbounded.enumerate(100_000).logMass() - 1e-6);
            }
        }
    }

    @Test
    void aSavedTrieGoesOnWithAllItsDescendants(@TempDir Path folder) {
        long seed = 131;
        var file = folder.resolve("trie");
        for (int denseLimit : new int[] {1024, 1}) {
            try (var first = asap(model(seed), language(bits(seed)), options().withDenseLimit(denseLimit));
                    var second = asap(model(seed), language(bits(seed)), options().withDenseLimit(denseLimit))) {
                first.draw(300);
                first.save(file);
                second.load(file);
                compare(first.trie(), second.trie());
                assertEquals(first.stats().nodes(), second.stats().nodes());
                assertEquals(first.stats().bytes(), second.stats().bytes());
                assertEquals(300, second.stats().draws());
                var target = drawEverything(second);
                assertEquals(target.logMass(), second.logMassBound(), denseLimit == 1 ? 1e-5 : 1e-9);
            }
        }
    }

    @Test
    void aTrieOfSomethingElseOrADamagedOneIsRefused(@TempDir Path folder) throws IOException {
        var file = folder.resolve("trie");
        var other = folder.resolve("damaged");
        var constraint = language(bits(141));
        try (var asap = asap(model(141), constraint, options())) {
            asap.draw(50);
            asap.save(file);
            double bound = asap.logMassBound();
            for (var stranger : List.of(asap(model(141), constraint, options().withTemperature(0.5)),
                    asap(model(141), constraint, options().withMaxTokens(9)), asap(model(141), constraint, options().withLogitBias(Map.of(1,
                            1f))),
                    new Asap(new TableTrack(SIZE, 64, model(141)), new byte[] {9}, PROMPT, constraint, "test", options(), t -> t == 0,
                            Arrays::toString),
                    new Asap(new TableTrack(SIZE, 64, model(141)), MODEL, new int[] {5}, constraint, "test", options(), t -> t == 0,
                            Arrays::toString),
                    new Asap(new TableTrack(SIZE, 64, model(141)), MODEL, PROMPT, constraint, "another", options(), t -> t == 0,
                            Arrays::toString))) {
                var thrown = assertThrows(LlamaException.class, () -> stranger.load(file));
                assertTrue(thrown.getMessage().contains("belongs to another model"), thrown.getMessage());
                assertNotEquals(bound, stranger.logMassBound());
            }
            // any damage is seen, and the present trie stays
            byte[] good = Files.readAllBytes(file);
            var random = new SplittableRandom(1);
            for (int i = 0; i < 2000; i++) {
                byte[] bad = i % 4 == 0 ? Arrays.copyOf(good, random.nextInt(good.length)) : good.clone();
                if (i % 4 != 0) {
                    bad[random.nextInt(bad.length)] ^= (byte) (1 << random.nextInt(8));
                }
                Files.write(other, bad);
                assertThrows(LlamaException.class, () -> asap.load(other));
                assertEquals(bound, asap.logMassBound());
            }
            byte[] tail = Arrays.copyOf(good, good.length + 1);
            Files.write(other, tail);
            assertThrows(LlamaException.class, () -> asap.load(other));
        }
    }

    @Test
    void rowsThatAreNoDistributionFailTheCallAndTeachNothing() {
        var broken = new boolean[1];
        Function<int[], float[]> model = history -> {
            var row = model(151).apply(history);
            if (broken[0]) {
                row[3] = Float.NaN;
            }
            return row;
        };
        try (var asap = asap(model, language(bits(151)), options())) {
            asap.draw(2);
            double bound = asap.logMassBound();
            long nodes = asap.stats().nodes();
            broken[0] = true;
            assertThrows(SamplingException.class, () -> asap.draw(100));
            assertTrue(asap.logMassBound() <= bound);
            assertTrue(asap.stats().nodes() >= nodes);
            broken[0] = false;
            var target = drawEverything(asap);
            assertEquals(target.logMass(), asap.logMassBound(), 1e-9, "it goes on as if nothing had happened");
        }
    }

    @Test
    void temperatureAndBiasBelongToTheDistribution() {
        var options = options().withTemperature(0.7).withLogitBias(Map.of(1, 0.5f, 2, -0.25f));
        try (var asap = asap(model(161), language(bits(161)), options)) {
            var target = asap.enumerate(1000);
            for (var text : target.texts()) {
                double expected = 0;
                var history = PROMPT;
                for (int token : text.tokens()) {
                    var row = model(161).apply(history);
                    double sum = 0;
                    double[] scaled = new double[SIZE];
                    for (int v = 0; v < SIZE; v++) {
                        scaled[v] = (row[v] + (v == 1 ? 0.5 : v == 2 ? -0.25 : 0)) / 0.7;
                        sum += Math.exp(scaled[v]);
                    }
                    expected += scaled[token] - Math.log(sum);
                    history = Arrays.copyOf(history, history.length + 1);
                    history[history.length - 1] = token;
                }
                assertEquals(expected, text.logProbability(), 1e-4);
            }
            drawEverything(asap);
            assertTrue(target.divergence() < 1e-9);
        }
    }

    @Test
    void whatDoesNotFitIsRefusedBeforeAnyEvaluation() {
        var constraint = language(bits(1));
        assertThrows(IllegalArgumentException.class, () -> asap(model(1), constraint, options().withMaxTokens(63)));
        assertThrows(IllegalArgumentException.class, () -> asap(model(1), constraint, options().withParallel(64)));
        assertThrows(IllegalArgumentException.class, () -> asap(model(1), new FiniteConstraint(5, bits(1), 0), options()));
        assertThrows(IllegalArgumentException.class, () -> asap(model(1), constraint, options().withLogitBias(Map.of(6, 1f))));
        assertThrows(IllegalArgumentException.class, () -> options().withTemperature(0));
        assertThrows(IllegalArgumentException.class, () -> options().withTemperature(Double.NaN));
        assertThrows(IllegalArgumentException.class, () -> options().withMaxTokens(0));
        try (var asap = asap(model(1), constraint, options())) {
            assertEquals(List.of(), asap.draw(0));
            assertEquals(0, asap.stats().rows());
            assertThrows(IllegalArgumentException.class, () -> asap.draw(-1));
            assertThrows(LlamaException.class, () -> asap.enumerate(3));
        }
    }

    @Test
    void aSparsePositionWhoseTokensAreAllDeadIsDead() {
        var texts = List.of(new int[] {1, 1, 1}, new int[] {2, 2, 2}, new int[] {3, 3, 3}, new int[] {4, 4, 4});
        for (long seed = 0; seed < 50; seed++) {
            try (var asap = asap(TableTrack.random(SIZE, -1, 1, seed), language(texts), options().withMaxTokens(2).withDenseLimit(1)
                    .withSeed(seed))) {
                var thrown = assertThrows(ConstraintException.class, asap::draw, "seed " + seed);
                assertTrue(thrown.getMessage().startsWith("no string of the grammar is reachable"), thrown.getMessage());
                assertEquals(Double.NEGATIVE_INFINITY, asap.logMassBound());
            }
        }
    }

    @Test
    void aLanguageWithoutTextsIsAnError() {
        try (var asap = asap(model(1), language(List.of()), options())) {
            var thrown = assertThrows(ConstraintException.class, asap::draw);
            assertTrue(thrown.getMessage().startsWith("no string of the grammar is reachable"), thrown.getMessage());
        }
    }

    @Test
    void weightsOverAllWalksEstimateTheMassWhereSomeWalksLeadNowhere() {
        var texts = List.of(new int[] {1}, new int[] {2, 1}, new int[] {2, 2, 2, 2}, new int[] {1, 2, 2, 2});
        for (var method : List.of(Method.CONSTRAINED, Method.ASAP)) {
            try (var asap = asap(model(52), language(texts), options().withMaxTokens(2).withSeed(7))) {
                double mass = Math.exp(asap.enumerate(100).logMass());
                var draws = asap.draw(20_000, method);
                long walks = draws.stream().mapToLong(Draw::attempts).sum();
                assertTrue(walks > draws.size(), "some walks ended where nothing is allowed");
                assertEquals(mass, draws.stream().mapToDouble(draw -> Math.exp(draw.logWeight())).sum() / walks, 0.03 * mass, method + "");
            }
        }
    }

    @Test
    void memoryOfALoadedTrieIsAccountedFor(@TempDir Path folder) {
        long seed = 121;
        var random = new SplittableRandom(seed);
        var texts = IntStream.range(0, 600).mapToObj(i -> random.ints(8, 1, 5).toArray()).toList();
        var file = folder.resolve("trie");
        try (var first = asap(model(seed), language(texts), options().withSeed(seed));
                var second = asap(model(seed), language(texts), options().withMaxBytes(60_000).withSeed(seed + 1))) {
            first.draw(200);
            first.save(file);
            second.load(file);
            for (int i = 0; i < 200; i++) {
                second.draw();
                assertTrue(second.stats().bytes() <= 60_000, second.stats().toString());
                assertEquals(count(second.trie()), second.stats().nodes());
            }
            assertTrue(second.stats().evictions() > 0);
        }
    }

    private static int count(Node node) {
        int count = 1;
        for (int i = 0; i < node.ids.length; i++) {
            count += node.child(i) == null ? 0 : count(node.child(i));
        }
        return count;
    }

    @Test
    void numbersThatNoTrieHoldsAreRefused(@TempDir Path folder) {
        var file = folder.resolve("trie");
        for (double log : new double[] {0.01, Double.NaN, Double.POSITIVE_INFINITY}) {
            var node = Node.dense(new int[] {1}, new float[] {-1});
            node.logEstimate = log;
            TrieFile.write(file, MODEL, 1, node);
            var thrown = assertThrows(LlamaException.class, () -> TrieFile.read(file, MODEL, SIZE, 10));
            assertTrue(thrown.getMessage().contains("the logarithm of an estimate is " + log), thrown.getMessage());
        }
    }
}
