package io.github.panamallama.runtime;

/**
 * The native libraries could not be found, unpacked or trusted. Nothing that needs native code works in this process; the message
 * says what was looked for and what to do.
 */
public final class NativeLibraryException extends LlamaException {
    public NativeLibraryException(String message) {
        super(message);
    }

    public NativeLibraryException(String message, Throwable cause) {
        super(message, cause);
    }
}
