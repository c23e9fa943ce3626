package io.github.panamallama.sampling.strategy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.SamplingException;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.FiniteConstraint;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.IncompleteException;
import io.github.panamallama.sampling.track.TableTrack;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.function.Function;
import org.junit.jupiter.api.Test;

/** Beam search and best of n, and what a decoding does around any strategy. */
class SearchTest {
    private static final int SIZE = 5;
    private static final int[] PROMPT = {3, 1};

    private record Text(int[] tokens, double logProbability) {
    }

    /** Every text of at most {@code length} tokens. */
    private static void all(Function<int[], float[]> model, int[] history, int length, double logP, List<Text> into) {
        var row = model.apply(history);
        double sum = 0;
        for (float x : row) {
            sum += Math.exp(x);
        }
        for (int token = 0; token < SIZE; token++) {
            if (row[token] > Float.NEGATIVE_INFINITY) {
                var longer = Arrays.copyOf(history, history.length + 1);
                longer[history.length] = token;
                double p = logP + row[token] - Math.log(sum);
                if (token == 0 || longer.length == PROMPT.length + length) {
                    into.add(new Text(Arrays.copyOfRange(longer, PROMPT.length, longer.length), p));
                } else {
                    all(model, longer, length, p, into);
                }
            }
        }
    }

    private static int[] beam(BeamSearch settings, Function<int[], float[]> model, StrategyOptions options) {
        var track = Letters.table(model, SIZE);
        try (var decoding = new Decoding(new BeamRun(settings, track, PROMPT, options, Letters.IT))) {
            var tokens = Letters.run(decoding);
            assertEquals(0, track.openForks());
            assertTrue(track.length() <= PROMPT.length + tokens.length);
            return tokens;
        }
    }

    @Test
    void aBeamWideEnoughFindsTheMostLikelyTextOfAll() {
        for (long seed = 0; seed < 20; seed++) {
            var model = TableTrack.random(SIZE, -1, 1.5, seed);
            var texts = new ArrayList<Text>();
            all(model, PROMPT, 3, 0, texts);
            var best = texts.stream().max(Comparator.comparingDouble(Text::logProbability)).orElseThrow();
            assertArrayEquals(best.tokens, beam(new BeamSearch(60, 0), model, Letters.options(3)), "seed " + seed);
            var endless = Letters.endless(model);
            texts.clear();
            all(endless, PROMPT, 3, 0, texts);
            best = texts.stream().max(Comparator.comparingDouble(Text::logProbability)).orElseThrow();
            assertArrayEquals(best.tokens, beam(BeamSearch.of(60), endless, Letters.options(3)), "seed " + seed);
        }
    }

    @Test
    void aBeamOfOneIsGreedyAndMeasuresAreThoseOfItsPath() {
        var model = Letters.endless(TableTrack.random(SIZE, -1, 1.5, 3));
        try (var greedy = new Decoding(new PlainRun(Letters.table(model, SIZE), PROMPT, Letters.options(20), Letters.IT));
                var beam = new Decoding(new BeamRun(BeamSearch.of(1), Letters.table(model, SIZE), PROMPT, Letters.options(20),
                        Letters.IT))) {
            assertArrayEquals(Letters.run(greedy), Letters.run(beam));
            assertEquals(greedy.confidence().logProbability(), beam.confidence().logProbability(), 1e-9);
            assertEquals(greedy.confidence().meanEntropy(), beam.confidence().meanEntropy(), 1e-9);
            assertEquals(greedy.confidence().lowestMargin(), beam.confidence().lowestMargin(), 1e-9);
        }
    }

    @Test
    void aBeamUnderAConstraintFindsTheMostLikelyTextOfTheLanguage() {
        var language = List.of(new int[] {1, 2, 3}, new int[] {1, 1}, new int[] {4, 4, 4, 4}, new int[] {2});
        for (long seed = 0; seed < 20; seed++) {
            var model = TableTrack.random(SIZE, -1, 1.5, seed);
            var texts = new ArrayList<Text>();
            all(model, PROMPT, 5, 0, texts);
            var best = texts.stream().filter(text -> language.stream().anyMatch(member -> Arrays.equals(Arrays.copyOf(member, member.length
                    + 1), text.tokens)))
                    .max(Comparator.comparingDouble(Text::logProbability)).orElseThrow();
            var options = Letters.options(10).withConstraint(new FiniteConstraint(SIZE, language, 0));
            assertArrayEquals(best.tokens, beam(new BeamSearch(8, 0), model, options), "seed " + seed);
        }
        var nothing = Letters.options(10).withConstraint(new FiniteConstraint(SIZE, List.of(), 0));
        assertThrows(ConstraintException.class, () -> beam(BeamSearch.of(2), TableTrack.random(SIZE, 1, 1, 1), nothing));
    }

