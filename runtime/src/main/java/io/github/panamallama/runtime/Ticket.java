package io.github.panamallama.runtime;

import java.util.concurrent.locks.LockSupport;

/**
 * One blocked call and the pieces of work it waits for. The leader counts them down; the caller wakes at zero.
 */
final class Ticket {
    private Thread waiter;
    private int remaining;
    private volatile boolean done = true;

    /** Called by the caller, before its work is handed over. */
    void open(Thread caller, int pieces) {
        waiter = caller;
        remaining = pieces;
        done = false;
    }

    /** Called by the leader when one piece is finished, well or badly. */
    void finishOne() {
        if (--remaining == 0) {
            var caller = waiter;
            done = true;
            if (caller != Thread.currentThread()) {
                LockSupport.unpark(caller);
            }
        }
    }

    boolean done() {
        return done;
    }

    Thread waiter() {
        return waiter;
    }
}
