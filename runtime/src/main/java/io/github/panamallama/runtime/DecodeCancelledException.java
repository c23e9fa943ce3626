package io.github.panamallama.runtime;

/** A decode was cancelled by {@link Sequence#cancel}, an interrupt or a close; the sequence keeps the tokens it had before. */
public final class DecodeCancelledException extends LlamaException {
    public DecodeCancelledException(String message) {
        super(message);
    }
}
