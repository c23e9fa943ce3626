package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CancellationException;
import org.junit.jupiter.api.Test;

class StepsTest {
    private final ByteArrayOutputStream err = new ByteArrayOutputStream();
    private long seconds;
    private boolean ends;

    private Steps steps(boolean interactive) {
        var shell = new Shell(InputStream.nullInputStream(), new PrintStream(new ByteArrayOutputStream(), true, StandardCharsets.UTF_8),
                new PrintStream(err, true, StandardCharsets.UTF_8), interactive);
        return new Steps(shell, () -> ends, () -> seconds * 1_000_000_000L);
    }

    private String written() {
        var text = err.toString(StandardCharsets.UTF_8);
        err.reset();
        return text;
    }

    @Test
    void aBarShowsWhatIsDoneAndWhatIsLeftAndGoesAtTheEnd() {
        var steps = steps(true);
        steps.update("blk.0", 1, 8);
        assertEquals("\r\u001B[K[===                     ] 1 of 8, blk.0", written());
        // what has to be done first has steps of its own
        seconds = 10;
        steps.update("inputs", 1, 2);
        steps.update("inputs", 2, 2);
        written();
        seconds = 20;
        steps.update("blk.1", 2, 8);
        assertEquals("\r\u001B[K[======                  ] 2 of 8, blk.1, about 2:00 left", written());
        steps.update("inputs", 1, 2);       // once more from the beginning: nothing is known of its speed
        assertEquals("\r\u001B[K[============            ] 1 of 2, inputs", written());
        steps.update("blk.7", 8, 8);
        assertEquals("\r\u001B[K", written());
    }

    @Test
    void whereNobodyLooksALineAMinuteIsEnough() {
        var steps = steps(false);
        for (int i = 0; i <= 100; i++) {
            seconds = i;
            steps.update("blk." + i, i, 200);
        }
        assertEquals("panama-llama: [=======                 ] 60 of 200, blk.60, about 2:20 left\n", written().replace("\r\n", "\n"));
    }

    @Test
    void workEndsWhenItIsToldTo() {
        var steps = steps(true);
        ends = true;
        assertThrows(CancellationException.class, () -> steps.update("blk.0", 1, 8));
        assertTrue(written().isEmpty());
    }
}
