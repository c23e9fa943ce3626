package io.github.panamallama.examples.cli;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * What happens on Ctrl-C and on SIGTERM. The JVM answers both by running shutdown hooks while the command goes on; leaving the
 * process with native threads in the middle of a decode is asking for a crash, so the hook cancels the work and waits for the
 * command to come back.
 */
final class Interrupts {
    /** How long the exit waits for a cancelled command; one decode step of a large model is far below. */
    private static final long PATIENCE_SECONDS = 5;

    private final CountDownLatch finished = new CountDownLatch(1);
    private volatile Runnable cancel = () -> { };
    private volatile boolean raised;

    static Interrupts install() {
        var interrupts = new Interrupts();
        Runtime.getRuntime().addShutdownHook(new Thread(interrupts::raiseAndWait, "interrupt"));
        return interrupts;
    }

    /** Sets what ends the work in progress; called from another thread. Runs it at once where the interrupt came first. */
    void onInterrupt(Runnable action) {
        cancel = action;
        if (raised) {
            action.run();
        }
    }

    boolean raised() {
        return raised;
    }

    /** The command has returned and let go of native code. */
    void finished() {
        finished.countDown();
    }

    void raise() {
        raised = true;
        cancel.run();
    }

    private void raiseAndWait() {
        if (finished.getCount() == 0) {
            return;     // an ordinary exit
        }
        raise();
        try {
            finished.await(PATIENCE_SECONDS, TimeUnit.SECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
