package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Long texts of one kind of character end no process and take no more than linear time, whatever the vocabulary. Each vocabulary has a
 * process of its own. The property {@code panamallama.test.hostile} is the number of bytes per class, by default 64 KiB.
 */
class HostileTextTest {
    private static final int SIZE = Integer.getInteger("panamallama.test.hostile", 64 << 10);

    /** Processor time that a class may take before its growth is looked at: far above what any takes at 1 MB. */
    private static final long SUSPICIOUS_MILLIS = 2000L * Math.max(1, SIZE >> 16);

    static Stream<Path> all() throws IOException {
        return VocabularyFile.all();
    }

    @ParameterizedTest
    @MethodSource("all")
    void everyClassOfTextIsTokenizedOrRefused(Path file) throws Exception {
        var results = run(file, SIZE);
        assertEquals(HostileTexts.CLASSES.keySet(), results.keySet());
        results.forEach((name, result) -> assertTrue(!result.endsWith("differs"), () -> name + ": the text of the tokens is another"));
        var slow = results.entrySet().stream().filter(e -> millis(e.getValue()) > SUSPICIOUS_MILLIS).map(Map.Entry::getKey).toList();
        if (!slow.isEmpty()) {
            var quarter = run(file, SIZE / 4);
            for (var name : slow) {
                // Four times the text: 4 if linear, 16 if quadratic.
                assertTrue(millis(results.get(name)) < 10 * Math.max(1, millis(quarter.get(name))),
                        () -> name + ": " + quarter.get(name) + ", four times as long " + results.get(name));
            }
        }
    }

    private static long millis(String result) {
        return result.startsWith("refused") ? 0 : Long.parseLong(result.split(" ")[1]);
    }

    private static Map<String, String> run(Path file, int size) throws Exception {
        var command = ChildJvm.command(HostileTexts.class, file.toString(), Integer.toString(size));
        var process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.DISCARD).start();
        var results = new LinkedHashMap<String, String>();
        var ended = false;
        try (var lines = process.inputReader()) {
            for (var line = lines.readLine(); line != null; line = lines.readLine()) {
                var space = line.indexOf(' ');
                ended |= line.equals("end");
                if (space > 0) {
                    results.put(line.substring(0, space), line.substring(space + 1));
                }
            }
        } finally {
            if (!process.waitFor(10, TimeUnit.SECONDS)) {
                process.destroyForcibly();
            }
        }
        assertTrue(ended, () -> file + ": the process ended with " + process.exitValue() + " after " + results);
        return results;
    }
}
