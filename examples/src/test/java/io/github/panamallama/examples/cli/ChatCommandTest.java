package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ChatCommandTest {
    /** One line per answer, always the same. */
    private static Cli.Result chat(String input, String... more) {
        var args = new ArrayList<>(List.of("chat", "-t", "2", "--temp", "0", "-n", "24", "--stop", "\\n"));
        args.addAll(Arrays.asList(more));
        return Cli.withInput(input, args.toArray(String[]::new));
    }

    private static int number(String pattern, String text) {
        var match = Pattern.compile(pattern).matcher(text);
        assertTrue(match.find(), text);
        return Integer.parseInt(match.group(1));
    }

    @Test
    void everyPipedLineIsATurnAndOnlyAnswersArePrinted() {
        var result = chat("What does the class `ArrayList` do?\n\nWhat does `isEmpty` return?\n");
        assertEquals(0, result.code(), result.err());
        assertEquals(2, result.out().lines().count(), result.out());
        result.out().lines().forEach(line -> assertFalse(line.isBlank() || line.startsWith(">"), result.out()));
    }

    @Test
    void aTurnBuildsOnWhatIsEvaluatedAlready() {
        var result = chat("What does the class `ArrayList` do?\nAnd `HashMap`?\n/stats\n");
        assertEquals(0, result.code(), result.err());
        assertTrue(number("(\\d+) of them known already", result.err()) > 10, result.err());
        assertEquals(2, number("(\\d+) turns?,", result.err()));
    }

    @Test
    void aPartOfTheModelDraftsTheAnswers() {
        var result = chat("What does the class `ArrayList` do?\nAnd `HashMap`?\n/stats\n", "--self-draft", "0-3,5,7");
        assertEquals(0, result.code(), result.err());
        assertEquals(2, result.out().lines().count(), result.out());
        assertTrue(number("(\\d+) of them known already", result.err()) > 10, result.err());
        var refused = chat("Hello\n", "--self-draft", "0-8");
        assertEquals(2, refused.code(), refused.err());
        assertTrue(refused.err().contains("block 8"), refused.err());
    }

    @Test
    void resetForgetsTheConversation() {
        var question = "What does the class `ArrayList` do?\n";
        var result = chat("Explain `Iterator`.\n/reset\n/stats\n" + question);
        assertEquals(0, result.code(), result.err());
        assertEquals(0, number("(\\d+) turns?,", result.err()));
        assertEquals(chat(question).out().strip(), result.out().lines().skip(1).findFirst().orElseThrow().strip());
    }

    @Test
    void exitEndsTheConversation() {
        var result = chat("/exit\nWhat does `isEmpty` return?\n");
        assertEquals(0, result.code());
        assertEquals("", result.out());
    }

    @Test
    void helpListsTheCommandsAndOthersAreRefused() {
        var result = chat("/help\n/what\n");
        assertEquals(0, result.code());
        for (var command : List.of("/reset", "/stats", "/adapter", "/save", "/load", "/help", "/exit")) {
            assertTrue(result.err().contains(command), result.err());
        }
        assertTrue(result.err().contains("No such command: /what"), result.err());
        assertEquals("", result.out());
    }

    @Test
    void theSystemMessageIsPartOfThePromptAndSurvivesReset() {
        var without = number("prompt: (\\d+) tokens", chat("Hello\n/stats\n").err());
        var with = number("prompt: (\\d+) tokens", chat("One\n/reset\nHello\n/stats\n", "--system",
                "You answer questions about Java.").err());
        assertTrue(with > without + 5, with + " against " + without);
    }

    @Test
    void pastTheContextTheOldestTurnsGoAndItSaysSo() {
        var result = chat("What does the method `isEmpty` of `StringUtils` do?\n".repeat(12) + "/stats\n", "-c", "256");
        assertEquals(0, result.code(), result.err());
        assertEquals(12, result.out().lines().count(), result.out());
        assertTrue(result.err().contains("forgotten"), result.err());
        assertTrue(number("turns?, (\\d+) forgotten", result.err()) > 0, result.err());
    }

    @Test
    void aMessageThatCannotFitIsRefusedWithTheNumbers() {
        var result = chat("word ".repeat(2000) + "\n", "-c", "256");
        assertEquals(1, result.code());
        assertTrue(result.err().contains("256"), result.err());
    }

    @Test
    void anInterruptEndsAPipedConversationWith130() {
        var interrupts = new Interrupts();
        interrupts.raise();
        assertEquals(130, Cli.withInterrupts(interrupts, "Hello\n", "chat").code());
    }

    @Test
    void aConversationIsSavedAndGoesOnInAnotherProcess(@TempDir Path folder) throws IOException {
        var file = folder.resolve("a chat.json");
        var question = "What does the class `ArrayList` do?\n";
        var saved = chat(question + "/save \"" + file + "\"\nAnd `HashMap`?\n");
        assertEquals(0, saved.code(), saved.err());
        assertTrue(saved.err().contains("Saved 1 turn to"), saved.err());
        var expected = saved.out().lines().toList().getLast();
        var loaded = chat("/load " + file + " \nAnd `HashMap`?\n");
        assertEquals(0, loaded.code(), loaded.err());
        assertTrue(number("Loaded 1 turn; (\\d+) tokens are evaluated already", loaded.err()) > 10, loaded.err());
        assertEquals(expected, loaded.out().strip());
        Files.delete(folder.resolve("a chat.json.kv"));
        loaded = chat("/load \"" + file + "\"\nAnd `HashMap`?\n");
        assertTrue(loaded.err().contains("all is evaluated again with the next message, because there is no"), loaded.err());
        assertFalse(loaded.out().isBlank());
        var missing = chat("/load " + folder.resolve("none") + "\n");
        assertEquals(1, missing.code());
        assertTrue(missing.err().contains("can't be read: there is no such file"), missing.err());
        assertTrue(chat("/save\n").err().contains("needs a file"));
    }

    @Test
    void theFirstPromptIsKeptForTheNextProcess(@TempDir Path folder) {
        var told = new String[] {"--system", "You answer questions about Java classes in one sentence.", "--prompt-cache",
                folder.resolve("prompt").toString()};
        var first = chat("What does `isEmpty` return?\n/stats\n", told);
        assertEquals(0, number("(\\d+) of them known already", first.err()), first.err());
        var second = chat("What does `isEmpty` return?\n/stats\n", told);
        assertTrue(number("(\\d+) of them known already", second.err()) > 20, second.err());
        assertEquals(first.out(), second.out());
    }
}
