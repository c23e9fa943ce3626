package io.github.panamallama.runtime;

/**
 * The machine, or the container that the program runs in, hasn't the memory that was asked for. Nothing was allocated. Native code
 * would not fail but fill its buffers until the system ends the process.
 */
public final class InsufficientMemoryException extends LlamaException {
    private final transient MemoryEstimate estimate;
    private final long available;

    /**
     * @param estimate  what was asked for
     * @param available what there was, in bytes
     */
    public InsufficientMemoryException(String message, MemoryEstimate estimate, long available) {
        super(message);
        this.estimate = estimate;
        this.available = available;
    }

    /** What was asked for. */
    public MemoryEstimate estimate() {
        return estimate;
    }

    /** What there was, in bytes. */
    public long available() {
        return available;
    }
}
