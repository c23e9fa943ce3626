package io.github.panamallama;

/** Why a generation ended. */
public enum FinishReason {
    /** The model said that it is done. */
    END,
    /** A stop text was written. */
    STOP,
    /** As many tokens as were asked for. */
    MAX_TOKENS,
    /** The context has no room for another token. */
    CONTEXT_FULL,
    /** It was closed before it was done. */
    CANCELLED
}
