package io.github.panamallama.runtime;

/**
 * The machine, the container that the program runs in, or a device hasn't the memory that was asked for. Nothing stays allocated. Of the
 * machine's own memory it is refused before: native code would not fail but fill its buffers until the system ends the process. Devices
 * are asked.
 */
public final class InsufficientMemoryException extends LlamaException {
    private final transient MemoryEstimate estimate;
    private final long available;
    private final String place;

    /**
     * @param estimate  what was asked for
     * @param available what there was, in bytes
     */
    public InsufficientMemoryException(String message, MemoryEstimate estimate, long available) {
        this(message, estimate, available, estimate.host().name());
    }

    /** @param place the device, by its name in the estimate */
    public InsufficientMemoryException(String message, MemoryEstimate estimate, long available, String place) {
        super(message);
        this.estimate = estimate;
        this.available = available;
        this.place = place;
    }

    /** What was asked for. */
    public MemoryEstimate estimate() {
        return estimate;
    }

    /** Where memory was short: a name in the estimate, that of the machine's own memory being {@code CPU}. */
    public String place() {
        return place;
    }

    /** What there was in that place, in bytes. */
    public long available() {
        return available;
    }
}
