package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class MainTest {
    @Test
    void versionNamesTheProgramAndLlamaCpp() {
        var result = Cli.run("--version");
        assertEquals(0, result.code());
        assertTrue(result.out().matches("(?s)panama-llama \\d+\\.\\d+\\.\\d+\\S* \\(llama\\.cpp 0\\.5\\.0\\).*"), result.out());
        assertEquals("", result.err());
    }

    @ParameterizedTest
    @MethodSource("commands")
    void everyCommandExplainsItself(String command) {
        var result = Cli.run(command, "--help");
        assertEquals(0, result.code());
        assertTrue(result.out().startsWith("Usage: panama-llama " + command), result.out());
        assertTrue(Cli.run("--help").out().contains("\n  " + command + " "), "listed");
    }

    static Set<String> commands() {
        return Main.COMMANDS.keySet();
    }

    @ParameterizedTest
    @ValueSource(strings = {"devices", "--help", "bench --help", "--version"})
    void anOutputThatCannotBeWrittenIsSaidAndAReaderThatWentAwayIsNot(String line) {
        var arguments = line.split(" ");
        for (var reason : List.of("No space left on device", "Broken pipe", "The pipe is being closed")) {
            var err = new ByteArrayOutputStream();
            var shell = new Shell(InputStream.nullInputStream(), new Shell.Output(new OutputStream() {
                @Override
                public void write(int value) throws IOException {
                    throw new IOException(reason);
                }
            }), new PrintStream(err, true, StandardCharsets.UTF_8), false);
            assertEquals(1, Main.run(shell, new Interrupts(), arguments));
            assertEquals(reason.contains("pipe") ? "" : "panama-llama: can't write the output: " + reason,
                    err.toString(StandardCharsets.UTF_8).strip());
        }
    }

    @Test
    void anEmptyNameIsNoModel() {
        var result = Cli.run("generate", "-p", "x", "-m", "");
        assertEquals(2, result.code());
        assertTrue(result.err().contains("the name is empty"), result.err());
    }

    @Test
    void noCommandIsAUsageError() {
        var result = Cli.run();
        assertEquals(2, result.code());
        assertTrue(result.err().contains("a command is needed"), result.err());
        assertEquals("", result.out());
    }

    @Test
    void unknownCommandsAndOptionsComeWithSuggestions() {
        var command = Cli.run("complet");
        assertEquals(2, command.code());
        assertTrue(command.err().contains("panama-llama complete"), command.err());

        var option = Cli.run("inspect", "--jsn", "x.gguf");
        assertEquals(2, option.code());
        assertTrue(option.err().contains("--json"), option.err());
    }

    @Test
    void stackTracesComeOnlyWithDebug() {
        var plain = Cli.run("inspect", "/no/such/file.gguf");
        assertEquals(1, plain.code());
        assertTrue(plain.err().startsWith("panama-llama: /no/such/file.gguf"), plain.err());
        assertFalse(plain.err().contains("\tat "), plain.err());

        var debug = Cli.run("inspect", "--debug", "/no/such/file.gguf");
        assertEquals(1, debug.code());
        assertTrue(debug.err().contains("\tat "), debug.err());
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "complete -n 0 X.java", "complete", "complete --stdin X.java", "complete X.java --temp -1", "complete X.java --top-p 2",
        "complete X.java -t -1", "complete X.java -c many", "complete X.java -ctk q9", "chat -n -1", "bench -p 0 -n 0", "bench -r 0",
                "bench -p -5",
        "quantize in.gguf out.gguf Q99", "quantize in.gguf", "inspect", "perplexity", "complete X.java:0"})
    void wrongArgumentsEndWithExitCode2AndAHint(String line) {
        var result = Cli.run(line.split(" "));
        assertEquals(2, result.code(), result.err());
        assertTrue(result.err().startsWith("panama-llama: "), result.err());
        assertEquals("", result.out());
    }

    @Test
    void anUnknownTypeListsTheTypes() {
        var result = Cli.run("quantize", "in.gguf", "out.gguf", "Q99");
        assertTrue(result.err().contains("'Q99' is no type") && result.err().contains("Q4_K_M") && result.err().contains("Q8_0"),
                result.err());
    }

    @Test
    void whatNoFileCanBeCalledIsAUsageErrorInWords() {
        for (var command : List.of("inspect", "tokenize")) {
            var result = Cli.run(command, "a\0b");
            assertEquals(2, result.code());
            assertTrue(result.err().contains("can't be the name of a file: Nul character not allowed"), result.err());
            assertFalse(result.err().contains("Exception"), result.err());
        }
        assertTrue(Cli.run("layers", "trace", "").err().contains("the name of a file is empty"));
    }

    @Test
    void standardInputThatCannotBeReadIsNamed() {
        for (var command : List.of("tokenize", "chat")) {
            var err = new ByteArrayOutputStream();
            var shell = new Shell(new InputStream() {
                @Override
                public int read() throws IOException {
                    throw new IOException("Is a directory");
                }
            }, new PrintStream(OutputStream.nullOutputStream()), new PrintStream(err, true, StandardCharsets.UTF_8), false);
            assertEquals(1, Main.run(shell, new Interrupts(), command));
            assertEquals("panama-llama: cannot read standard input: Is a directory", err.toString(StandardCharsets.UTF_8).strip());
        }
    }

    @Test
    void aTurnThatIsNotUtf8IsRefusedAndNotChanged() {
        var err = new ByteArrayOutputStream();
        var out = new ByteArrayOutputStream();
        var shell = new Shell(new ByteArrayInputStream(new byte[] {'a', (byte) 0xFF, '\n'}), new PrintStream(out),
                new PrintStream(err, true, StandardCharsets.UTF_8), false);
        assertEquals(1, Main.run(shell, new Interrupts(), "chat"));
        assertEquals("panama-llama: cannot read standard input: it is not UTF-8 text", err.toString(StandardCharsets.UTF_8).strip());
        assertEquals(0, out.size());
    }
}
