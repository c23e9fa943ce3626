package io.github.panamallama.hub;

import io.github.panamallama.hub.Connection.BrokenException;
import java.io.IOException;
import java.io.InputStream;
import java.time.Duration;

/**
 * The body of an answer, read with an end to patience: a thread of its own closes it when nothing has arrived for too long, or when the
 * listener wants no more of it.
 */
final class WatchedBody implements AutoCloseable {
    private final InputStream body;
    private final Duration patience;
    private final PullListener listener;
    private final Thread watch;
    private volatile long lastSign = System.nanoTime();
    private volatile boolean stalled;

    WatchedBody(InputStream body, Duration patience, PullListener listener) {
        this.body = body;
        this.patience = patience;
        this.listener = listener;
        watch = Thread.ofVirtual().name("pull-watch").start(this::watch);
    }

    private void watch() {
        try {
            while (!listener.cancelled()) {
                stalled = System.nanoTime() - lastSign > patience.toNanos();
                if (stalled) {
                    break;
                }
                Thread.sleep(Connection.GLANCE);
            }
            Connection.close(body);
        } catch (InterruptedException e) {
            // read to the end
        }
    }

    /** Fills the buffer as far as the next bytes go; -1 at the end. */
    int read(byte[] buffer) throws BrokenException {
        try {
            int count = body.read(buffer);
            lastSign = System.nanoTime();
            return count;
        } catch (IOException e) {
            throw new BrokenException(stalled ? "nothing has arrived for " + patience.toSeconds() + " s"
                    : "the connection broke (" + Connection.text(e) + ")", e);
        }
    }

    @Override
    public void close() {
        watch.interrupt();
        Connection.close(body);
    }
}
