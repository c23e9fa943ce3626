package io.github.panamallama;

import java.nio.file.Path;
import java.time.Duration;
import java.util.List;

/**
 * How a worker JVM is kept. Start from {@link #defaults} and change what matters:
 * {@code IsolationOptions.defaults().withHeap(256).withCallDeadline(Duration.ofSeconds(30))}.
 *
 * @param heap             most memory of the worker's Java heap, in MiB; 0 leaves it to the JVM. Weights and context are outside of it
 * @param startDeadline    longest time from the start of the process until the model is loaded
 * @param callDeadline     longest time that a caller waits for an answer or for the next piece of a text, the evaluation of its prompt and
 *                         the wait for others included; after that the worker counts as hung and is killed
 * @param heartbeatTimeout longest time without any sign of life; after that the worker is killed. At least a second
 * @param backOff          pause before the second restart in a row; it doubles with each further one. The first comes at once
 * @param longestBackOff   longest such pause
 * @param restarts         restarts in a row, without a call that ended well between them, after which the worker stays down; 0 for none
 * @param jvmOptions       further options of the worker's JVM, behind the usual ones; {@code -cp} among them replaces the class path
 * @param crashFolder      where the JVM writes its {@code hs_err} report; null for the temporary folder
 */
public record IsolationOptions(int heap, Duration startDeadline, Duration callDeadline, Duration heartbeatTimeout, Duration backOff,
        Duration longestBackOff, int restarts, List<String> jvmOptions, Path crashFolder) {
    private static final IsolationOptions DEFAULTS = new IsolationOptions(512, Duration.ofMinutes(10), Duration.ofMinutes(10),
            Duration.ofSeconds(30), Duration.ofMillis(250), Duration.ofSeconds(30), 5, List.of(), null);

    public IsolationOptions {
        jvmOptions = List.copyOf(jvmOptions);
        if (heap < 0 || restarts < 0) {
            throw new IllegalArgumentException("heap is " + heap + " and restarts " + restarts + "; they must be 0 or more");
        }
        positive("startDeadline", startDeadline);
        positive("callDeadline", callDeadline);
        positive("backOff", backOff);
        positive("longestBackOff", longestBackOff);
        if (heartbeatTimeout.compareTo(Duration.ofSeconds(1)) < 0) {
            throw new IllegalArgumentException("heartbeatTimeout is " + heartbeatTimeout + "; it must be at least a second");
        }
    }

    /** A heap of 512 MiB, ten minutes to load and for each answer, five restarts in a row. */
    public static IsolationOptions defaults() {
        return DEFAULTS;
    }

    public IsolationOptions withHeap(int mebibytes) {
        return new IsolationOptions(mebibytes, startDeadline, callDeadline, heartbeatTimeout, backOff, longestBackOff, restarts, jvmOptions,
                crashFolder);
    }

    public IsolationOptions withStartDeadline(Duration deadline) {
        return new IsolationOptions(heap, deadline, callDeadline, heartbeatTimeout, backOff, longestBackOff, restarts, jvmOptions,
                crashFolder);
    }

    public IsolationOptions withCallDeadline(Duration deadline) {
        return new IsolationOptions(heap, startDeadline, deadline, heartbeatTimeout, backOff, longestBackOff, restarts, jvmOptions,
                crashFolder);
    }

    public IsolationOptions withHeartbeatTimeout(Duration timeout) {
        return new IsolationOptions(heap, startDeadline, callDeadline, timeout, backOff, longestBackOff, restarts, jvmOptions,
                crashFolder);
    }

    public IsolationOptions withBackOff(Duration first, Duration longest) {
        return new IsolationOptions(heap, startDeadline, callDeadline, heartbeatTimeout, first, longest, restarts, jvmOptions, crashFolder);
    }

    public IsolationOptions withRestarts(int count) {
        return new IsolationOptions(heap, startDeadline, callDeadline, heartbeatTimeout, backOff, longestBackOff, count, jvmOptions,
                crashFolder);
    }

    public IsolationOptions withJvmOptions(String... options) {
        return new IsolationOptions(heap, startDeadline, callDeadline, heartbeatTimeout, backOff, longestBackOff, restarts,
                List.of(options), crashFolder);
    }

    public IsolationOptions withCrashFolder(Path folder) {
        return new IsolationOptions(heap, startDeadline, callDeadline, heartbeatTimeout, backOff, longestBackOff, restarts, jvmOptions,
                folder);
    }

    private static void positive(String name, Duration value) {
        if (value.isNegative() || value.isZero()) {
            throw new IllegalArgumentException(name + " is " + value + "; it must be longer than nothing");
        }
    }
}