    @Test
    void theBestOfOneIsThePlainTextAndTheBestOfManyIsNoWorse() {
        for (long seed = 0; seed < 10; seed++) {
            var model = TableTrack.random(SIZE, -1, 1.5, seed);
            var options = Letters.options(12).withSampling(Letters.FREE.withSeed(seed));
            var track = Letters.table(model, SIZE);
            try (var plain = new Decoding(new PlainRun(Letters.table(model, SIZE), PROMPT, options, Letters.IT));
                    var one = new Decoding(new BestRun(BestOfN.of(1), Letters.table(model, SIZE), PROMPT, options, Letters.IT));
                    var many = new Decoding(new BestRun(new BestOfN(20, false), track, PROMPT, options, Letters.IT))) {
                assertArrayEquals(Letters.run(plain), Letters.run(one));
                Letters.run(many);
                assertTrue(many.confidence().logProbability() >= plain.confidence().logProbability());
                assertEquals(0, track.openForks());
                assertTrue(many.work().batches() <= 13, "one batch per step: " + many.work());
            }
        }
    }

    // --- decodings ------------------------------------------------------------------------------------------------------

    private static Decoding plain(Function<int[], float[]> model, int context, StrategyOptions options) {
        return new Decoding(new PlainRun(new TableTrack(SIZE, context, model), PROMPT, options, Letters.IT));
    }

    /** a b c d a b c d ... */
    private static final Function<int[], float[]> ALPHABET = history -> {
        var row = new float[SIZE];
        row[1 + (history.length - PROMPT.length) % 4] = 9;
        return row;
    };

    @Test
    void textsEndAtStopStringsLimitsAndTheEndOfTheContext() {
        try (var decoding = plain(ALPHABET, 100, Letters.options(50).withStopStrings("dab"))) {
            var text = new StringBuilder();
            decoding.forEachRemaining(token -> text.append(token.text()));
            assertEquals("abc", text.toString());
            assertEquals("abc", decoding.wholeText());
            assertEquals(FinishReason.STOP_STRING, decoding.finishReason());
            assertEquals("dab", decoding.stopString());
        }
        try (var decoding = plain(ALPHABET, 100, Letters.options(6).withStopStrings("bx"))) {
            Letters.run(decoding);
            assertEquals("abcdab", decoding.wholeText());
            assertEquals(FinishReason.LENGTH, decoding.finishReason());
        }
        try (var decoding = plain(ALPHABET, 8, Letters.options(50))) {
            assertEquals(7, Letters.run(decoding).length, "the last token needs no cell");
            assertEquals(FinishReason.CONTEXT_FULL, decoding.finishReason());
        }
        try (var decoding = plain(ALPHABET, 1, Letters.options(50))) {
            assertThrows(ContextFullException.class, decoding::advance);
            assertEquals(FinishReason.FAILED, decoding.finishReason());
        }
    }

    @Test
    void aContextThatIsFullInAConstrainedTextIsAnErrorWithTheBeginning() {
        var text = new int[20];
        Arrays.fill(text, 2);
        var options = Letters.options(50).withConstraint(new FiniteConstraint(SIZE, List.of(text), 0));
        try (var decoding = plain(ALPHABET, 8, options)) {
            var thrown = assertThrows(IncompleteException.class, () -> {
                while (decoding.advance()) {
                }
            });
            assertArrayEquals(Arrays.copyOf(text, 7), thrown.tokens());
            assertEquals("bbbbbbb", thrown.text());
            assertEquals(FinishReason.CONTEXT_FULL, decoding.finishReason());
            assertThrows(IncompleteException.class, decoding::advance);
        }
    }

    @Test
    void tokensWithoutAlternativesAreNotAskedForUnlessConfidenceIsWanted() {
        var constraint = new FiniteConstraint(SIZE, List.of(new int[] {1, 2, 3, 4, 1}, new int[] {2, 2, 2}), 0);
        try (var asked = plain(ALPHABET, 100, Letters.options(50).withConstraint(constraint));
                var forced = plain(ALPHABET, 100, Letters.options(50).withConstraint(constraint).withConfidence(false))) {
            assertArrayEquals(new int[] {1, 2, 3, 4, 1, 0}, Letters.run(asked));
            assertArrayEquals(new int[] {1, 2, 3, 4, 1, 0}, Letters.run(forced));
            assertEquals(PROMPT.length, forced.work().rows());
            assertEquals(PROMPT.length + 5, asked.work().rows());
            assertEquals(6, asked.confidence().measured());
            assertEquals(0, forced.confidence().measured());
            assertTrue(Double.isNaN(forced.confidence().meanEntropy()));
        }
    }

