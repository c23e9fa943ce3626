package io.github.panamallama.sampling.schema;

/** A schema, or a keyword of it, that no mask can enforce; becomes the caller's exception at the edge of this package. */
public final class Refusal extends RuntimeException {
    private final String pointer;

    /** @param pointer JSON pointer of the keyword, from the root of its document; null where the place is not known yet */
    Refusal(String pointer, String message) {
        super(message, null, false, false);
        this.pointer = pointer;
    }

    public String pointer() {
        return pointer;
    }

    /** The same with a place, unless there is one. */
    Refusal at(String place) {
        return pointer != null ? this : new Refusal(place, getMessage());
    }
}
