package io.github.panamallama.hub;

import io.github.panamallama.runtime.LlamaException;

/** A model could not be fetched, found or removed. The message says why and what to do; {@link #reason} is for programs. */
public final class HubException extends LlamaException {
    private static final long serialVersionUID = 1;

    /** What went wrong. */
    public enum Reason {
        /** There is no such repository, or none that may be seen without a token. */
        NOT_FOUND,
        /** The token is missing, wrong or without the rights; or the model's terms have to be accepted first. */
        DENIED,
        /** The repository has no model of that quantisation, or its files are not what a model consists of. */
        NO_SUCH_FILE,
        /** No connection, or it broke again and again. What has arrived is kept, and the next pull goes on there. */
        CONNECTION,
        /** The other side said something that can't be right: a listing, sizes, redirects. */
        BAD_ANSWER,
        /** The bytes are not those of the listing. They are thrown away. */
        CHECKSUM,
        /** The cache folder can't be written, or is full. What has arrived is kept. */
        STORAGE,
        /** {@link PullListener#cancelled} said so. What has arrived is kept. */
        CANCELLED,
        /** The model is not in the cache folder. */
        NOT_PULLED
    }

    private final Reason reason;

    HubException(Reason reason, String message) {
        this(reason, message, null);
    }

    HubException(Reason reason, String message, Throwable cause) {
        super(message, cause);
        this.reason = reason;
    }

    public Reason reason() {
        return reason;
    }
}
