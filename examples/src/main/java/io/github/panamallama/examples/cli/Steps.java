package io.github.panamallama.examples.cli;

import io.github.panamallama.quantization.Progress;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.function.BooleanSupplier;
import java.util.function.LongSupplier;

/** How far work in steps is: a bar where a person is looking, else a line a minute. Ends the work on Ctrl-C. */
final class Steps implements Progress {
    private static final int WIDTH = 24;
    private static final long LINE_NANOS = 60_000_000_000L;
    /** Before that a guess of what is left would be a bad one. */
    private static final long GUESS_NANOS = 2_000_000_000L;

    /** Steps are told of in turn by the work and by what it has to do first; each has a number of steps of its own. */
    private record Series(long start, int first, int last) {
    }

    private final Shell shell;
    private final BooleanSupplier ends;
    private final LongSupplier clock;
    private final Map<Integer, Series> series = new HashMap<>();
    private long line;

    /**
     * @param ends  whether the work shall end
     * @param clock in nanoseconds
     */
    Steps(Shell shell, BooleanSupplier ends, LongSupplier clock) {
        this.shell = shell;
        this.ends = ends;
        this.clock = clock;
        line = clock.getAsLong();
    }

    @Override
    public void update(String what, int done, int total) {
        if (ends.getAsBoolean()) {
            throw new CancellationException();
        }
        long now = clock.getAsLong();
        var own = series.compute(total, (key, before) -> before == null || done < before.last ? new Series(now, done, done)
                : new Series(before.start, before.first, done));
        if (shell.interactive()) {
            shell.err().print("\r\u001B[K" + (done < total ? text(what, done, total, own, now) : ""));
            shell.err().flush();
        } else if (now - line >= LINE_NANOS) {
            line = now;
            shell.note(text(what, done, total, own, now));
        }
    }

    private static String text(String what, int done, int total, Series own, long now) {
        int filled = WIDTH * done / total;
        var text = String.format(Locale.ROOT, "[%s%s] %d of %d, %s", "=".repeat(filled), " ".repeat(WIDTH - filled), done, total, what);
        long spent = now - own.start;
        if (done == total || done == own.first || spent < GUESS_NANOS) {
            return text;
        }
        long left = Math.round((double) spent / (done - own.first) * (total - done) / 1e9);
        return text + String.format(Locale.ROOT, ", about %d:%02d left", left / 60, left % 60);
    }
}
