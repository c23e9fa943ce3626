package io.github.panamallama.runtime;

import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.atomic.AtomicLong;

/** Files that appear when they are complete, in place of those that are there; of a failure nothing is left. */
public final class WholeFile {
    private static final AtomicLong UNFINISHED = new AtomicLong();

    private WholeFile() {
    }

    /** What stands in a file. */
    @FunctionalInterface
    public interface Content {
        /** @param out buffered; closed by the caller */
        void writeTo(OutputStream out) throws IOException;
    }

    /**
     * Writes a file.
     *
     * @param what names the content, for the message: {@code the plan}
     * @throws LlamaException if it can't be written, for instance to a full disk; what was there before is there still
     */
    public static void write(Path file, String what, Content content) {
        var target = file.toAbsolutePath();
        var unfinished = target.resolveSibling("." + target.getFileName() + "." + ProcessHandle.current().pid() + "."
                + UNFINISHED.incrementAndGet() + ".part");
        try {
            try {
                try (var channel = FileChannel.open(unfinished, StandardOpenOption.WRITE, StandardOpenOption.CREATE_NEW);
                        var out = new BufferedOutputStream(Channels.newOutputStream(channel))) {
                    content.writeTo(out);
                    out.flush();
                    channel.force(true);
                }
                Quantizer.move(unfinished, target);
            } finally {
                Files.deleteIfExists(unfinished);
            }
        } catch (IOException e) {
            throw new LlamaException("can't write " + what + " to " + file + ": " + LlamaException.reason(e), e);
        }
    }
}
