package io.github.panamallama.examples.cli;

import java.io.BufferedReader;
import java.io.IOException;

/** One turn per line; the answers alone go to standard output. */
final class PipedConversation implements ChatCommand.Conversation {
    private final Shell shell;
    private final BufferedReader lines;

    PipedConversation(Shell shell) {
        this.shell = shell;
        this.lines = shell.lines();
    }

    @Override
    public String read() {
        try {
            return lines.readLine();
        } catch (IOException e) {
            throw Shell.inputFailed(e);
        }
    }

    @Override
    public void answer(String piece) {
        shell.print(piece);
    }

    @Override
    public void reasoning(String piece) {
        // not part of the answer
    }

    @Override
    public void endOfAnswer() {
        shell.println("");
    }

    @Override
    public void note(String message) {
        message.lines().forEach(shell::note);
    }
}
