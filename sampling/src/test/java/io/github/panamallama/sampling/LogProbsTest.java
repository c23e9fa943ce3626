package io.github.panamallama.sampling;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.github.panamallama.runtime.SamplingException;
import java.util.Random;
import org.junit.jupiter.api.Test;

class LogProbsTest {
    @Test
    void areTheLogSoftmaxOfTheRow() {
        float[] logits = Reference.logits(new Random(3), 300, 3);
        double sum = 0;
        for (float x : logits) {
            sum += Math.exp(x);
        }
        var read = LogProbs.of(Reference.row(logits), 17, 300);
        assertEquals(new TokenProbability(17, logits[17] - Math.log(sum)).logProbability(), read.chosen().logProbability(), 1e-5);
        assertEquals(300, read.top().size());
        double mass = 0;
        for (int i = 0; i < 300; i++) {
            var t = read.top().get(i);
            assertEquals(logits[t.token()] - Math.log(sum), t.logProbability(), 1e-5);
            mass += t.probability();
            if (i > 0) {
                assertEquals(true, t.logProbability() <= read.top().get(i - 1).logProbability(), "most likely first");
            }
        }
        assertEquals(1, mass, 1e-5);
    }

    @Test
    void listAsManyAlternativesAsThereAre() {
        var row = Reference.row(0, Float.NEGATIVE_INFINITY, 0);
        assertEquals(0, LogProbs.of(row, 0, 0).top().size());
        assertEquals(2, LogProbs.of(row, 0, 3).top().size());
        assertEquals(Math.log(0.5), LogProbs.of(row, 2, 1).chosen().logProbability(), 1e-7);
        assertEquals(Double.NEGATIVE_INFINITY, LogProbs.of(row, 1, 1).chosen().logProbability());
        assertEquals(0.0, LogProbs.of(Reference.row(12), 0, 1).chosen().logProbability(), 1e-12);
    }

    @Test
    void refuseTokensOutsideTheRowAndRowsThatAreNone() {
        assertThrows(SamplingException.class, () -> LogProbs.of(Reference.row(1, 2), 2, 1));
        assertThrows(SamplingException.class, () -> LogProbs.of(Reference.row(1, Float.NaN), 0, 1));
        assertThrows(IllegalArgumentException.class, () -> LogProbs.of(Reference.row(1, 2), 0, -1));
    }
}
