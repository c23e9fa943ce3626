package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.concurrent.Callable;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.Executors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What an engine took is the system's again when it is closed, whatever the C library would like to keep. */
class ClosedEngineMemoryTest {
    private static final Path STATUS = Path.of("/proc/self/status");
    private static final int ENGINES = 12;
    private static final int CELLS = 4096;
    /** Keys and values of one engine: 4 layers of 256, F16. */
    private static final long CACHE = 4L * 256 * 2 * 2 * CELLS;

    @TempDir
    private Path folder;

    @Test
    void enginesOfManyThreadsLeaveNothingResident() throws Exception {
        assumeTrue(Files.exists(STATUS), "skipped: only Linux tells");
        var file = folder.resolve("model.gguf");
        RandomModel.llama(4, 256, 4, 4, 256, 512).write(file);
        try (var model = Model.load(file)) {
            round(model);   // glibc maps the first large blocks, and keeps later ones of that size
            System.gc();
            long before = anonymous();
            round(model);
            round(model);
            System.gc();
            long kept = anonymous() - before;
            assertTrue(kept < ENGINES * CACHE / 4, kept + " bytes are resident after " + ENGINES + " engines of " + CACHE + " were closed");
        }
    }

    /** All are open at once, each by a thread of its own and so, as far as they go, in arenas of their own. */
    private static void round(Model model) throws Exception {
        var options = EngineOptions.defaults().withContextSize(CELLS).withThreads(1);
        var open = new CyclicBarrier(ENGINES);
        var all = new ArrayList<Callable<Void>>();
        for (int i = 0; i < ENGINES; i++) {
            all.add(() -> {
                try (var engine = Engine.open(model, options)) {
                    open.await();
                }
                return null;
            });
        }
        try (var pool = Executors.newFixedThreadPool(ENGINES)) {
            for (var ended : pool.invokeAll(all)) {
                ended.get();
            }
        }
    }

    private static long anonymous() throws IOException {
        var line = Files.readAllLines(STATUS).stream().filter(l -> l.startsWith("RssAnon:")).findFirst();
        assumeTrue(line.isPresent(), "skipped: this kernel does not tell");
        return 1024 * Long.parseLong(line.get().replaceAll("\\D+", ""));
    }
}
