package io.github.panamallama.hub;

import io.github.panamallama.hub.HubException.Reason;

/** The pause before another try: it doubles each time, and ends where the listener wants no more. */
final class Pause {
    private static final int MOST_DOUBLINGS = 6;

    private Pause() {
    }

    static void before(int failures, HubOptions options, Connection connection) {
        long end = System.nanoTime() + options.pause().toNanos() * (1L << Math.min(failures, MOST_DOUBLINGS));
        try {
            for (long left = end - System.nanoTime(); left > 0; left = end - System.nanoTime()) {
                connection.cancelled();
                Thread.sleep(Math.min(Connection.GLANCE.toMillis(), left / 1_000_000 + 1));
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new HubException(Reason.CANCELLED, "interrupted while a model was pulled", e);
        }
    }
}