    @Test
    void confidenceIsOfTheModelsOwnDistribution() {
        float[] row = {0.5f, 2, 1, -1, 0};
        var constraint = new FiniteConstraint(SIZE, List.of(new int[] {2}), 0);
        try (var decoding = plain(history -> row.clone(), 100, Letters.options(1).withConstraint(constraint).withSampling(
                Letters.FREE.withTemperature(0.3f).withSeed(1)))) {
            var token = decoding.next();
            double sum = 0;
            for (float x : row) {
                sum += Math.exp(x);
            }
            double entropy = 0;
            for (float x : row) {
                entropy -= Math.exp(x) / sum * (x - Math.log(sum));
            }
            assertEquals(2, token.token());
            assertEquals(1 - Math.log(sum), token.logProbability(), 1e-6);
            assertEquals(entropy, token.entropy(), 1e-6);
            assertEquals(1, token.margin(), 1e-6);
            assertEquals(token.entropy(), decoding.confidence().highestEntropy());
        }
    }

    @Test
    void aDecodingThatIsClosedOrCancelledEnds() {
        var decoding = plain(ALPHABET, 100, Letters.options(50));
        assertTrue(decoding.advance());
        decoding.cancel();
        assertTrue(!decoding.advance());
        assertEquals(FinishReason.CANCELLED, decoding.finishReason());
        var closed = plain(ALPHABET, 100, Letters.options(50));
        closed.advance();
        closed.close();
        assertEquals(FinishReason.CANCELLED, closed.finishReason());
        assertThrows(NoSuchElementException.class, closed::next);
    }

    @Test
    void optionsOutOfRangeAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> Letters.options(0));
        assertThrows(IllegalArgumentException.class, () -> BeamSearch.of(0));
        assertThrows(IllegalArgumentException.class, () -> new BeamSearch(2, Double.NaN));
        assertThrows(IllegalArgumentException.class, () -> BestOfN.of(0));
        assertThrows(IllegalArgumentException.class, () -> plain(ALPHABET, 100, Letters.options(5).withConstraint(new FiniteConstraint(7,
                List.of(), 0))));
        var track = Letters.table(ALPHABET, SIZE);
        assertThrows(IllegalArgumentException.class, () -> new BeamRun(BeamSearch.of(64), track, PROMPT, Letters.options(5), Letters.IT));
        assertThrows(IllegalArgumentException.class, () -> new BestRun(BestOfN.of(64), track, PROMPT, Letters.options(5), Letters.IT));
    }

    @Test
    void aSearchThatIsCancelledEndsWithinOneStep() {
        int size = SIZE;
        for (int kind = 0; kind < 3; kind++) {
            var running = new Decoding[1];
            int[] calls = {0};
            var model = Letters.endless(TableTrack.random(size, -1, 0.5, 3));
            var track = new TableTrack(size, 100_000, history -> {
                if (++calls[0] == 10) {
                    running[0].cancel();    // as another thread would, while a batch is in flight
                }
                return model.apply(history);
            });
            var options = Letters.options(5000).withSampling(Letters.FREE.withSeed(1));
            running[0] = new Decoding(switch (kind) {
                case 0 -> new BeamRun(BeamSearch.of(4), track, PROMPT, options, Letters.IT);
                case 1 -> new BestRun(BestOfN.of(4), track, PROMPT, options, Letters.IT);
                default -> new AdaDecRun(AdaDec.of(0).withDepth(1000), track, PROMPT, options, Letters.IT);
            });
            try (var decoding = running[0]) {
                assertFalse(decoding.advance());
                assertEquals(FinishReason.CANCELLED, decoding.finishReason());
                assertTrue(calls[0] <= 13, calls[0] + " rows");
                assertEquals(0, track.openForks());
                assertArrayEquals(PROMPT, track.tokens());
            }
        }
    }

    @Test
    void aSearchThatFailsGivesAllBranchesBack() {
        // some texts are finished and some go on when a row turns out to be no distribution
        Function<int[], float[]> model = history -> {
            float[] row = {(float) Math.log(0.1), (float) Math.log(0.6), (float) Math.log(0.3), -50, -50};
            row[4] = history.length == PROMPT.length + 3 ? Float.NaN : row[4];
            return row;
        };
        for (int kind = 0; kind < 2; kind++) {
            var track = Letters.table(model, SIZE);
            var options = Letters.options(20).withSampling(Letters.FREE.withSeed(2));
            try (var decoding = new Decoding(kind == 0 ? new BeamRun(new BeamSearch(4, 0), track, PROMPT, options, Letters.IT)
                    : new BestRun(BestOfN.of(6), track, PROMPT, options, Letters.IT))) {
                var thrown = assertThrows(SamplingException.class, decoding::advance);
                assertTrue(thrown.getMessage().startsWith("token 4: row holds NaN"), thrown.getMessage());
                assertEquals(0, track.openForks());
                assertEquals(FinishReason.FAILED, decoding.finishReason());
            }
        }
    }
}
