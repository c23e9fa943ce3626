package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalDouble;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code panama-llama perplexity} gives what {@code llama-perplexity} gives, within a thousandth. */
class PerplexityTest {
    private static final double RELATIVE = 1e-3;
    /** Windows of the context size; more take longer and show nothing else. */
    private static final int WINDOWS = 40;
    private static final int RUNS = 6;
    private static final Pattern ESTIMATE = Pattern.compile("Final estimate: PPL = ([\\d.]+)");

    @TempDir
    private Path folder;

    @Test
    void heldOutTextHasUpstreamsPerplexity() throws Exception {
        var heldOut = Project.shared().resolve("models/heldout");
        Assumptions.assumeTrue(Files.isDirectory(heldOut), () -> "skipped: no " + heldOut
                + "; set PANAMA_LLAMA_SHARED to the folder that has models/heldout");
        var text = JavaText.below(heldOut);
        double ours = assertSamePerplexity(Models.shippedQ8(), text, 512);
        // 3.76 over the files of its card: not a broken model on both sides
        assertTrue(ours > 2 && ours < 16, "perplexity " + ours + " of a model that knows Java");
    }

    @Test
    void textOfThisProjectHasUpstreamsPerplexity() throws Exception {
        assertSamePerplexity(Models.shippedF16(), JavaText.below(Project.HOME.resolve("runtime/src/main/java")), 512);
        // shorter windows and many of them in a batch; F16, because with Q8_0 the rounding of activations
        // to 8 bits moves logits by a tenth as soon as the batches of the two programs differ
        assertSamePerplexity(Models.shippedF16(), JavaText.below(Project.HOME.resolve("runtime/src/main/java")), 128);
    }

    /** A vocabulary that begins texts with BOS, which then replaces the first token of every window. */
    @Test
    void textUnderAVocabularyWithBosHasUpstreamsPerplexity() throws Exception {
        assertSamePerplexity(Models.random(RandomModel.Architecture.QWEN3),
                JavaText.below(Project.HOME.resolve("runtime/src/main/java")), 256);
    }

    private double assertSamePerplexity(Path model, String text, int window) throws Exception {
        var file = Files.writeString(folder.resolve("text.txt"), text);
        var arguments = List.of("-m", model.toString(), "-c", Integer.toString(window), "-t", "2", "--chunks",
                Integer.toString(WINDOWS));
        var command = new ArrayList<>(arguments);
        command.add(0, Project.tools().resolve("llama-perplexity").toString());
        command.addAll(List.of("-f", file.toString()));
        double expected = upstream(command);
        var own = new ArrayList<>(arguments);
        own.add(0, "perplexity");
        own.add(file.toString());
        var result = Commands.run(own.toArray(String[]::new)).succeeded();

        double got = estimate(result.out()).orElseThrow(() -> new AssertionError("no estimate in: " + result.out()));
        System.out.printf("%s, windows of %d: %.4f, upstream %.4f%n", model.getFileName(), window, got, expected);
        assertEquals(expected, got, RELATIVE * expected);
        return got;
    }

    /** The program logs from a thread of its own, and now and then ends before that has written its last lines: it is asked again. */
    private static double upstream(List<String> command) throws Exception {
        var outputs = new ArrayList<String>();
        for (int run = 0; run < RUNS; run++) {
            var result = Project.run(command, "").succeeded();
            outputs.add(result.out() + result.error());
            var estimate = estimate(outputs.getLast());
            if (estimate.isPresent()) {
                return estimate.getAsDouble();
            }
        }
        throw new AssertionError("no estimate in " + RUNS + " runs: " + outputs);
    }

    private static OptionalDouble estimate(String output) {
        var matcher = ESTIMATE.matcher(output);
        return matcher.find() ? OptionalDouble.of(Double.parseDouble(matcher.group(1))) : OptionalDouble.empty();
    }
}
