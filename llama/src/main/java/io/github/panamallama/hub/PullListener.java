package io.github.panamallama.hub;

/** Follows a pull, and may end it. Called by the thread that pulls, some times a second. */
public interface PullListener {
    /** Takes no notice. */
    PullListener NONE = progress -> { };

    void progress(Progress progress);

    /** Something worth a line: a connection that broke and is tried again, another process that pulls the same. */
    default void note(String line) {
    }

    /** Whether to stop; what has arrived is kept for the next pull. */
    default boolean cancelled() {
        return false;
    }

    /**
     * How far a pull is.
     *
     * @param file  being fetched, as the repository names it
     * @param part  number of the file, from 1
     * @param parts files of the model
     * @param done  bytes of all files that are here, those of earlier pulls included
     * @param total bytes of all files
     */
    record Progress(String file, int part, int parts, long done, long total) {
    }
}
