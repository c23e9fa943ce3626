package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;

/** Models and engines that are closed leave nothing behind. */
class OpenAndCloseTest {
    private static final int CYCLES = 1000;

    @Test
    void aThousandCyclesGrowNeitherMemoryNorThreadsNorFiles() throws Exception {
        Assumptions.assumeTrue(Files.isReadable(Path.of("/proc/self/smaps_rollup")),
                "skipped: /proc tells the size of a process, and this system has none");
        var result = Project.java(Child.class, Models.random(RandomModel.Architecture.LLAMA).toString()).succeeded();
        var figures = Arrays.stream(result.out().strip().split(" ")).mapToLong(Long::parseLong).toArray();
        long firstKb = figures[0];
        long lastKb = figures[1];
        System.out.println("resident: " + firstKb + " kB after the first fifth, " + lastKb + " kB in the end");
        // a leaked context of this size is 2 MB, a leaked model 1 MB, a leaked thread's stack some 30 kB, each 800 times
        assertTrue(lastKb - firstKb < 16_000, "grew by " + (lastKb - firstKb) + " kB in " + CYCLES * 4 / 5 + " cycles");
        // the JVM itself may start or end one or two
        assertEquals(figures[2], figures[3], 3, "threads");
        assertEquals(figures[4], figures[5], 3, "open files");
    }

    /** Prints resident kB, threads and open files after a fifth of the cycles and in the end. */
    static final class Child {
        public static void main(String[] arguments) throws IOException {
            var path = Path.of(arguments[0]);
            long[] first = null;
            for (int i = 0; i < CYCLES; i++) {
                cycle(path, i);
                if (i + 1 == CYCLES / 5) {
                    first = measure();
                }
            }
            var last = measure();
            for (int k = 0; k < 3; k++) {
                System.out.print(first[k] + " " + last[k] + " ");
            }
        }

        private static void cycle(Path path, int i) {
            try (var model = Model.load(path);
                    var engine = Engine.open(model, EngineOptions.defaults().withContextSize(256).withThreads(2).withMaxSequences(4))) {
                var sequence = engine.newSequence();
                sequence.append(new int[] {1 + i % 200, 2, 3}, engine.newRow());
                var fork = sequence.fork();
                fork.append(4, null);
                if (i % 2 == 0) {       // an engine that is closed takes its sequences with it
                    fork.close();
                    sequence.close();
                }
            }
        }

        private static long[] measure() throws IOException {
            System.gc();
            long threads;
            try (var all = Files.list(Path.of("/proc/self/task"))) {
                threads = all.count();
            }
            long files;
            try (var all = Files.list(Path.of("/proc/self/fd"))) {
                files = all.count();
            }
            // anonymous memory only: pages of mapped files come and go as the system likes
            var kb = Files.readAllLines(Path.of("/proc/self/smaps_rollup")).stream().filter(line -> line.startsWith("Anonymous:"))
                    .findFirst().orElseThrow().replaceAll("\\D", "");
            return new long[] {Long.parseLong(kb), threads, files};
        }
    }
}
