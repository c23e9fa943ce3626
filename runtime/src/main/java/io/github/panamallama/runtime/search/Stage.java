package io.github.panamallama.runtime.search;

/**
 * One round of a {@link Tournament}.
 *
 * @param survivors how many candidates go on
 * @param tokens    that each is tried on
 */
public record Stage(int survivors, int tokens) {
    public Stage {
        if (survivors < 1 || tokens < 1) {
            throw new IllegalArgumentException("a stage with " + survivors + " survivors and " + tokens
                    + " tokens; both must be at least 1");
        }
    }
}
