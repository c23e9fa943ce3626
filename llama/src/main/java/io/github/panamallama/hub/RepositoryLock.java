package io.github.panamallama.hub;

import io.github.panamallama.hub.HubException.Reason;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** One pull or removal at a time per repository, between threads and processes. The file stays; the operating system lets go of it. */
final class RepositoryLock implements AutoCloseable {
    private final FileChannel channel;

    private RepositoryLock(FileChannel channel) {
        this.channel = channel;
    }

    static RepositoryLock take(Path folder, HubModel model, PullListener listener) throws IOException {
        var path = folder.resolve(".locks").resolve(model.owner() + "--" + model.name() + ".lock");
        Files.createDirectories(path.getParent());
        var channel = FileChannel.open(path, StandardOpenOption.CREATE, StandardOpenOption.WRITE);
        try {
            for (boolean told = false; lock(channel) == null; told = true) {
                if (!told) {
                    listener.note("waiting for another pull of " + model.repository());
                }
                if (listener.cancelled()) {
                    throw new HubException(Reason.CANCELLED, "cancelled while another pull of " + model.repository() + " was waited for");
                }
                Thread.sleep(Connection.GLANCE);
            }
            return new RepositoryLock(channel);
        } catch (InterruptedException e) {
            channel.close();
            Thread.currentThread().interrupt();
            throw new HubException(Reason.CANCELLED, "interrupted while another pull of " + model.repository() + " was waited for", e);
        } catch (IOException | RuntimeException e) {
            channel.close();
            throw e;
        }
    }

    /** Null while another holds it. */
    private static FileLock lock(FileChannel channel) throws IOException {
        try {
            return channel.tryLock();
        } catch (OverlappingFileLockException e) {
            return null;    // another thread of this process
        }
    }

    @Override
    public void close() throws IOException {
        channel.close();
    }
}
