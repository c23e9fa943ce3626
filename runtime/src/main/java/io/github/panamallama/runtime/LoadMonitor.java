package io.github.panamallama.runtime;

import io.github.panamallama.bindings.pl_flags;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.VarHandle;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * Carries progress and cancellation between a native load and the caller without upcalls: the load reads and writes
 * {@code struct pl_flags}, this thread looks at them every 50 ms.
 */
final class LoadMonitor implements AutoCloseable {
    private static final int INTERVAL_MILLIS = 50;
    private static final VarHandle INT = ValueLayout.JAVA_INT.varHandle();
    private static final VarHandle FLOAT = ValueLayout.JAVA_FLOAT.varHandle();
    private static final long CANCEL = pl_flags.cancel$offset();
    private static final long PROGRESS = pl_flags.progress$offset();

    private final Arena arena = Arena.ofShared();
    private final MemorySegment flags = pl_flags.allocate(arena);
    private final ModelOptions options;
    private final Thread loading = Thread.currentThread();
    private final CountDownLatch done = new CountDownLatch(1);
    private final Thread thread;

    private double told = -1;
    private Throwable thrown;
    private boolean cancelled;

    /** Starts watching on behalf of the current thread. */
    LoadMonitor(ModelOptions options) {
        this.options = options;
        flags.fill((byte) 0);
        thread = Thread.ofPlatform().daemon().name("panama-llama-load").unstarted(this::watch);
    }

    MemorySegment flags() {
        return flags;
    }

    /** The first look, before anything is loaded; throws what the caller's callbacks throw. */
    void start() {
        look(0);
        rethrow();
        thread.start();
    }

    /** The last look, after a load that succeeded. */
    void finish() {
        stop();
        if (thrown == null) {
            look(1);
        }
    }

    /** Ends watching: the fields may be read afterwards. */
    void stop() {
        done.countDown();
        boolean interrupted = false;
        while (thread.getState() != Thread.State.NEW) {
            try {
                thread.join();
                break;
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            loading.interrupt();
        }
    }

    boolean cancelled() {
        return cancelled;
    }

    /** Throws what a callback threw, if one did. */
    void rethrow() {
        switch (thrown) {
            case null -> { }
            case RuntimeException e -> throw e;
            case Error e -> throw e;
            // only by a callback that hides a checked exception from the compiler
            default -> throw new ModelLoadException("loading was ended by a callback: " + thrown, thrown, true);
        }
    }

    private void watch() {
        try {
            while (!done.await(INTERVAL_MILLIS, TimeUnit.MILLISECONDS)) {
                look((float) FLOAT.getVolatile(flags, PROGRESS));
            }
        } catch (InterruptedException e) {
            // nobody interrupts this thread; if someone does, the load just goes on unwatched
        }
    }

    private void look(double progress) {
        if (thrown != null || cancelled) {
            return;
        }
        try {
            if (options.progress() != null && progress > told) {
                told = progress;
                options.progress().accept(Math.min(1, progress));
            }
            if (loading.isInterrupted() || options.cancellation() != null && options.cancellation().getAsBoolean()) {
                cancelled = true;
            }
        } catch (Throwable t) {
            thrown = t;
        }
        if (thrown != null || cancelled) {
            INT.setVolatile(flags, CANCEL, 1);
        }
    }

    @Override
    public void close() {
        stop();
        arena.close();
    }
}
