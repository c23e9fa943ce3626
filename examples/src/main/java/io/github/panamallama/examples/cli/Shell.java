package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.LlamaException;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.CharacterCodingException;
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
    private static final String INPUT = "standard input";

    static Shell ofProcess() {
        var console = System.console();
        return new Shell(
                System.in,
                new Output(new FileOutputStream(FileDescriptor.out)),
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

    /** Flushes; a reader that went away ({@code | head}) ends the command, as does a full disk. */
    void flush() {
        if (out.checkError()) {
            throw new OutputClosedException(out instanceof Output output ? output.failure() : null);
        }
    }

    /** Lines of standard input; what is not UTF-8 ends reading by a {@link CharacterCodingException}. */
    BufferedReader lines() {
        return new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8.newDecoder()));
    }

    /** @throws CommandException if standard input can't be read, or is not UTF-8 */
    String readAll() {
        try {
            return Sources.decode(in.readAllBytes(), INPUT);
        } catch (IOException e) {
            throw inputFailed(e);
        }
    }

    static CommandException inputFailed(IOException e) {
        return new CommandException("cannot read " + INPUT + ": " + LlamaException.reason(e));
    }

    /** Nobody reads the output any more, or it can't be written. */
    static final class OutputClosedException extends RuntimeException {
        private static final long serialVersionUID = 1;

        private final boolean silent;

        /** @param failure null where nothing is known */
        OutputClosedException(IOException failure) {
            super("can't write the output: " + (failure == null ? "it is closed" : failure.getMessage()), failure);
            // Linux and macOS; Windows
            silent = failure == null
                    || String.valueOf(failure.getMessage()).matches("(?i).*(broken pipe|pipe is being closed|pipe has been ended).*");
        }

        /** Whether a reader went away, as {@code head} does when it has seen enough. */
        boolean isSilent() {
            return silent;
        }
    }

    /** Remembers why it failed, which print streams forget. */
    static final class Output extends PrintStream {
        private final Remembering to;

        Output(OutputStream to) {
            this(new Remembering(to));
        }

        private Output(Remembering to) {
            super(to, false, StandardCharsets.UTF_8);
            this.to = to;
        }

        IOException failure() {
            return to.failure;
        }
    }

    private static final class Remembering extends OutputStream {
        private final OutputStream to;
        private IOException failure;

        Remembering(OutputStream to) {
            this.to = to;
        }

        @Override
        public void write(int value) throws IOException {
            write(new byte[] {(byte) value}, 0, 1);
        }

        @Override
        public void write(byte[] bytes, int offset, int length) throws IOException {
            try {
                to.write(bytes, offset, length);
            } catch (IOException e) {
                failure = e;
                throw e;
            }
        }

        @Override
        public void flush() throws IOException {
            to.flush();
        }
    }
}
