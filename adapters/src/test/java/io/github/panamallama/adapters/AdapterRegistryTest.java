package io.github.panamallama.adapters;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.ClosedException;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AdapterRegistryTest {
    @TempDir
    Path folder;

    private Model model;
    private long size;

    @BeforeEach
    void load() {
        var file = folder.resolve("model.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(file);
        model = Model.load(file);
        try (var adapter = Adapter.load(model, file("probe", 4))) {
            size = adapter.sizeBytes();
        }
    }

    @AfterEach
    void close() {
        model.close();
    }

    /** A new adapter; those of equal rank are of equal size. */
    private Path file(String name, int rank) {
        var file = folder.resolve(name + ".gguf");
        RandomAdapters.adapter(name, 1, RandomAdapters.target(new Random(name.hashCode()), "blk.1.attn_q.weight", rank, 64, 64, 1))
                .write(file, GgmlType.F32);
        return file;
    }

    @Test
    void whatIsAskedForTwiceIsLoadedOnce() {
        try (var registry = new AdapterRegistry(model, 10 * size); var one = registry.acquire(file("a", 4)).join();
                var two = registry.acquire(folder.resolve(".").resolve("a.gguf")).join()) {
            assertSame(one.adapter(), two.adapter());
            assertEquals("a", one.adapter().name());
            assertEquals(size, registry.usedBytes());
        }
    }

    @Test
    void theOneAskedForLongestAgoMakesRoom() throws IOException {
        try (var registry = new AdapterRegistry(model, 2 * size)) {
            var a = use(registry, file("a", 4));
            var b = use(registry, file("b", 4));
            assertSame(a, use(registry, folder.resolve("a.gguf")));
            var c = use(registry, file("c", 4));
            assertTrue(b.closed());
            assertFalse(a.closed() || c.closed());
            assertEquals(List.of(folder.resolve("a.gguf").toRealPath(), folder.resolve("c.gguf").toRealPath()), registry.resident());
            assertEquals(2 * size, registry.usedBytes());
            assertNotSame(b, use(registry, folder.resolve("b.gguf")));
        }
    }

    /** The adapter, not held any more. */
    private static Adapter use(AdapterRegistry registry, Path file) {
        try (var lease = registry.acquire(file).join()) {
            return lease.adapter();
        }
    }

    @Test
    void whatALeaseOrASequenceUsesIsNeverClosed() {
        try (var registry = new AdapterRegistry(model, size);
                var engine = Engine.open(model, EngineOptions.defaults().withContextSize(64))) {
            var lease = registry.acquire(file("a", 4)).join();
            var other = file("b", 4);
            var e = fails(AdapterException.class, registry.acquire(other));
            assertTrue(e.getMessage().contains("" + size) && e.getMessage().contains("in use by 1 other"), e.getMessage());
            var adapter = lease.adapter();
            try (var sequence = engine.newSequence(AdapterSet.of(adapter))) {
                lease.close();
                lease.close();
                fails(AdapterException.class, registry.acquire(other));
                assertFalse(adapter.closed());
                assertTrue(assertThrows(LlamaException.class, registry::close).getMessage().contains("1 adapter is in use"));
                assertFalse(adapter.closed());
            }
        }
    }

    @Test
    void aSequenceThatEndsMakesItsAdapterReplaceable() {
        try (var registry = new AdapterRegistry(model, size);
                var engine = Engine.open(model, EngineOptions.defaults().withContextSize(64))) {
            Adapter adapter;
            try (var lease = registry.acquire(file("a", 4)).join(); var sequence = engine.newSequence(AdapterSet.of(lease.adapter()))) {
                adapter = sequence.adapters().entries().getFirst().adapter();
            }
            use(registry, file("b", 4));
            assertTrue(adapter.closed());
        }
    }

    @Test
    void moreThanTheBudgetIsRefusedAndDisplacesNothing() {
        try (var registry = new AdapterRegistry(model, 2 * size)) {
            var a = use(registry, file("a", 4));
            var e = fails(AdapterException.class, registry.acquire(file("large", 16)));
            assertTrue(e.getMessage().contains("budget is " + 2 * size), e.getMessage());
            assertFalse(a.closed());
            assertEquals(size, registry.usedBytes());
        }
        assertThrows(IllegalArgumentException.class, () -> new AdapterRegistry(model, 0));
    }

    @Test
    void filesThatCanNotBeLoadedAreRefusedAndDisplaceNothing() throws IOException {
        try (var registry = new AdapterRegistry(model, size)) {
            var a = use(registry, file("a", 4));
            assertTrue(fails(AdapterException.class, registry.acquire(folder.resolve("missing.gguf"))).getMessage()
                    .contains("missing.gguf"));
            var cut = file("cut", 4);
            Files.write(cut, Arrays.copyOf(Files.readAllBytes(cut), 200));
            fails(GgufException.class, registry.acquire(cut));
            fails(AdapterException.class, registry.acquire(folder.resolve("model.gguf")));
            var deep = folder.resolve("deep.gguf");
            RandomAdapters.adapter("deep", 1, RandomAdapters.target(new Random(1), "blk.9.attn_q.weight", 4, 64, 64, 1))
                    .write(deep, GgmlType.F32);
            assertTrue(fails(AdapterException.class, registry.acquire(deep)).getMessage().contains("blk.9.attn_q.weight"));
            assertFalse(a.closed());
            assertEquals(size, registry.usedBytes());
        }
    }

    @Test
    void loadingGoesOnInTheBackgroundAndOthersAreServedMeanwhile() throws InterruptedException {
        var started = new CountDownLatch(1);
        var go = new CountDownLatch(1);
        var loads = new AtomicInteger();
        try (var registry = new AdapterRegistry(model, 10 * size, slow("slow", started, go, loads))) {
            var slow = registry.acquire(file("slow", 4));
            var again = registry.acquire(folder.resolve("slow.gguf"));
            started.await();
            use(registry, file("quick", 4));
            assertFalse(slow.isDone() || again.isDone());
            assertEquals(2 * size, registry.usedBytes(), "room is reserved for what is being loaded");
            go.countDown();
            try (var one = slow.join(); var two = again.join()) {
                assertSame(one.adapter(), two.adapter());
            }
            assertEquals(1, loads.get());
        }
    }

    @Test
    void aCancelledRequestHoldsNothing() throws InterruptedException {
        var started = new CountDownLatch(1);
        var go = new CountDownLatch(1);
        try (var registry = new AdapterRegistry(model, size, slow("slow", started, go, new AtomicInteger()))) {
            var future = registry.acquire(file("slow", 4));
            started.await();
            // this one shares the load, and tells when it has ended
            var shared = registry.acquire(folder.resolve("slow.gguf"));
            assertTrue(future.cancel(false));
            go.countDown();
            shared.join().close();
            // succeeds as soon as the cancelled request has given its lease back
            CompletableFuture<AdapterRegistry.Lease> next;
            var file = file("next", 4);
            do {
                next = registry.acquire(file);
                next.exceptionally(e -> null).join();
            } while (next.isCompletedExceptionally());
            next.join().close();
        }
    }

    @Test
    void closingWhileSomethingIsLoadedClosesItAfterwards() throws InterruptedException {
        var started = new CountDownLatch(1);
        var go = new CountDownLatch(1);
        var registry = new AdapterRegistry(model, size, slow("slow", started, go, new AtomicInteger()));
        var future = registry.acquire(file("slow", 4));
        started.await();
        registry.close();
        go.countDown();
        fails(ClosedException.class, future);
        assertEquals(0, registry.usedBytes());
        fails(ClosedException.class, registry.acquire(file("a", 4)));
    }

    @Test
    void anAdapterThatIsLeasedWhenTheRegistryClosesIsClosedWithItsLease() {
        var registry = new AdapterRegistry(model, size);
        var lease = registry.acquire(file("a", 4)).join();
        registry.close();
        assertFalse(lease.adapter().closed());
        lease.close();
        assertTrue(lease.adapter().closed());
        assertEquals(0, registry.usedBytes());
    }

    @Test
    void aFileThatChangedIsLoadedAnew() throws IOException {
        try (var registry = new AdapterRegistry(model, 10 * size)) {
            var before = use(registry, file("a", 4));
            var file = file("a", 8);
            Files.setLastModifiedTime(file, FileTime.fromMillis(1_000_000_000_000L));
            assertEquals(8, use(registry, file).maxRank());
            assertFalse(before.closed(), "who still has the old one may use it on");
        }
    }

    @Test
    void nolaFilesAreExpanded() {
        var file = folder.resolve("nola.gguf");
        float[] coefficients = {0.5f, -1, 2};
        new NolaAdapter("llama", "nola", NolaAdapter.baseHash(GgufFile.readParts(model.path())), 4, 4,
                List.of(new NolaAdapter.Target("blk.0.attn_q.weight", 3, 64, 64, coefficients, coefficients))).write(file, GgmlType.F32);
        var other = folder.resolve("other.gguf");
        new NolaAdapter("llama", "other", "0".repeat(64), 4, 4,
                List.of(new NolaAdapter.Target("blk.0.attn_q.weight", 3, 64, 64, coefficients, coefficients))).write(other, GgmlType.F32);
        try (var registry = new AdapterRegistry(model, size); var lease = registry.acquire(file).join()) {
            assertEquals("nola", lease.adapter().name());
            assertEquals(4, lease.adapter().maxRank());
            assertFalse(Files.exists(lease.adapter().path()), "the expanded file is gone");
            assertTrue(fails(AdapterException.class, registry.acquire(other)).getMessage().contains("hash"));
        }
    }

    @Test
    void manyThreadsNeverSeeAClosedAdapterOrExceedTheBudget() throws Exception {
        long seed = 20261129;
        System.out.println("seed " + seed);
        var files = new ArrayList<Path>();
        for (int i = 0; i < 8; i++) {
            files.add(file("shared" + i, 4));
        }
        try (var registry = new AdapterRegistry(model, 3 * size); var pool = Executors.newVirtualThreadPerTaskExecutor()) {
            var work = new ArrayList<Future<Integer>>();
            for (int t = 0; t < 6; t++) {
                var random = new Random(seed + t);
                work.add(pool.submit(() -> {
                    int served = 0;
                    for (int i = 0; i < 100; i++) {
                        var file = files.get(random.nextInt(files.size()));
                        try (var lease = registry.acquire(file).join()) {
                            Thread.yield();
                            assertFalse(lease.adapter().closed());
                            assertEquals(file.getFileName(), lease.adapter().path().getFileName());
                            served++;
                        } catch (CompletionException e) {
                            assertTrue(e.getCause().getMessage().contains("in use"), () -> e.getCause().toString());
                        }
                        assertTrue(registry.usedBytes() <= 3 * size);
                    }
                    return served;
                }));
            }
            int served = 0;
            for (var future : work) {
                served += future.get();
            }
            assertTrue(served > 0, "served " + served);
        }
    }

    /** Loads a file of this name only after {@code go}. */
    private Function<Path, Adapter> slow(String name, CountDownLatch started, CountDownLatch go, AtomicInteger loads) {
        return file -> {
            if (AdapterFile.read(file).name().equals(name)) {
                loads.incrementAndGet();
                started.countDown();
                try {
                    go.await();
                } catch (InterruptedException e) {
                    throw new AssertionError(e);
                }
            }
            return Adapter.load(model, file);
        };
    }

    private static <T extends Throwable> T fails(Class<T> type, CompletableFuture<AdapterRegistry.Lease> future) {
        return assertInstanceOf(type, assertThrows(CompletionException.class, future::join).getCause());
    }
}
