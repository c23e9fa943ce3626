package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class LacTest {
    private static final double NAN = Double.NaN;
    private static final double INFINITY = Double.POSITIVE_INFINITY;

    /** Active blocks as letters, voids as dots. */
    private static String flags(Lac.Trace trace) {
        var text = new StringBuilder();
        for (int block = 0; block < trace.blocks(); block++) {
            text.append(trace.active(block) ? (char) ('a' + block) : '.');
        }
        return text.toString();
    }

    private static String flags(double alpha, double... norms) {
        return flags(new Lac(alpha).judge(0, norms));
    }

    @Test
    void aBlockIsActiveWhenItGrowsByAlphaTimesTheRangeOfTheBlocksBefore() {
        // growth 1, 5, 4, 3, 3.2: ranges 0, 0, 4, 4, 4
        assertEquals("abc.e", flags(0.8, 1, 2, 7, 11, 14, 17.2 + 1e-9));
        assertEquals("abc..", flags(0.8, 1, 2, 7, 11, 14, 17.2 - 1e-9));
        assertEquals("abcde", flags(0.5, 1, 2, 7, 11, 14, 17.2));
    }

    @Test
    void growthThatEqualsTheThresholdIsActive() {
        assertEquals("abc", flags(0.5, 0, 2, 6, 7));   // growth 2, 4, 1; range 2; threshold 1
        assertEquals("abcd", flags(1, 0, 2, 6, 8, 10));  // growth 2, 4, 2, 2
        assertEquals("abc", flags(0.8, 3, 3, 3, 3));   // nothing grows, nothing is asked for
    }

    @Test
    void theFirstBlockIsJudgedBySignAlone() {
        assertEquals("a", flags(1, 5, 5));
        assertEquals(".", flags(0, 5, 4));
    }

    @Test
    void aBlockThatShrinksTheNormIsAVoidForAnyAlpha() {
        assertEquals(".b.", flags(0, 5, 4, 6, 5.5));
        assertEquals(".b.", flags(1, 5, 4, 6, 5.5));
    }

    @Test
    void withAlpha0AllThatDoesNotShrinkIsActive() {
        assertEquals("ab.de", flags(0, 0, 1, 100, 99, 99, 99.5));
    }

    @Test
    void withAlpha1ABlockMustGrowByTheWholeRange() {
        assertEquals("ab.d", flags(1, 0, 1, 11, 19.5, 29));  // growth 1, 10, 8.5, 9.5; range 9
    }

    @Test
    void theRangeKnowsEarlierBlocksOnly() {
        // the last block's growth of 100 does not make the earlier ones voids
        assertEquals("abc", flags(1, 0, 1, 2, 102));
        assertEquals("a..", flags(1, 0, 100, 99, 149));
    }

    @Test
    void growthThatIsNotFiniteIsActiveAndCountedAndLeavesTheRangeAlone() {
        // the third norm is missing: neither the growth to it nor from it is known
        var trace = new Lac(1).judge(0, 0, 1, NAN, 6, 8, 9);     // growth 1, NaN, NaN, 2, 1
        assertEquals("abcde", flags(trace));
        assertEquals(2, trace.notFinite());
        var infinite = new Lac(1).judge(0, 0, 1, INFINITY, INFINITY, 5, 8, 9, 9.5); // growth 1, inf, NaN, -inf, 3, 1, 0.5
        assertEquals("abcde..", flags(infinite));
        assertEquals(3, infinite.notFinite());
        assertEquals(0, new Lac(1).judge(0, 0, 1, 2).notFinite());
    }

    @Test
    void theLastActiveBlockIsToldAndNoneIsMinusOne() {
        assertEquals(1, new Lac(1).judge(0, 5, 4, 6, 5.5).lastActive());
        assertEquals(-1, new Lac(0).judge(0, 5, 4, 3, 2).lastActive());
        assertEquals(0, new Lac(0).judge(0, 5, 6).lastActive());
    }

    @Test
    void aTraceTellsPositionAndGrowth() {
        var trace = new Lac(0.8).judge(7, 5, 4, 6);
        assertEquals(7, trace.position());
        assertEquals(-1, trace.growth(0));
        assertEquals(2, trace.growth(1));
    }

    @Test
    void tokensAreJudgedIndependently() {
        var lac = new Lac(1);
        var alone = flags(lac.judge(1, 0, 1, 3, 4.5));
        lac.judge(0, 0, 1000, 1001, 1002);
        assertEquals(alone, flags(lac.judge(1, 0, 1, 3, 4.5)));
    }

    @Test
    void alphaOutside0To1IsRefused() {
        for (double alpha : new double[] {-0.1, 1.1, NAN, INFINITY}) {
            var refused = assertThrows(IllegalArgumentException.class, () -> new Lac(alpha));
            assertTrue(refused.getMessage().contains("alpha is " + alpha), refused.getMessage());
        }
        assertThrows(IllegalArgumentException.class, () -> new Lac(0.8).judge(0, 1));
    }

    @Test
    void theTapIsReadOncePerTokenAlsoWhenTokensAreEvaluatedAgain() {
        var traces = new ArrayList<Lac.Trace>();
        var sink = new Lac(0.8).sink(2, 0, traces::add);
        for (int position : new int[] {0, 1, 0, 1, 2}) {
            sink.read(new FakeReading(position, new float[] {1, 2 + position, 1}, new float[2]));
        }
        assertEquals(List.of(0, 1, 2), traces.stream().map(Lac.Trace::position).toList());
        assertEquals(3, traces.get(2).growth(0));
        assertEquals("a.", flags(traces.getFirst()));
    }

    @Test
    void thePromptsPlanLeavesOutTheBlocksThatAreVoidsMostOften() {
        var lac = new Lac(0);
        // voids, without the first token: block 1 once, block 2 twice, block 3 never, block 4 three times
        var traces = List.of(
                lac.judge(0, 9, 8, 9, 10, 9, 10, 11),
                lac.judge(1, 0, 1, 2, 1, 2, 1, 2),
                lac.judge(2, 0, 1, 2, 1, 2, 1, 2),
                lac.judge(3, 0, 1, 0, 1, 2, 1, 2));
        assertEquals("0-5", Lac.skipping(traces, 0).toString());
        assertEquals("0-3,5", Lac.skipping(traces, 1).toString());
        assertEquals("0-1,3,5", Lac.skipping(traces, 2).toString());
        assertEquals("0,3,5", Lac.skipping(traces, 3).toString());
        assertEquals("0,5", Lac.skipping(traces, 4).toString());
        var refused = assertThrows(IllegalArgumentException.class, () -> Lac.skipping(traces, 5));
        assertTrue(refused.getMessage().contains("0 to 4 can go"), refused.getMessage());
    }

    @Test
    void aPromptOfOneTokenKeepsAllBlocks() {
        assertTrue(Lac.skipping(List.of(new Lac(0).judge(0, 3, 2, 1, 0)), 1).isFull());
        assertThrows(IllegalArgumentException.class, () -> Lac.skipping(List.of(), 1));
    }

    @Test
    void aModelOfOneOrTwoBlocksLosesNothing() {
        var one = List.of(new Lac(0).judge(0, 3, 2), new Lac(0).judge(1, 3, 2));
        assertTrue(Lac.skipping(one, 0).isFull());
        assertThrows(IllegalArgumentException.class, () -> Lac.skipping(one, 1));
        assertTrue(Lac.predict(one.getFirst(), 5).isFull());
        assertTrue(Lac.predict(new Lac(0).judge(0, 3, 2, 1), 5).isFull());
    }

    @Test
    void thePredictionLeavesOutTheVoidsThatGrewLeastAndKeepsTheirKeysAndValues() {
        var trace = new Lac(0).judge(0, 9, 8, 7.5, 8, 6, 5, 4);   // voids 0, 1, 3, 4, 5
        assertEquals("a", flags(new Lac(0).judge(0, 1, 2)));
        assertEquals("0-2,3:kv,4-5", Lac.predict(trace, 1).toString());
        assertEquals("0-2,3-4:kv,5", Lac.predict(trace, 2).toString());
        assertEquals("0,1:kv,2,3-4:kv,5", Lac.predict(trace, 3).toString());
        assertEquals(Lac.predict(trace, 3), Lac.predict(trace, 100));
        assertTrue(Lac.predict(trace, 0).isFull());
        assertFalse(Lac.predict(trace, 1).isFull());
    }
}
