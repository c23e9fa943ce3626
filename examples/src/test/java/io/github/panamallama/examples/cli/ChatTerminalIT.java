package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** The chat as a person at a terminal has it: the program runs under a pseudo-terminal that {@code script} makes. */
@EnabledOnOs(OS.LINUX)
@Timeout(value = 3, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class ChatTerminalIT {
    private static final String CONTROL_C = "\u0003";
    private static final String CONTROL_D = "\u0004";

    /** A program under a terminal, and all that it has written so far. */
    private static final class Terminal implements AutoCloseable {
        private final Process process;
        private final Reader output;
        private final StringBuilder seen = new StringBuilder();

        Terminal(String arguments) throws IOException {
            var launcher = Path.of("..", "panama-llama").toAbsolutePath().normalize();
            var builder = new ProcessBuilder("script", "-q", "-e", "-c", "stty cols 100 rows 30; exec '" + launcher + "' " + arguments,
                    "/dev/null").redirectErrorStream(true);
            builder.environment().put("JAVA_HOME", System.getProperty("java.home"));
            builder.environment().put("PANAMA_LLAMA_APP", Path.of("target", "app").toAbsolutePath().toString());
            builder.environment().put("TERM", "xterm");
            process = builder.start();
            output = new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8);
        }

        void type(String keys) throws IOException {
            process.getOutputStream().write(keys.getBytes(StandardCharsets.UTF_8));
            process.getOutputStream().flush();
        }

        /** Reads on until {@code text} has come, after what was awaited before, and returns what came between. */
        String await(String text) throws IOException {
            while (seen.indexOf(text) < 0) {
                int c = output.read();
                assertTrue(c >= 0, "the program ended before it wrote '" + text + "': " + seen);
                seen.append((char) c);
            }
            var before = seen.substring(0, seen.indexOf(text));
            seen.delete(0, before.length() + text.length());
            return before;
        }

        int exitCode() throws IOException, InterruptedException {
            while (output.read() >= 0) {
                // until the terminal is closed
            }
            return process.waitFor();
        }

        @Override
        public void close() {
            process.descendants().forEach(ProcessHandle::destroyForcibly);
            process.destroyForcibly();
        }
    }

    /** Options with which the answer goes on until the context is full: the tokens that end one are excluded. */
    private static String endless() {
        var tokens = Cli.withInput("<|endoftext|><|im_end|>", "tokenize", "--special", "--json").json().get("tokens");
        return "-c 16384 -n 0 -t 2 " + StreamSupport.stream(tokens.spliterator(), false)
                .map(token -> "--logit-bias " + token.get("id").asInt() + "=-Infinity").collect(Collectors.joining(" "));
    }

    @Test
    void controlCStopsTheAnswerAndNotTheProgram() throws Exception {
        assumeTrue(Files.isExecutable(Path.of("/usr/bin/script")), "needs script(1)");
        try (var terminal = new Terminal("chat " + endless())) {
            terminal.await("/help for help");
            terminal.await("> ");
            terminal.type("What is a list?\r");
            terminal.await("What is a list?");
            terminal.await("e");
            terminal.type(CONTROL_C);
            terminal.await("Stopped.");
            terminal.await("> ");
            terminal.type("/stats\r");
            terminal.await("1 turn");
            terminal.await("> ");
            terminal.type("/exit\r");
            assertEquals(0, terminal.exitCode());
        }
    }

    @Test
    void controlCAtThePromptSaysHowToLeaveAndControlDLeaves() throws Exception {
        assumeTrue(Files.isExecutable(Path.of("/usr/bin/script")), "needs script(1)");
        try (var terminal = new Terminal("chat")) {
            terminal.await("> ");
            terminal.type(CONTROL_C);
            terminal.await("Ctrl-D or /exit leaves.");
            terminal.await("> ");
            terminal.type(CONTROL_D);
            assertEquals(0, terminal.exitCode());
        }
    }

    @Test
    void adaptersAreSwitchedToAndBackAndAMistakeChangesNothing(@TempDir Path folder) throws Exception {
        assumeTrue(Files.isExecutable(Path.of("/usr/bin/script")), "needs script(1)");
        var file = RandomAdapter.of(1).write(GgufFile.read(DefaultModel.path()), folder.resolve("other-words.gguf"));
        try (var terminal = new Terminal("chat -t 2 --temp 0 -n 12")) {
            terminal.await("> ");
            var without = answer(terminal);
            command(terminal, "/reset", "starts anew");
            command(terminal, "/adapter " + file, "adapters: other-words");
            var with = answer(terminal);
            command(terminal, "/adapter " + folder.resolve("missing.gguf"), "no such adapter file");
            command(terminal, "/adapter", "loaded: other-words");
            command(terminal, "/reset", "starts anew");
            command(terminal, "/adapter none", "adapters: none");
            assertEquals(without, answer(terminal));
            assertNotEquals(without, with);
            terminal.type("/exit\r");
            assertEquals(0, terminal.exitCode());
        }
    }

    private static void command(Terminal terminal, String line, String expected) throws IOException {
        terminal.type(line + "\r");
        terminal.await(expected);
        terminal.await("> ");
    }

    /** What the model answers, without the sequences that colour it. */
    private static String answer(Terminal terminal) throws IOException {
        terminal.type("What is a list?\r");
        terminal.await("What is a list?");
        return terminal.await("> ").replaceAll("\u001b\\[[0-9;?]*[A-Za-z]|\u001b[=>]|\\s", "");
    }
}
