package io.github.panamallama.quantization;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.SplittableRandom;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.junit.jupiter.api.Test;

class TwoOfFourTest {
    private static final int ROWS = 50;
    private static final int COLUMNS = 24;

    private final long seed = new SplittableRandom().nextLong();

    /** Of all six pairs, that with the largest sum of scores. */
    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void eachGroupKeepsTheBestOfAllPairs(boolean wanda) {
        System.out.println("seed " + seed);
        var random = new SplittableRandom(seed);
        var weights = new float[ROWS * COLUMNS];
        for (int i = 0; i < weights.length; i++) {
            weights[i] = (float) random.nextGaussian();
        }
        var norms = new double[COLUMNS];
        for (int i = 0; i < COLUMNS; i++) {
            norms[i] = Math.exp(random.nextDouble(-3, 3));
        }
        var wanted = weights.clone();
        for (int at = 0; at < weights.length; at += 4) {
            double best = -1;
            int first = 0;
            int second = 0;
            for (int i = 0; i < 4; i++) {
                for (int j = i + 1; j < 4; j++) {
                    double score = score(weights, at + i, wanda ? norms : null) + score(weights, at + j, wanda ? norms : null);
                    if (score > best) {
                        best = score;
                        first = i;
                        second = j;
                    }
                }
            }
            for (int i = 0; i < 4; i++) {
                wanted[at + i] = i == first || i == second ? wanted[at + i] : 0;
            }
        }
        TwoOfFour.prune(weights, ROWS, COLUMNS, wanda ? norms : null);
        assertArrayEquals(wanted, weights);
        assertEquals(-1, TwoOfFour.firstFault(weights, weights.length));
    }

    private static double score(float[] weights, int at, double[] norms) {
        return Math.abs(weights[at]) * (norms == null ? 1 : norms[at % COLUMNS]);
    }

    @Test
    void ofEqualWeightsTheFirstStay() {
        float[] weights = {1, -1, 1, 1, 0, 0, 0, 0, 2, 3, -3, 3};
        TwoOfFour.prune(weights, 1, 12, null);
        assertArrayEquals(new float[] {1, -1, 0, 0, 0, 0, 0, 0, 0, 3, -3, 0}, weights);
    }

    @Test
    void aGroupOfThreeIsFound() {
        float[] weights = {1, 0, 0, 2, 1, 0, 3, 2, 1, 1, 1, 1};
        assertEquals(1, TwoOfFour.firstFault(weights, 12));
        assertEquals(-1, TwoOfFour.firstFault(weights, 4));
    }
}
