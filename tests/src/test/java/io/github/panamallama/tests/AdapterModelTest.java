package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.GenerationOptions;
import io.github.panamallama.Llama;
import io.github.panamallama.LlamaOptions;
import io.github.panamallama.runtime.AdapterSet;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * A trained adapter does what it was trained for: {@code java-tiny-guava-lora.gguf}, made on Guava's sources for the shipped model,
 * brings Guava's idioms and its indentation by two blanks.
 */
class AdapterModelTest {
    private static final Path ADAPTER = Project.shared().resolve("models/java-tiny-guava-lora.gguf");
    private static final Path HELD_OUT = Project.shared().resolve("models/heldout");
    private static final Pattern ESTIMATE = Pattern.compile("Final estimate: PPL = ([\\d.]+)");

    @TempDir
    private Path folder;

    @BeforeAll
    static void needsTheAdapter() {
        Assumptions.assumeTrue(Files.isRegularFile(ADAPTER) && Files.isDirectory(HELD_OUT), () -> "skipped: no " + ADAPTER + " or no "
                + HELD_OUT + "; set PANAMA_LLAMA_SHARED to the folder that has models/");
    }

    /** It shows that the weights act, not that they act there only: on Spring's held-out files the perplexity falls by more. */
    @Test
    void perplexityOnItsOwnDomainFalls() throws Exception {
        var text = Files.writeString(folder.resolve("guava.txt"), JavaText.below(HELD_OUT.resolve("guava-33.4.0-jre")));
        for (var model : List.of(Models.shippedF16(), Models.shippedQ8())) {
            double without = perplexity(model, text);
            double with = perplexity(model, text, "--adapter", ADAPTER.toString());
            double off = perplexity(model, text, "--adapter", ADAPTER + ":0");
            System.out.printf("%s, held-out Guava files: %.4f, under the adapter %.4f%n", model.getFileName(), without, with);
            assertEquals(without, off, "scale 0 is the model as it is");
            assertTrue(with < 0.99 * without, with + " under the adapter, " + without + " without");
        }
    }

    private static double perplexity(Path model, Path text, String... more) throws IOException, InterruptedException {
        var arguments = new ArrayList<>(
                List.of("perplexity", "-m", model.toString(), "-c", "512", "-t", "2", "--chunks", "12", text.toString()));
        arguments.addAll(List.of(more));
        var matcher = ESTIMATE.matcher(Commands.run(arguments.toArray(String[]::new)).succeeded().out());
        assertTrue(matcher.find());
        return Double.parseDouble(matcher.group(1));
    }

    @Test
    void greedyTextIsIndentedByTwoBlanksInsteadOfFour() {
        var options = GenerationOptions.defaults().withTemperature(0).withMaxTokens(60);
        try (var llama = Llama.load(Models.shippedF16(), LlamaOptions.defaults().withContextSize(512).withThreads(2))) {
            var prompt = "import java.util.Map;\n\npublic final class Registry {\n";
            var without = llama.complete(prompt, options).text();
            var with = llama.complete(prompt, options.withAdapters(AdapterSet.of(llama.adapter(ADAPTER)))).text();
            assertEquals(4, firstIndentation(without), without);
            assertEquals(2, firstIndentation(with), with);
        }
    }

    private static int firstIndentation(String text) {
        var line = text.lines().filter(each -> !each.isBlank()).findFirst().orElseThrow();
        return line.length() - line.stripLeading().length();
    }

    @Test
    void aConversationOnTheCommandLineSwitchesToItAndBack() throws Exception {
        var question = "What does the class `ImmutableList` do?\n";
        var typed = question + "/reset\n/adapter " + ADAPTER + "\n" + question + "And `Multimap`?\n/stats\n/reset\n/adapter none\n"
                + question;
        var result = Commands.runWithInput(typed, "chat", "-m", Models.shippedF16().toString(), "-t", "2", "--temp", "0", "-n", "32",
                "--stop", "\\n").succeeded();
        var answers = result.out().lines().toList();
        assertEquals(4, answers.size(), result.out());
        assertNotEquals(answers.get(0), answers.get(1));
        assertFalse(answers.get(2).isBlank());
        assertEquals(answers.get(0), answers.get(3));
        assertTrue(result.error().contains("2 turns"), result.error());
    }
}
