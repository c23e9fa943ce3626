package io.github.panamallama;

import io.github.panamallama.runtime.LlamaException;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;

/**
 * The worker JVM of an {@link IsolatedLlama} ended, or was killed because it hung, before it had answered. The message says how and when,
 * and shows the end of what it printed. This process is unharmed, and a new worker is started for later calls.
 */
public final class WorkerDiedException extends LlamaException {
    /** How far the worker had come. */
    public enum Phase {
        /** The JVM had not answered yet. */
        STARTING,
        /** The model was being loaded. */
        LOADING,
        /** The model was loaded. */
        SERVING
    }

    /** How a worker ended, told to every call that it left behind. */
    record Death(String message, Phase phase, OptionalInt exitCode, List<String> output, Path crashReport) {
    }

    private final transient Death death;

    WorkerDiedException(Death death) {
        super(death.message);
        this.death = death;
    }

    /** @param why put before the message */
    WorkerDiedException(String why, Death death) {
        super(why + death.message);
        this.death = death;
    }

    Death death() {
        return death;
    }

    /** When it died. */
    public Phase phase() {
        return death.phase;
    }

    /** The exit code; 128 and a signal's number on systems that have signals. Empty if no process could be started. */
    public OptionalInt exitCode() {
        return death.exitCode;
    }

    /** The last lines that it printed. */
    public List<String> output() {
        return death.output;
    }

    /** The report that the JVM wrote about a crash ({@code hs_err}). */
    public Optional<Path> crashReport() {
        return Optional.ofNullable(death.crashReport);
    }
}
