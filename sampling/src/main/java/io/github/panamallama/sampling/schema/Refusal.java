package io.github.panamallama.sampling.schema;

/** A schema, or a keyword of it, that no mask can enforce; becomes the caller's exception at the edge of this package. */
public final class Refusal extends RuntimeException {
    private final String pointer;
    private final String keyword;

    /** @param pointer JSON pointer of the keyword, from the root of its document; null where the place is not known yet */
    Refusal(String pointer, String message) {
        this(pointer, null, message);
    }

    private Refusal(String pointer, String keyword, String message) {
        super(message, null, false, false);
        this.pointer = pointer;
        this.keyword = keyword;
    }

    public String pointer() {
        return pointer;
    }

    /** Of a keyword whose place is not known where this is found out. */
    static Refusal of(String keyword, String message) {
        return new Refusal(null, keyword, message);
    }

    /** Null unless it was made {@link #of} one. */
    String keyword() {
        return keyword;
    }

    /** The same with a place, unless there is one. */
    Refusal at(String place) {
        return pointer != null ? this : new Refusal(place, getMessage());
    }
}
