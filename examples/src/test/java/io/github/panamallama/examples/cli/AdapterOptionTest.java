package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** {@code --adapter} of every command that has it, and {@code /adapter} in a conversation. */
class AdapterOptionTest {
    private static final String QUESTION = "What does the class `ArrayList` do?\n";

    @TempDir
    static Path folder;
    private static Path one;
    private static Path other;
    private static Path foreign;
    private static Path text;

    @BeforeAll
    static void write() throws IOException {
        var base = GgufFile.read(DefaultModel.path());
        one = RandomAdapter.of(1).write(base, folder.resolve("one.gguf"));
        other = RandomAdapter.of(2).write(base, Files.createDirectory(folder.resolve("my adapters")).resolve("other.gguf"));
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(folder.resolve("tiny.gguf"));
        foreign = RandomAdapter.of(3).write(GgufFile.read(folder.resolve("tiny.gguf")), folder.resolve("foreign.gguf"));
        text = Files.writeString(folder.resolve("text.txt"), "public int size() {\n    return size;\n}\n\n".repeat(20));
    }

    /** Commands that print something, always the same. */
    static Stream<List<String>> commands() {
        return Stream.of(List.of("complete", "--stdin", "-t", "2", "-n", "12"),
                List.of("generate", "-p", "public int ", "-t", "2", "-n", "12"),
                List.of("chat", "-t", "2", "--temp", "0", "-n", "12"), List.of("perplexity", text.toString(), "-t", "2", "-c", "64"));
    }

    private static Cli.Result run(List<String> command, String... more) {
        var args = new ArrayList<>(command);
        args.addAll(Arrays.asList(more));
        return Cli.withInput(QUESTION, args.toArray(String[]::new));
    }

    private static void assertRefused(int code, String message, Cli.Result result) {
        assertEquals(code, result.code(), result.err());
        assertTrue(result.err().contains(message), result.err());
        assertEquals("", result.out());
    }

    // --- how it is written --------------------------------------------------------------------------------------------------

