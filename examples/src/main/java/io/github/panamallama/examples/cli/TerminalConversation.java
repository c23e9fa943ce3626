package io.github.panamallama.examples.cli;

import java.io.IOException;
import org.jline.reader.EndOfFileException;
import org.jline.reader.LineReader;
import org.jline.reader.LineReaderBuilder;
import org.jline.reader.UserInterruptException;
import org.jline.reader.impl.DefaultParser;
import org.jline.reader.impl.completer.StringsCompleter;
import org.jline.terminal.Terminal;
import org.jline.terminal.TerminalBuilder;
import org.jline.utils.AttributedStringBuilder;
import org.jline.utils.AttributedStyle;

/** A person at a terminal: line editing, history of this session, and Ctrl-C for the answer alone. */
final class TerminalConversation implements ChatCommand.Conversation, AutoCloseable {
    private static final AttributedStyle DIM = AttributedStyle.DEFAULT.faint();

    private final Terminal terminal;
    private final LineReader reader;
    private boolean startOfLine = true;

    /** @param stopAnswer what Ctrl-C does while no line is being typed */
    TerminalConversation(Runnable stopAnswer) throws IOException {
        terminal = TerminalBuilder.builder().system(true).build();
        terminal.handle(Terminal.Signal.INT, signal -> stopAnswer.run());
        var parser = new DefaultParser();
        parser.setQuoteChars(new char[0]);
        parser.setEscapeChars(new char[] {'\\'});
        parser.setEofOnEscapedNewLine(true);
        reader = LineReaderBuilder.builder()
                .terminal(terminal)
                .appName("panama-llama")
                .parser(parser)
                .completer(new StringsCompleter("/reset", "/stats", "/adapter", "/help", "/exit"))
                .option(LineReader.Option.DISABLE_EVENT_EXPANSION, true)
                .option(LineReader.Option.INSERT_TAB, false)
                .variable(LineReader.SECONDARY_PROMPT_PATTERN, "  ")
                .build();
    }

    @Override
    public String read() {
        while (true) {
            try {
                return reader.readLine("> ").replace("\\\n", "\n");
            } catch (UserInterruptException e) {
                if (e.getPartialLine().isEmpty()) {
                    note("Ctrl-D or /exit leaves.");
                }
            } catch (EndOfFileException e) {
                return null;
            }
        }
    }

    @Override
    public void answer(String piece) {
        write(plain(piece));
    }

    @Override
    public void reasoning(String piece) {
        write(dim(plain(piece)));
        startOfLine = piece.endsWith("\n");
    }

    @Override
    public void endOfAnswer() {
        if (!startOfLine) {
            write("\n");
        }
    }

    @Override
    public void note(String message) {
        write(dim(message) + "\n");
    }

    @Override
    public void close() throws IOException {
        terminal.close();
    }

    private String dim(String text) {
        return new AttributedStringBuilder().style(DIM).append(text).toAnsi(terminal);
    }

    /** What a model writes must not move the cursor or set the title: control characters are left out. */
    private static String plain(String text) {
        return text.replaceAll("[\\p{Cntrl}&&[^\n\t]]", "");
    }

    private void write(String text) {
        if (!text.isEmpty()) {
            terminal.writer().print(text);
            terminal.writer().flush();
            startOfLine = text.endsWith("\n");
        }
    }
}
