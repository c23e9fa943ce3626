package io.github.panamallama.runtime;

/** An adapter can't be closed while sequences use it; it stays open and usable. */
public final class AdapterInUseException extends LlamaException {
    private final int sequences;

    public AdapterInUseException(String message, int sequences) {
        super(message);
        this.sequences = sequences;
    }

    /** How many open sequences use it. */
    public int sequences() {
        return sequences;
    }
}
