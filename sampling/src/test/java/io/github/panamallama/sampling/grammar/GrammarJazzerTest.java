package io.github.panamallama.sampling.grammar;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.sampling.schema.SchemaFuzz;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/**
 * Coverage-guided fuzzing by Jazzer for a bounded time, {@code panamallama.fuzz.seconds}, from the kept corpus on. In a JVM of its own: it
 * instruments classes. An input that breaks something is left in {@code target/jazzer}, and belongs in the corpus once that is mended.
 */
class GrammarJazzerTest {
    private static final int SECONDS = Integer.getInteger("panamallama.fuzz.seconds", 15);

    @Test
    void nothingNewBreaksInGrammars() throws Exception {
        fuzz(GrammarFuzz.class, "grammar");
    }

    @Test
    void nothingNewBreaksInSchemas() throws Exception {
        fuzz(SchemaFuzz.class, "schema");
    }

    /** @param name of the corpus, whose words are in a dictionary beside it */
    private static void fuzz(Class<?> target, String name) throws Exception {
        var corpus = Path.of("src", "test", "resources", "fuzz", name);
        var folder = Files.createDirectories(Path.of("target", "jazzer", name));
        var found = Files.createDirectories(folder.resolve("corpus"));
        var output = folder.resolve("output.txt");
        int code = new ProcessBuilder(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-XX:+EnableDynamicAgentLoading", "--enable-native-access=ALL-UNNAMED", "-Xmx1g", "-cp",
                System.getProperty("surefire.test.class.path", System.getProperty("java.class.path")),
                        "com.code_intelligence.jazzer.Jazzer",
                "--target_class=" + target.getName(), "--instrumentation_includes=io.github.panamallama.sampling.**",
                "--reproducer_path=" + folder, "-artifact_prefix=" + folder + "/", "-max_total_time=" + SECONDS, "-timeout=60",
                // the heap is bounded above; libFuzzer would count the peak of the JVM that starts it, which a process inherits
                "-rss_limit_mb=0", "-dict=" + corpus + ".dict", found.toString(), corpus.toString()))
                .redirectErrorStream(true).redirectOutput(output.toFile()).start().waitFor();
        var text = Files.readString(output);
        assertEquals(0, code, text.substring(Math.max(0, text.length() - 3000)));
        var runs = Pattern.compile("Done (\\d+) runs").matcher(text);
        assertTrue(runs.find() && Integer.parseInt(runs.group(1)) > 100, text.substring(Math.max(0, text.length() - 3000)));
        System.out.println("Jazzer: " + runs.group(1) + " runs of " + target.getSimpleName() + " in " + SECONDS + " s");
    }
}
