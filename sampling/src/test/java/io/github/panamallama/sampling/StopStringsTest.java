package io.github.panamallama.sampling;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class StopStringsTest {
    /** Where the first stop string is complete, the longest of those: {end, length}; null if there is none. */
    private static int[] bruteForce(List<String> stops, String text) {
        for (int end = 1; end <= text.length(); end++) {
            int longest = 0;
            for (String stop : stops) {
                if (text.substring(0, end).endsWith(stop)) {
                    longest = Math.max(longest, stop.length());
                }
            }
            if (longest > 0) {
                return new int[] {end, longest};
            }
        }
        return null;
    }

    /** The longest suffix of the text that could grow into a stop string. */
    private static int heldBack(List<String> stops, String text) {
        int held = 0;
        for (String stop : stops) {
            for (int n = 1; n < stop.length(); n++) {
                if (text.endsWith(stop.substring(0, n))) {
                    held = Math.max(held, n);
                }
            }
        }
        return held;
    }

    @Test
    void agreesWithBruteForceOnRandomTextsAndPieces() {
        long seed = 20_261;
        System.out.println("StopStringsTest seed " + seed);
        var random = new Random(seed);
        int stopped = 0;
        for (int round = 0; round < 20_000; round++) {
            int letters = 1 + random.nextInt(3);
            var stops = new ArrayList<String>();
            for (int s = random.nextInt(5); s > 0; s--) {
                stops.add(word(random, letters, 1 + random.nextInt(6)));
            }
            String text = word(random, letters + 1, random.nextInt(40));
            int[] expected = bruteForce(stops, text);
            String visible = expected == null ? text : text.substring(0, expected[0] - expected[1]);

            var matcher = StopStrings.of(stops).matcher();
            var shown = new StringBuilder();
            int at = 0;
            while (at < text.length()) {
                int to = Math.min(text.length(), at + random.nextInt(5));
                shown.append(matcher.push(text.substring(at, to)));
                at = to;
                String what = "stops " + stops + " text " + text.substring(0, at) + " shown " + shown;
                if (expected == null || at < expected[0]) {
                    assertFalse(matcher.matched(), what);
                    assertEquals(text.substring(0, at - heldBack(stops, text.substring(0, at))), shown.toString(), what);
                } else {
                    assertTrue(matcher.matched(), what);
                    assertEquals(visible, shown.toString(), what);
                }
            }
            shown.append(matcher.flush());
            assertEquals(visible, shown.toString());
            assertEquals(expected == null ? null : text.substring(expected[0] - expected[1], expected[0]), matcher.stop());
            stopped += expected == null ? 0 : 1;
        }
        assertTrue(stopped > 5_000 && stopped < 15_000, "both outcomes are exercised: " + stopped);
    }

    private static String word(Random random, int letters, int length) {
        var word = new StringBuilder();
        for (int i = 0; i < length; i++) {
            word.append((char) ('a' + random.nextInt(letters)));
        }
        return word.toString();
    }

    @Test
    void aPartialMatchIsHeldAcrossPiecesAndNeverShownIfItCompletes() {
        var matcher = StopStrings.of("</s>").matcher();
        var shown = new ArrayList<String>();
        for (String piece : List.of("x < y <", "/s", "<", "/", "s", ">", "more")) {
            shown.add(matcher.push(piece));
        }
        assertEquals(List.of("x < y ", "", "</s", "", "", "", ""), shown);
        assertEquals("</s>", matcher.stop());
        assertEquals("", matcher.flush());
    }

    @Test
    void flushGivesBackWhatWasHeld() {
        var matcher = StopStrings.of("END", "NDX").matcher();
        assertEquals("th", matcher.push("thEN"));
        assertEquals("EN", matcher.flush());
        assertNull(matcher.stop());
    }

    @Test
    void withoutStopStringsTextPassesUntouched() {
        var matcher = StopStrings.of(List.of()).matcher();
        assertEquals("any", matcher.push("any"));
        assertEquals("", matcher.flush());
        assertFalse(matcher.matched());
    }

    @Test
    void theFirstCompleteStringWinsAndTheLongestOfThoseThatEndTogether() {
        var nested = StopStrings.of("abcd", "bc").matcher();
        assertEquals("a", nested.push("abcd"));
        assertEquals("bc", nested.stop());
        var together = StopStrings.of("c", "bc", "abc").matcher();
        assertEquals("x", together.push("xabc"));
        assertEquals("abc", together.stop());
    }

    @Test
    void emptyStopStringsAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> StopStrings.of("a", ""));
    }

    @Test
    void charactersOutsideTheBasicPlaneAreMatchedWhole() {
        var matcher = StopStrings.of("\uD83D\uDE00!").matcher();
        assertEquals("hi \uD83D\uDE01", matcher.push("hi \uD83D\uDE01"));
        assertEquals("", matcher.push("\uD83D\uDE00"));
        assertEquals("", matcher.push("!"));
        assertTrue(matcher.matched());
    }
}
