package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Models and adapters whose disk is full when half of them is written: nothing of them is left, and what was there before is. */
class DiskFullTest {
    /** Less than any of the models takes, more than all that is written beside them. */
    private static final int KILOBYTES = 1500;
    /** The same for adapters and statistics. */
    private static final int SMALL_KILOBYTES = 48;

    @TempDir
    private Path folder;
    private Path text;

    @BeforeEach
    void prepare() throws Exception {
        assumeTrue(Files.isExecutable(Path.of("/bin/bash")), "needs bash, to limit the size of files");
        text = Files.writeString(folder.resolve("text.java"), JavaText.below(Project.HOME.resolve("quantization/src/main/java")));
        Commands.run("inspect", Models.shippedF16().toString()).succeeded();    // unpacks the natives, where nothing has yet
    }

    @ParameterizedTest
    @ValueSource(strings = {"quantize IN OUT Q8_0", "quantize IN OUT S24_Q8", "sparsify IN OUT --type S24_Q4",
            "sparsify IN OUT --type S24_Q8 --calib TEXT -c 64 --chunks 4", "quantize IN OUT --plan PLAN", "adapters merge IN ADAPTER OUT",
            "adapters convert ADAPTER OUT --type f32", "adapters combine ADAPTER OTHER OUT", "imatrix -m IN TEXT OUT -c 64 --chunks 4"})
    void nothingIsLeftOfAFile(String line) throws Exception {
        var plan = folder.resolve("plan.json");
        if (line.contains("PLAN")) {
            Commands.run("search-types", Models.shippedF16().toString(), "--bpw", "5", "--calib", text.toString(), "-o", plan.toString(),
                    "--types", "Q4_0,Q8_0", "-c", "64", "--chunks", "6", "--generations", "1", "--offspring", "1", "--tokens", "128",
                    "-t", "2").succeeded();
        }
        var into = Files.createDirectory(folder.resolve("into"));
        var out = into.resolve("out.gguf");
        var arguments = Arrays.stream(line.split(" ")).map(word -> switch (word) {
            case "IN" -> Models.shippedF16().toString();
            case "OUT" -> out.toString();
            case "TEXT" -> text.toString();
            case "PLAN" -> plan.toString();
            case "ADAPTER" -> adapter(1);
            case "OTHER" -> adapter(2);
            default -> word;
        }).toList();
        int most = line.matches("(adapters c|imatrix).*") ? SMALL_KILOBYTES : KILOBYTES;
        assertFails(most, into, List.of(), arguments);

        Files.writeString(out, "mine");
        var again = new ArrayList<>(arguments);
        again.add("--force");
        assertFails(most, into, List.of(out), again);
        assertEquals("mine", Files.readString(out));
    }

    private String adapter(int seed) {
        return RandomAdapter.of(seed).write(GgufFile.read(Models.shippedF16()), folder.resolve("adapter-" + seed + ".gguf")).toString();
    }

    private static void assertFails(int kilobytes, Path into, List<Path> wanted, List<String> arguments) throws Exception {
        var result = Commands.runWithFilesBelow(kilobytes, arguments.toArray(String[]::new));
        assertEquals(1, result.code(), arguments + "\n" + result.out() + result.error());
        assertTrue(result.error().contains(into.resolve("out.gguf").toString()), result.error());
        try (var left = Files.list(into)) {
            assertEquals(wanted, left.toList(), result.error());
        }
    }

    @Test
    void nothingIsLeftOfASearch() throws Exception {
        var scratch = Files.createDirectory(folder.resolve("scratch"));
        var plan = folder.resolve("plan.json");
        var result = Commands.runWithFilesBelow(KILOBYTES, "search-types", Models.shippedF16().toString(), "--bpw", "5", "--calib",
                text.toString(), "-o", plan.toString(), "-c", "64", "--chunks", "4", "--scratch", scratch.toString(), "-t", "2");
        assertEquals(1, result.code(), result.error());
        assertTrue(result.error().contains("can't write the matrices in other types to " + scratch), result.error());
        assertTrue(Files.notExists(plan));
        try (var left = Files.list(scratch)) {
            assertEquals(List.of(), left.toList());
        }
    }
}
