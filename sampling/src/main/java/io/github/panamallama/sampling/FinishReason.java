package io.github.panamallama.sampling;

/** Why a generation ended. */
public enum FinishReason {
    /** The model said so: a token of the end-of-generation set. */
    STOP,
    /** A stop string was complete. */
    STOP_STRING,
    /** As many tokens as were allowed. */
    LENGTH,
    /** No room in the context for another token. */
    CONTEXT_FULL,
    /** {@link Generator#cancel} or {@link Generator#close}. */
    CANCELLED,
    /** An exception, which the caller of {@link Generator#advance} got. */
    FAILED
}
