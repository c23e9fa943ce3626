package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Threads of a pool, awake and asleep, pass a barrier together: {@code ggml-src/hooks/barrier_wait.h}. */
class BarrierTest {
    private static final int ROUNDS = 1000;

    @TempDir
    private Path folder;

    @ParameterizedTest
    @CsvSource({"1,0", "2,0", "3,0", "8,0", "2,1", "8,1", "5,2"})
    void nobodyPassesBeforeTheLastHasCome(int threads, int cores) throws Exception {
        assertEquals(0, run(threads, cores)[0], threads + " threads on " + (cores == 0 ? "all" : cores) + " cores");
    }

    /** The late thread of every eighth round takes longer than anybody spins. */
    @Test
    void whoWaitsLongGivesTheCoreAway() throws Exception {
        assertTrue(run(2, 0)[1] >= ROUNDS / 8 * 3 / 2, "switches, of which the late one has " + ROUNDS / 8);
    }

    @Test
    void threadsOnOneCoreNotice() throws Exception {
        assertTrue(run(2, 1)[2] > ROUNDS / 2, "crowded");
    }

    /** Passed too early, times a core was given away, rounds in which threads shared one. */
    private int[] run(int threads, int cores) throws Exception {
        assumeTrue(System.getProperty("os.name").equals("Linux"), "skipped: other systems have no futex");
        var lines = CProgram.compile(folder, "barrier").run("" + threads, "" + ROUNDS, "" + cores);
        var figures = lines.getFirst().split(" ");
        assertEquals(3, figures.length, lines::toString);
        return new int[] {Integer.parseInt(figures[0]), Integer.parseInt(figures[1]), Integer.parseInt(figures[2])};
    }
}
