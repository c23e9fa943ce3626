package io.github.panamallama.examples.cli;

import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/**
 * Where a command reads and writes. Text is UTF-8 in both directions whatever the locale says: models and source files are.
 *
 * @param in          standard input
 * @param out         what the user asked for, and nothing else
 * @param err         notes, progress and errors
 * @param interactive whether a person types and reads: both ends are a terminal
 */
record Shell(InputStream in, PrintStream out, PrintStream err, boolean interactive) {

    static Shell ofProcess() {
        var console = System.console();
        return new Shell(
                System.in,
                new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8),
                new PrintStream(new FileOutputStream(FileDescriptor.err), true, StandardCharsets.UTF_8),
                console != null && console.isTerminal());
    }

    void note(String message) {
        out.flush();
        err.println("panama-llama: " + message);
    }

    /** Prints a piece of the answer at once. */
    void print(String piece) {
        out.print(piece);
        flush();
    }

    void println(String line) {
        out.println(line);
        flush();
    }

    /** Flushes; a reader that went away ({@code | head}) ends the command. */
    void flush() {
        if (out.checkError()) {
            throw new OutputClosedException();
        }
    }

    BufferedReader lines() {
        return new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8));
    }

    String readAll() throws IOException {
        return Sources.decode(in.readAllBytes(), "standard input");
    }

    /** Nobody reads the output any more. */
    static final class OutputClosedException extends RuntimeException {
        private static final long serialVersionUID = 1;

        OutputClosedException() {
            super("the output is closed");
        }
    }
}
