package io.github.panamallama.quantization;

/** Told what is done, in the thread that works. What it throws ends the work, and nothing is left behind then. */
@FunctionalInterface
public interface Progress {
    /** Tells nobody. */
    Progress NONE = (what, done, total) -> { };

    /**
     * @param what a tensor's name, or what is read
     * @param done of {@code total}
     */
    void update(String what, int done, int total);
}