    @Test
    void theScaleIsWhatFollowsTheLastColonIfItIsANumber() {
        assertEquals(new AdapterChoice(Path.of("a.gguf"), 1), AdapterChoice.parse("a.gguf"));
        assertEquals(new AdapterChoice(Path.of("a.gguf"), 0.5f), AdapterChoice.parse("a.gguf:0.5"));
        assertEquals(new AdapterChoice(Path.of("a.gguf"), -2), AdapterChoice.parse("a.gguf:-2"));
        assertEquals(new AdapterChoice(Path.of("a.gguf"), 0.01f), AdapterChoice.parse("a.gguf:1e-2"));
        assertEquals(new AdapterChoice(Path.of("C:\\style.gguf"), 1), AdapterChoice.parse("C:\\style.gguf"));
        assertEquals(new AdapterChoice(Path.of("C:\\style.gguf"), 0.5f), AdapterChoice.parse("C:\\style.gguf:.5"));
        assertEquals(new AdapterChoice(Path.of("a:2"), 1), AdapterChoice.parse("a:2:1"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", ":1", "a.gguf:NaN", "a.gguf:-Infinity", "a.gguf:1e99"})
    void whatIsNoFileOrNoFiniteScaleIsRefused(String typed) {
        assertThrows(IllegalArgumentException.class, () -> AdapterChoice.parse(typed));
    }

    @Test
    void namesWithColonsAreRead() throws IOException {
        var file = Files.copy(one, folder.resolve("C:style.gguf"));
        var command = commands().toList().get(1);
        assertEquals(run(command, "--adapter", one.toString()), run(command, "--adapter", file.toString()));
        assertEquals(run(command, "--adapter", one + ":0.5"), run(command, "--adapter", file + ":0.5"));
    }

    // --- errors -------------------------------------------------------------------------------------------------------------

    @ParameterizedTest
    @MethodSource("commands")
    void badAdaptersAreRefusedWithAReason(List<String> command) {
        assertRefused(2, "must be a finite number", run(command, "--adapter", one + ":NaN"));
        assertRefused(2, "is given twice", run(command, "--adapter", one.toString(), "--adapter", one + ":0.5"));
        assertRefused(1, "no such adapter file: nowhere.gguf", run(command, "--adapter", "nowhere.gguf"));
        assertRefused(1, "a scale is a number", run(command, "--adapter", one + ":0,5"));
        assertRefused(1, "foreign.gguf", run(command, "--adapter", foreign.toString()));
        assertRefused(1, "tiny.gguf", run(command, "--adapter", folder.resolve("tiny.gguf").toString()));
        assertRefused(1, "text.txt", run(command, "--adapter", text.toString()));
    }

    // --- what it does -------------------------------------------------------------------------------------------------------

    @ParameterizedTest
    @MethodSource("commands")
    void adaptersActWithTheirScalesAndTogether(List<String> command) {
        var outputs = new ArrayList<String>();
        for (var options : List.of(new String[0], new String[] {"--adapter", one.toString()}, new String[] {"--adapter", one + ":-1"},
                new String[] {"--adapter", one.toString(), "--adapter", other.toString()})) {
            var result = run(command, options);
            assertEquals(0, result.code(), result.err());
            outputs.add(result.out());
        }
        assertEquals(4, outputs.stream().distinct().count(), outputs.toString());
        assertEquals(outputs.getFirst(), run(command, "--adapter", one + ":0").out(), "scale 0 is the model as it is");
    }

    @Test
    void jsonNamesTheAdapters() {
        for (var command : commands().toList()) {
            if (!command.getFirst().equals("chat")) {
                var named = run(command, "--json", "--adapter", one + ":0.5").json().get("adapters");
                assertEquals(1, named.size(), named.toString());
                assertEquals(one.toString(), named.get(0).get("file").asString());
                assertEquals(0.5, named.get(0).get("scale").asDouble());
            }
        }
    }

    @Test
    void asapDrawsUnderTheAdapterAndRefusesATrieLearnedWithout() {
        var command = List.of("generate", "-p", "int size = ", "--choices", "1,2,8,64", "--asap", "--seed", "1", "-t", "2",
                "--trie", folder.resolve("trie").toString());
        assertEquals(0, run(command, "--draws", "5").code());
        assertRefused(1, "adapter set", run(command, "--adapter", one.toString()));
    }

    // --- in a conversation --------------------------------------------------------------------------------------------------

    private static Cli.Result chat(String input, String... more) {
        var args = new ArrayList<>(List.of("chat", "-t", "2", "--temp", "0", "-n", "12", "--stop", "\\n"));
        args.addAll(Arrays.asList(more));
        return Cli.withInput(input, args.toArray(String[]::new));
    }

    @Test
    void aConversationSwitchesAdaptersAndBack() {
        var result = chat(QUESTION + "/reset\n/adapter " + one + "\n" + QUESTION + "/reset\n/adapter none\n" + QUESTION);
        assertEquals(0, result.code(), result.err());
        var answers = result.out().lines().toList();
        assertEquals(3, answers.size(), result.out());
        assertNotEquals(answers.get(0), answers.get(1));
        assertEquals(answers.get(0), answers.get(2));
        assertEquals(chat(QUESTION, "--adapter", one.toString()).out().strip(), answers.get(1).strip());
        assertTrue(result.err().contains("adapters: one\n") && result.err().contains("adapters: none\n"), result.err());
    }

    @Test
    void theConversationIsEvaluatedAgainUnderTheNewAdapters() {
        var result = chat(QUESTION + "/adapter " + one + ":0.5\nAnd `size`?\n/stats\n");
        assertEquals(0, result.code(), result.err());
        assertTrue(result.err().contains(" 0 of them known already"), result.err());
        assertTrue(result.err().contains("2 turns"), result.err());
        assertTrue(result.err().contains("adapters: one:0.5"), result.err());
    }

    @Test
    void severalAndNamesInQuotesCanBeSwitchedToAndListed() {
        var result = chat("/adapter " + one + " \"" + other + "\":0.5\n/adapter none\n/adapter\n");
        assertEquals(0, result.code(), result.err());
        assertTrue(result.err().contains("adapters: one + other:0.5"), result.err());
        var list = result.err().substring(result.err().lastIndexOf("adapters: none"));
        assertTrue(list.contains("loaded: one, rank 8, ") && list.contains(other.toString()), list);
    }

    @Test
    void aSwitchThatFailsEndsAScriptBeforeItsNextTurn() {
        for (var bad : List.of("nowhere.gguf", one + ":NaN", one + " " + one, foreign.toString())) {
            var result = chat("/adapter " + bad + "\n" + QUESTION);
            assertEquals(1, result.code(), bad);
            assertEquals("", result.out());
            assertFalse(result.err().isBlank());
        }
    }

    @Test
    void whatOnlyBeginsLikeTheCommandIsNone() {
        assertTrue(chat("/adapters\n").err().contains("No such command: /adapters"));
    }
}
