package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CompleteCommandTest {
    private static final String SOURCE = """
            package org.example;

            public final class Point {
                private final int x;
                private final int y;

                public Point(int x, int y) {
                    this.x = x;
                    this.y = y;
                }

                public int getX() {
                    return\s
                }
            }
            """;

    @TempDir
    Path folder;

    private Path file;

    @BeforeEach
    void writeSource() throws IOException {
        file = Files.writeString(folder.resolve("Point.java"), SOURCE);
    }

    private Cli.Result complete(String... more) {
        var args = new ArrayList<>(List.of("complete", "-t", "2"));
        args.addAll(Arrays.asList(more));
        return Cli.run(args.toArray(String[]::new));
    }

    @Test
    void printsTheCompletionAndNothingElse() {
        var result = complete(file + ":13", "-n", "8");
        assertEquals(0, result.code(), result.err());
        assertFalse(result.out().isBlank());
        assertEquals("", result.err());
        assertEquals(result, complete(file + ":13", "-n", "8"), "without a temperature the same place gives the same text");
    }

    @Test
    void whatFollowsThePlaceIsSeenUnlessItIsSwitchedOff() {
        assertEquals("infill", complete(file + ":13", "-n", "4", "--json").json().get("mode").asString());
        assertEquals("continue", complete(file + ":13", "-n", "4", "--json", "--no-fim").json().get("mode").asString());
        assertEquals("continue", complete(file.toString(), "-n", "4", "--json").json().get("mode").asString(),
                "nothing follows the end of the file");
    }

    @Test
    void jsonHasTextTimingsAndLogProbabilities() {
        var json = complete(file + ":13", "-n", "6", "--json", "--top-logprobs", "3").json();
        assertEquals(complete(file + ":13", "-n", "6").out(), json.get("text").asString() + "\n");
        assertTrue(List.of("stop", "length").contains(json.get("finish_reason").asString()));
        assertFalse(json.get("prompt_truncated").asBoolean());
        var tokens = json.get("tokens");
        assertTrue(tokens.size() >= 1 && tokens.size() <= 6);
        for (var token : tokens) {
            assertTrue(token.get("logprob").asDouble() <= 0);
            assertEquals(3, token.get("top").size());
            assertEquals(token.get("id").asInt(), token.get("top").get(0).get("id").asInt(), "greedy takes the likeliest");
            assertEquals(token.get("logprob").asDouble(), token.get("top").get(0).get("logprob").asDouble(), 1e-6);
            assertTrue(token.get("top").get(0).get("logprob").asDouble() >= token.get("top").get(2).get("logprob").asDouble());
        }
        var timings = json.get("timings");
        assertEquals(tokens.size(), timings.get("predicted_n").asInt());
        assertTrue(timings.get("prompt_n").asInt() > 20);
        for (var name : List.of("load_ms", "prompt_ms", "predicted_ms", "prompt_per_second", "predicted_per_second")) {
            assertTrue(timings.get(name).asDouble() > 0, name);
        }
    }

    @Test
    void aSeedMakesDrawsRepeatable() {
        var once = complete(file + ":13", "-n", "24", "--temp", "1.5", "--top-k", "0", "--top-p", "1", "--min-p", "0", "--seed", "7");
        assertEquals(0, once.code(), once.err());
        assertEquals(once, complete(file + ":13", "-n", "24", "--temp", "1.5", "--top-k", "0", "--top-p", "1", "--min-p", "0", "--seed",
                "7"));
        assertNotEquals(once.out(), complete(file + ":13", "-n", "24", "--temp", "1.5", "--top-k", "0", "--top-p", "1", "--min-p", "0",
                "--seed", "8").out());
    }

    @Test
    void stopsBeforeAStopText() {
        var whole = complete(file.toString(), "-n", "48", "--no-fim").out();
        var cut = complete(file.toString(), "-n", "48", "--no-fim", "--stop", "\\n");
        assertEquals(whole.substring(0, whole.indexOf('\n')), cut.out().stripTrailing());
    }

    @Test
    void continuesStandardInput() {
        var result = Cli.withInput("public static int max(int a, ", "complete", "--stdin", "-n", "8", "-t", "2");
        assertEquals(0, result.code(), result.err());
        assertFalse(result.out().isBlank());
    }

    @Test
    void aFileLargerThanTheContextIsCutAroundThePlace() throws IOException {
        var lines = IntStream.range(0, 4000).mapToObj(i -> "    int field" + i + " = " + i + ";\n").toList();
        Files.writeString(file, "class Large {\n" + String.join("", lines) + "}\n");
        var json = complete(file + ":2000", "-n", "4", "-c", "512", "--json").json();
        assertTrue(json.get("prompt_truncated").asBoolean());
        assertTrue(json.get("timings").get("prompt_n").asInt() <= 512 - 4);
        assertTrue(json.get("timings").get("prompt_n").asInt() > 400, "the context is used");
        var end = complete(file.toString(), "-n", "4", "-c", "512", "--json").json();
        assertTrue(end.get("prompt_truncated").asBoolean());
    }

    @Test
    void aPromptOnStandardInputThatIsTooLongIsRefusedWithTheNumbers() {
        var result = Cli.withInput("int x = 1;\n".repeat(2000), "complete", "--stdin", "-c", "512");
        assertEquals(1, result.code());
        assertTrue(result.err().contains("512") && result.err().contains("tokens"), result.err());
    }

    @Test
    void missingFilesAndDirectoriesAreNamed() {
        var missing = complete(folder.resolve("None.java").toString());
        assertEquals(1, missing.code());
        assertEquals("panama-llama: no such file: " + folder.resolve("None.java"), missing.err().strip());

        var directory = complete(folder.toString());
        assertEquals(1, directory.code());
        assertEquals("panama-llama: " + folder + " is a directory, not a file", directory.err().strip());
    }

    @Test
    void aPlaceOutsideTheFileIsAUsageError() {
        var line = complete(file + ":99");
        assertEquals(2, line.code());
        assertTrue(line.err().contains("there is no line 99"), line.err());
        var column = complete(file + ":1:999");
        assertEquals(2, column.code());
        assertTrue(column.err().contains("there is no column 999"), column.err());
    }

    @Test
    void textThatIsNotUtf8IsRefused() throws IOException {
        Files.write(file, new byte[] {'a', (byte) 0xC3, '('});
        var result = complete(file.toString());
        assertEquals(1, result.code());
        assertTrue(result.err().contains("not UTF-8") && result.err().contains("offset 1"), result.err());
    }

    @Test
    void modelsThatAreNoneAreRefusedByName() throws IOException {
        var text = Files.writeString(folder.resolve("text.gguf"), "this is no model at all, only some words");
        var bytes = Files.readAllBytes(DefaultModel.path());
        var cut = Files.write(folder.resolve("cut.gguf"), Arrays.copyOf(bytes, bytes.length - 100_000));
        var garbled = bytes.clone();
        Arrays.fill(garbled, 24, 4000, (byte) 0xFF);
        var corrupt = Files.write(folder.resolve("corrupt.gguf"), garbled);
        var empty = Files.createFile(folder.resolve("empty.gguf"));
        for (var model : List.of(text, cut, corrupt, empty, folder, folder.resolve("none.gguf"))) {
            var result = complete(file.toString(), "-m", model.toString());
            assertEquals(1, result.code(), model.toString());
            assertTrue(result.err().contains(model.toString()), result.err());
            assertFalse(result.err().contains("\tat "), result.err());
            assertEquals("", result.out());
        }
    }

    @Test
    void modelsWithoutFillInTokensContinueTheTextAndSaySo() {
        var gguf = GgufFile.read(DefaultModel.path());
        var tokens = gguf.metadata().strings("tokenizer.ggml.tokens").orElseThrow().stream()
                .map(token -> token.startsWith("<|fim_") ? token.replace("<|fim_", "<|other_") : token).toList();
        var writer = GgufWriter.copyOf(gguf).putStrings("tokenizer.ggml.tokens", tokens);
        gguf.metadata().keys().stream().filter(key -> key.startsWith("tokenizer.ggml.fim_")).toList().forEach(writer::remove);
        var model = folder.resolve("no-fim.gguf");
        writer.write(model);

        var result = complete(file + ":13", "-n", "8", "-m", model.toString());
        assertEquals(0, result.code(), result.err());
        assertTrue(result.err().contains("no tokens for filling in"), result.err());
        assertEquals(complete(file + ":13", "-n", "8", "--no-fim").out(), result.out());
    }

    @Test
    void aContextLargerThanMemoryIsRefusedWithTheNumbers() {
        var result = complete(file.toString(), "-c", "2000000000");
        assertEquals(1, result.code());
        assertTrue(result.err().toLowerCase().contains("memory"), result.err());
    }

    @Test
    void anInterruptEndsItWith130() {
        var interrupts = new Interrupts();
        interrupts.raise();
        var result = Cli.withInterrupts(interrupts, "", "complete", file.toString(), "-n", "100000");
        assertEquals(130, result.code());
    }
}
