package io.github.panamallama.sampling;

/**
 * Which tokens may come next on one branch of text: a grammar, a list of choices, anything that can be decided token by token. One per
 * branch; one caller at a time. Forking and comparing are cheap.
 */
public interface Constraint {
    /**
     * The tokens allowed after the accepted ones; end-of-generation tokens among them exactly where {@link #complete}. Read-only for
     * the caller, who may keep it until the next {@link #accept} or {@link #rollback}. Empty at a dead end: some text was accepted
     * that no token of this vocabulary continues.
     */
    TokenMask mask();

    /** Whether {@code token} may come next; cheaper than {@link #mask} for a single token. */
    boolean allows(int token);

    /**
     * Moves on by one token.
     *
     * @throws ConstraintException if the token is not allowed; the state stays as it was
     */
    void accept(int token);

    /**
     * Undoes the last {@code tokens} calls of {@link #accept}.
     *
     * @throws IllegalArgumentException if fewer tokens were accepted, or {@code tokens} is negative
     */
    void rollback(int tokens);

    /** An independent constraint in the same state. */
    Constraint fork();

    /** Whether the text so far may end here. */
    boolean complete();

    /** Whether an end-of-generation token was accepted: nothing may follow. */
    boolean ended();

    /**
     * Text that must come next whatever tokens it is made of, as far as that is cheap to see; empty if there is a choice. More than {@link
     * #mask} shows: several tokens may begin it.
     */
    default String forcedText() {
        return "";
    }

    /** Equal for two branches of the same constraint exactly if the same continuations are allowed, as far as that is cheap to see. */
    Object state();
}
