package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.LlamaException;
import org.junit.jupiter.api.Test;

class BlockInfluenceTest {
    private static void read(BlockInfluence.Sums sums, int[] positions, float[]... cosines) {
        var sink = sums.sink();
        for (int i = 0; i < positions.length; i++) {
            sink.read(new FakeReading(positions[i], null, cosines[i]));
        }
    }

    private static float[] cosines(double... values) {
        var floats = new float[values.length];
        for (int i = 0; i < values.length; i++) {
            floats[i] = (float) values[i];
        }
        return floats;
    }

    @Test
    void isTheMeanOfOneMinusTheCosineWithoutTheFirstTokenOfEachText() {
        var sums = new BlockInfluence.Sums(3);
        read(sums, new int[] {0, 1, 2}, cosines(-1, -1, -1), cosines(1, 0.5, 0.75), cosines(1, 0, 0.25));
        read(sums, new int[] {0, 1}, cosines(-1, -1, -1), cosines(0.25, 0.25, -1));
        var influence = sums.result();
        assertEquals(3, influence.blocks());
        assertEquals(3, influence.tokens());
        assertEquals(0.25, influence.of(0));
        assertEquals(0.75, influence.of(1));
        assertEquals(1, influence.of(2));
    }

    @Test
    void aTokenThatIsEvaluatedAgainCountsOnce() {
        var sums = new BlockInfluence.Sums(1);
        read(sums, new int[] {0, 1, 0, 1, 2}, cosines(0), cosines(0.5), cosines(0), cosines(0.9), cosines(1));
        assertEquals(2, sums.result().tokens());
        assertEquals(0.25, sums.result().of(0));
    }

    @Test
    void whatABlockDidNotComputeDoesNotCount() {
        var sums = new BlockInfluence.Sums(2);
        read(sums, new int[] {0, 1, 2}, cosines(0, 0), cosines(0.5, Double.NaN), cosines(0.5, 0));
        assertEquals(0.5, sums.result().of(0));
        assertEquals(1, sums.result().of(1));
    }

    @Test
    void textsOfOneTokenTellNothing() {
        var sums = new BlockInfluence.Sums(1);
        read(sums, new int[] {0}, cosines(0.5));
        var refused = assertThrows(LlamaException.class, sums::result);
        assertTrue(refused.getMessage().contains("use longer texts"), refused.getMessage());
    }

    @Test
    void leavesOutTheLeastInfluentialBlocksButNeverTheFirstOrTheLast() {
        var sums = new BlockInfluence.Sums(6);
        read(sums, new int[] {0, 1}, cosines(0, 0, 0, 0, 0, 0), cosines(1, 0.5, 0.9, 0.9, 0.7, 1));
        var influence = sums.result();
        assertEquals("0-5", influence.without(0).toString());
        assertEquals("0-1,3-5", influence.without(1).toString()); // of two alike the earlier
        assertEquals("0-1,4-5", influence.without(2).toString());
        assertEquals("0,5", influence.without(4).toString());
        for (int count : new int[] {-1, 5, 6}) {
            var refused = assertThrows(IllegalArgumentException.class, () -> influence.without(count));
            assertTrue(refused.getMessage().contains("can't leave out " + count + " of 6 blocks"), refused.getMessage());
        }
    }
}
