package io.github.panamallama.sampling.strategy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.SamplingException;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.FiniteConstraint;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.track.TableTrack;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Function;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class NGramDraftsTest {
    private static final byte[] VOCABULARY = {7};
    private static final int[] PROMPT = {1, 2};

    private static TrigramTable empty(int size) {
        return TrigramTable.empty(VOCABULARY, size, 1000);
    }

    private static TrigramTable random(int size, long seed) {
        var table = empty(size);
        var random = new SplittableRandom(seed);
        for (int i = 0; i < 400; i++) {
            int a = random.nextInt(size);
            int b = random.nextInt(size);
            int c = random.nextInt(size);
            for (int j = random.nextInt(30); j >= 0; j--) {
                table.reinforce(a, b, c);
            }
        }
        return table;
    }

    /** Knows the most likely successor of each pair. */
    private static TrigramTable perfect(Function<int[], float[]> model, int size) {
        var texts = new ArrayList<int[]>();
        for (int a = 0; a < size; a++) {
            for (int b = 0; b < size; b++) {
                var row = model.apply(new int[] {a, b});
                int best = 0;
                for (int c = 1; c < size; c++) {
                    best = row[c] > row[best] ? c : best;
                }
                texts.add(new int[] {a, b, best});
            }
        }
        return TrigramTable.of(VOCABULARY, size, 1000, texts);
    }

    private static Decoding start(NGramDrafts settings, Function<int[], float[]> model, int size, StrategyOptions options) {
        return new Decoding(new NGramRun(settings, Letters.table(model, size), PROMPT, options, Letters.IT));
    }

    @Test
    void textsAreTokenForTokenThoseOfPlainDecodingWhateverTheTableSays() {
        int size = 9;
        int tokens = 0;
        for (long seed = 0; tokens < 10_000; seed++) {
            var model = TableTrack.random(size, 2, 2, seed);
            model = seed % 4 == 0 ? model : Letters.endless(model);
            var sampling = seed % 2 == 0 ? SamplerOptions.greedy() : Letters.FREE.withRepetitionPenalty(1.1f).withSeed(seed);
            var options = Letters.options(200).withSampling(sampling);
            var plain = Letters.plain(model, size, PROMPT, options);
            for (var table : List.of(empty(size), random(size, seed), perfect(model, size))) {
                assertArrayEquals(plain, Letters.run(start(NGramDrafts.of(table).withTree(1 + (int) seed % 30, 6), model, size, options)));
            }
            tokens += plain.length;
        }
    }

    @Test
    void aPerfectTableIsAcceptedToItsDepth() {
        var model = Letters.endless(TableTrack.random(9, 2, 2, 8));
        try (var decoding = start(NGramDrafts.of(perfect(model, 9)), model, 9, Letters.options(201))) {
            Letters.run(decoding);
            // three tokens of search behind the state of two, and the one that lengthens the path; one more is drawn behind them
            assertEquals(5, 200.0 / decoding.work().count("passes"), 0.3);
        }
    }

    @Test
    void drawnTextsAreDistributedExactlyAndTheOtherWayIsNot() {
        int size = 4;
        var model = TableTrack.random(size, 2, 1.2, 77);
        int draws = 100_000;
        System.out.println("NGramDraftsTest seeds 0 to " + draws);
        var counts = new int[256];
        var table = random(size, 5);
        for (int seed = 0; seed < draws; seed++) {
            var options = Letters.options(4).withSampling(Letters.FREE.withSeed(seed)).withConfidence(false);
            counts[SpeculativeTest.index(Letters.run(start(new NGramDrafts(table.overlay(), 8, 4, 3, 10, 0), model, size, options)))]++;
        }
        var exact = SpeculativeTest.exact(model, Letters.FREE, size);
        SpeculativeTest.assertDistribution(exact, counts, draws);

        // one draw for each of k paths that propose a token, and a redraw if all miss: 1 - (1 - p)^k instead of p
        var random = new SplittableRandom(3);
        var skewed = new int[256];
        for (int i = 0; i < draws; i++) {
            int first = draw(marginal(exact), random);
            for (int k = 0; k < 3 && first != 1; k++) {
                first = draw(marginal(exact), random);
            }
            skewed[first << 6 | draw(conditional(exact, first), random)]++;
        }
        var cells = new int[1];
        double chiSquare = SpeculativeTest.chiSquare(exact, skewed, draws, cells);
        assertTrue(chiSquare > 10 * Letters.bound(cells[0]), "the test sees the difference: " + chiSquare);
    }

    private static double[] marginal(double[] exact) {
        var p = new double[4];
        for (int i = 0; i < 256; i++) {
            p[i >> 6] += exact[i];
        }
        return p;
    }

    private static double[] conditional(double[] exact, int first) {
        return Arrays.copyOfRange(exact, first << 6, first + 1 << 6);
    }

    private static int draw(double[] p, SplittableRandom random) {
        double rest = random.nextDouble() * Arrays.stream(p).sum();
        for (int i = 0; i < p.length; i++) {
            rest -= p[i];
            if (rest < 0) {
                return i;
            }
        }
        return p.length - 1;
    }

    @Test
    void aPassageThatComesBackIsDraftedBetter() {
        // a text of period 40 over 30 tokens
        var random = new SplittableRandom(4);
        int[] passage = random.ints(40, 1, 30).toArray();
        Function<int[], float[]> model = history -> {
            var row = new float[30];
            row[passage[history.length % passage.length]] = 20;
            return row;
        };
        var accepted = new ArrayList<Double>();
        try (var decoding = start(NGramDrafts.of(empty(30)), model, 30, Letters.options(160))) {
            long before = 0;
            long batches = 0;
            for (int i = 0; i < 160 && decoding.advance(); i++) {
                if (i % 40 == 39) {
                    long steps = decoding.work().batches() - batches;
                    accepted.add((double) (decoding.work().count("accepted") - before) / steps);
                    before = decoding.work().count("accepted");
                    batches = decoding.work().batches();
                }
            }
        }
        System.out.println("accepted tokens per pass on each reading of a passage: " + accepted);
        assertTrue(accepted.get(1) > accepted.get(0) + 1, accepted.toString());
    }

    @Test
    void draftsThatDoNotPayPause() {
        var model = Letters.endless(TableTrack.random(9, -1, 0.5, 3));
        try (var decoding = start(NGramDrafts.of(random(9, 1)).withBreakEven(2), model, 9, Letters.options(400))) {
            assertArrayEquals(Letters.plain(model, 9, PROMPT, Letters.options(400)), Letters.run(decoding));
            assertTrue(decoding.work().count("draftsPaused") > 0);
            assertTrue(decoding.work().count("plainSteps") > 200);
        }
    }

    @Test
    void aConstraintHolds() {
        var texts = List.of(new int[] {1, 2, 3, 4}, new int[] {1, 3, 3, 1}, new int[] {2, 2, 2, 2, 2, 2}, new int[] {4});
        for (long seed = 0; seed < 40; seed++) {
            var options = Letters.options(50).withConstraint(new FiniteConstraint(9, texts, 0)).withConfidence(seed % 2 == 0)
                    .withSampling(Letters.FREE.withSeed(seed));
            var model = TableTrack.random(9, -1, 2, seed);
            var tokens = Letters.run(start(NGramDrafts.of(random(9, seed)), model, 9, options));
            assertArrayEquals(Letters.plain(model, 9, PROMPT, options.withConfidence(true)), tokens);
        }
    }

    // --- the table ------------------------------------------------------------------------------------------------------

    @Test
    void weightsGrowWithUseUpToTheCapAndTheLightestGoes() {
        var table = empty(50);
        for (int i = 0; i < 200; i++) {
            table.reinforce(1, 2, 3);
        }
        assertEquals(TrigramTable.CAP, table.weight(1, 2, 3));
        assertEquals(0, table.weight(1, 2, 4));
        for (int c = 10; c < 30; c++) {
            table.reinforce(1, 2, c);
            table.reinforce(1, 2, c);
        }
        assertEquals(TrigramTable.CAP, table.weight(1, 2, 3), "the heaviest stays among 12");
        var overlay = table.overlay();
        overlay.reinforce(1, 2, 3);
        overlay.reinforce(4, 4, 4);
        assertEquals(TrigramTable.CAP, overlay.weight(1, 2, 3));
        assertEquals(0, table.weight(4, 4, 4), "what one user writes is not seen by others");
        var frequencies = TrigramTable.of(VOCABULARY, 50, 100, List.of(new int[] {1, 2, 3, 1, 2, 4, 1, 2, 3}));
        assertEquals(2 / 3f, frequencies.weight(1, 2, 3));
        assertEquals(1 / 3f, frequencies.weight(1, 2, 4));
    }

    @Test
    void aFullTableForgetsWhatWasUsedLongestAgo() {
        var table = TrigramTable.empty(VOCABULARY, 1000, 64);
        for (int a = 0; a < 500; a++) {
            table.reinforce(a, a, a);
            table.reinforce(999, 999, 1);
            assertTrue(table.size() <= 64);
        }
        assertTrue(table.weight(999, 999, 1) > 0, "in use all the time");
        assertTrue(table.weight(499, 499, 499) > 0);
        assertEquals(0, table.weight(3, 3, 3));
    }

    @Test
    void aTableComesBackFromItsFileAndAnotherVocabularysDoesNot(@TempDir Path folder) throws IOException {
        var file = folder.resolve("table");
        var table = random(30, 5);
        table.save(file);
        var loaded = TrigramTable.load(file, VOCABULARY, 30);
        assertEquals(table.size(), loaded.size());
        for (int a = 0; a < 30; a++) {
            for (int b = 0; b < 30; b++) {
                for (int c = 0; c < 30; c++) {
                    assertEquals(table.weight(a, b, c), loaded.weight(a, b, c));
                }
            }
        }
        assertThrows(LlamaException.class, () -> TrigramTable.load(file, new byte[] {8}, 30));
        assertThrows(LlamaException.class, () -> TrigramTable.load(file, VOCABULARY, 10), "tokens outside of a smaller vocabulary");
        byte[] good = Files.readAllBytes(file);
        var other = folder.resolve("bad");
        var random = new SplittableRandom(2);
        for (int i = 0; i < 1000; i++) {
            byte[] bad = i % 2 == 0 ? Arrays.copyOf(good, random.nextInt(good.length)) : good.clone();
            if (i % 2 == 1) {
                bad[random.nextInt(bad.length)] ^= (byte) (1 << random.nextInt(8));
            }
            Files.write(other, bad);
            try {
                TrigramTable.load(other, VOCABULARY, 30);
            } catch (LlamaException e) {
                assertTrue(e.getMessage().contains("bad") || e.getMessage().contains("vocabulary"), e.getMessage());
            }
        }
    }

    @Test
    void settingsOutOfRangeAreRefused() {
        var model = TableTrack.random(9, 2, 2, 3);
        assertThrows(IllegalArgumentException.class, () -> NGramDrafts.of(empty(9)).withTree(0, 1));
        assertThrows(IllegalArgumentException.class, () -> NGramDrafts.of(empty(9)).withBreakEven(Double.NaN));
        assertTrue(assertThrows(IllegalArgumentException.class, () -> start(NGramDrafts.of(empty(9)).withTree(512, 8), model, 9,
                Letters.options(1)))
                .getMessage().contains("512"));
        assertThrows(IllegalArgumentException.class, () -> start(NGramDrafts.of(empty(9)).withTree(200, 65), model, 9, Letters.options(1)));
        assertThrows(LlamaException.class, () -> empty(9).requireVocabulary(new byte[] {1}));
        assertThrows(IllegalArgumentException.class, () -> empty(9).reinforce(1, 2, 9));
    }

    @Test
    void theEndOfTheContextIsWhereItIsWithoutDrafts() {
        var model = Letters.endless(TableTrack.random(9, 2, 2, 8));
        for (int context = 3; context < 40; context++) {
            var track = new TableTrack(9, context, model);
            var plain = Letters.run(new PlainRun(new TableTrack(9, context, model), PROMPT, Letters.options(100), Letters.IT));
            try (var decoding = new Decoding(new NGramRun(NGramDrafts.of(random(9, 1)), track, PROMPT, Letters.options(100),
                    Letters.IT))) {
                assertArrayEquals(plain, Letters.run(decoding));
                assertEquals(FinishReason.CONTEXT_FULL, decoding.finishReason());
                assertEquals(context, track.length());
                assertTrue(context < 20 || decoding.work().count("noRoom") > 0, "trees that no longer fit are counted: " + decoding.work());
            }
        }
    }

    @Test
    void aTextOfOneTokenIsTooShortForADraft() {
        var model = Letters.endless(TableTrack.random(9, -1, 2, 8));
        var plain = Letters.plain(model, 9, new int[] {4}, Letters.options(30));
        try (var decoding = new Decoding(new NGramRun(NGramDrafts.of(random(9, 1)), Letters.table(model, 9), new int[] {4},
                Letters.options(30), Letters.IT))) {
            assertArrayEquals(plain, Letters.run(decoding));
        }
    }

    @Test
    void whatWasChosenBeforeAFailureIsGivenOutFirst() {
        var sound = Letters.endless(TableTrack.random(9, 2, 2, 8));
        Function<int[], float[]> broken = history -> {
            var row = sound.apply(history);
            row[3] = history.length == PROMPT.length + 13 ? Float.NaN : row[3];
            return row;
        };
        var expected = Letters.plain(sound, 9, PROMPT, Letters.options(13));
        var track = Letters.table(broken, 9);
        var options = Letters.options(50);
        var drafted = Letters.table(broken, 9);
        for (var run : List.of(new NGramRun(NGramDrafts.of(perfect(sound, 9)), track, PROMPT, options, Letters.IT),
                new SpeculativeRun(4, drafted, Drafter.model(drafted, Letters.table(sound, 9)), PROMPT, options, Letters.IT))) {
            try (var decoding = new Decoding(run)) {
                for (int token : expected) {
                    assertTrue(decoding.advance());
                    assertEquals(token, decoding.token());
                }
                var thrown = assertThrows(SamplingException.class, decoding::advance);
                assertTrue(thrown.getMessage().startsWith("token 14: row holds NaN"), thrown.getMessage());
                assertEquals(FinishReason.FAILED, decoding.finishReason());
                assertArrayEquals(expected, decoding.tokens());
                int kept = run.main.length();
                assertArrayEquals(Arrays.copyOf(run.history.toArray(), kept), run.main.tokens(), "what is evaluated is what was given out");
            }
        }
    }

    @Test
    void aLoadedTableKeepsItsBound(@TempDir Path folder) {
        var file = folder.resolve("table");
        TrigramTable.empty(VOCABULARY, 1000, 64).save(file);
        var table = TrigramTable.load(file, VOCABULARY, 1000);
        for (int a = 0; a < 500; a++) {
            table.reinforce(a, a, a);
            assertTrue(table.size() <= 64, "" + table.size());
        }
    }

    @Test
    void weightsThatNoTableHasAreRefused(@TempDir Path folder) throws IOException {
        var file = folder.resolve("table");
        var table = empty(30);
        table.reinforce(1, 2, 3);
        table.save(file);
        byte[] good = Files.readAllBytes(file);
        int at = -1;
        for (int i = 0; i + 4 <= good.length; i++) {
            at = ByteBuffer.wrap(good).getFloat(i) == TrigramTable.INCREMENT ? i : at;
        }
        for (float weight : new float[] {Float.NaN, -0.5f, 3.001f, Float.POSITIVE_INFINITY}) {
            Files.write(file, ByteBuffer.wrap(good.clone()).putFloat(at, weight).array());
            var thrown = assertThrows(LlamaException.class, () -> TrigramTable.load(file, VOCABULARY, 30));
            assertTrue(thrown.getMessage().contains("a weight of " + weight), thrown.getMessage());
        }
    }
}
