package io.github.panamallama.sampling.grammar;

import java.util.Objects;

/**
 * What wakes a lazy grammar.
 *
 * @param text     the text to wait for, wherever token borders fall; null for a token
 * @param token    the token to wait for; -1 for a text
 * @param included whether the grammar describes the trigger too, or only what comes after it
 */
public record Trigger(String text, int token, boolean included) {
    public Trigger {
        if (text == null == token < 0) {
            throw new IllegalArgumentException("a trigger is either a text or a token");
        }
        if (text != null && text.isEmpty()) {
            throw new IllegalArgumentException("an empty text can't be waited for");
        }
    }

    /** Waits for a text; the grammar describes what comes after it. */
    public static Trigger after(String text) {
        return new Trigger(Objects.requireNonNull(text), -1, false);
    }

    /** Waits for a text with which the grammar begins. */
    public static Trigger at(String text) {
        return new Trigger(Objects.requireNonNull(text), -1, true);
    }

    /** Waits for a token; the grammar describes what comes after it. */
    public static Trigger after(int token) {
        return new Trigger(null, token, false);
    }

    /** Waits for a token with which the grammar begins, by its number or by its text. */
    public static Trigger at(int token) {
        return new Trigger(null, token, true);
    }
}
