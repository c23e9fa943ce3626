package io.github.panamallama.runtime.gguf;

import io.github.panamallama.runtime.LlamaException;
import java.nio.file.Path;

/** A GGUF file can't be read, or breaks a rule of the format. The message names the file, the place, the field and its value. */
public final class GgufException extends LlamaException {
    private final transient Path path;
    private final long offset;

    /**
     * @param path    the file at fault
     * @param offset  where in the file, in bytes; -1 when no single place is at fault
     * @param message what is wrong; path and place are put before it
     */
    public GgufException(Path path, long offset, String message) {
        this(path, offset, message, null);
    }

    GgufException(Path path, long offset, String message, Throwable cause) {
        super(path + (offset < 0 ? ": " : " at byte " + offset + ": ") + message, cause);
        this.path = path;
        this.offset = offset;
    }

    /** The file at fault. */
    public Path path() {
        return path;
    }

    /** Where in the file, in bytes; -1 when no single place is at fault. */
    public long offset() {
        return offset;
    }
}
