package io.github.panamallama.examples.cli;

import java.util.Locale;
import java.util.function.LongSupplier;

/** How far a transfer is: a bar where a person is looking, else a line every tenth of the way. */
final class ProgressBar {
    private static final int WIDTH = 24;
    private static final long REDRAW_NANOS = 100_000_000;

    private final Shell shell;
    private final LongSupplier clock;
    private long start;
    private long drawn;
    private long first = -1;
    private int tenth = -1;
    private int length;

    ProgressBar(Shell shell, LongSupplier clock) {
        this.shell = shell;
        this.clock = clock;
    }

    void show(String what, long done, long total) {
        long now = clock.getAsLong();
        if (first < 0) {
            first = done;       // what was there before says nothing about the speed
            start = now;
        } else if (shell.interactive() && done < total && now - drawn < REDRAW_NANOS) {
            return;
        }
        drawn = now;
        var line = line(what, done, total, now);
        if (shell.interactive()) {
            shell.err().print("\r" + InspectCommand.pad(line, length));
            length = line.length();
        } else if (tenths(done, total) > tenth) {
            tenth = tenths(done, total);
            shell.note(line);
        }
    }

    private static int tenths(long done, long total) {
        return (int) (10.0 * done / total);
    }

    private String line(String what, long done, long total, long now) {
        double seconds = (now - start) / 1e9;
        double speed = seconds < 1 ? 0 : (done - first) / seconds;
        int filled = (int) (WIDTH * (double) done / total);
        var line = String.format(Locale.ROOT, "%s [%s%s] %3.0f %%, %s of %s", what, "=".repeat(filled), " ".repeat(WIDTH - filled),
                Math.floor(100.0 * done / total), Units.bytes(done), Units.bytes(total));
        if (speed > 0 && done < total) {
            long left = (long) ((total - done) / speed);
            line += String.format(Locale.ROOT, ", %s/s, %d:%02d left", Units.bytes((long) speed), left / 60, left % 60);
        }
        return line;
    }

    /** Ends the line, if one is open. */
    void end() {
        if (shell.interactive() && length > 0) {
            shell.err().println();
        }
        length = 0;
    }
}
