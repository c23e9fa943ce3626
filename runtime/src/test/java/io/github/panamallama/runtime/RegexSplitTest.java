package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Random;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The matcher in {@code ggml-src/hooks/regex_split.h} splits as {@code std::regex} does, by every pattern that upstream has. */
class RegexSplitTest {
    private static final Path NATIVE = Path.of("..", "ggml-src");

    @TempDir
    Path folder;

    @Test
    void everyPatternOfUpstreamSplitsAsStdRegexSplits() throws Exception {
        var upstream = NATIVE.resolve("upstream/src");
        assumeTrue(Files.isDirectory(upstream), "no upstream tree at " + upstream.toAbsolutePath() + ": run ggml-src/vendor");
        var original = Files.readAllLines(upstream.resolve("unicode.cpp"));
        Files.write(folder.resolve("original.cpp"), original);
        Files.write(folder.resolve("patched.cpp"), patched(original, Files.readAllLines(NATIVE.resolve("patches/regex-split.patch"))));
        Files.writeString(folder.resolve("lists.inc"), patterns(Files.readString(upstream.resolve("llama-vocab.cpp"))));
        Files.write(folder.resolve("check.cpp"),
                Objects.requireNonNull(RegexSplitTest.class.getResourceAsStream("regex_split_check.cpp")).readAllBytes());

        var seed = new Random().nextInt(Integer.MAX_VALUE);
        System.out.println("seed " + seed);
        var expected = run(compile(upstream, "original"), seed);
        var actual = run(compile(upstream, "patched"), seed);
        assertTrue(expected.size() > 10_000, "only " + expected.size() + " splits");
        assertEquals(expected, actual);
    }

    /** Applies a patch that only adds lines. */
    private static List<String> patched(List<String> original, List<String> patch) {
        var result = new ArrayList<>(original);
        var at = -1;
        for (var line : patch) {
            if (line.startsWith("@@")) {
                at = Integer.parseInt(line.replaceFirst("@@ -\\d+,0 \\+(\\d+).*", "$1")) - 1;
            } else if (line.startsWith("+") && !line.startsWith("+++")) {
                result.add(at++, line.substring(1));
            }
        }
        assertEquals(2, result.size() - original.size());
        return result;
    }

    private static String patterns(String source) {
        var lists = Pattern.compile("regex_exprs = \\{(.*?)\\n\\s*\\};", Pattern.DOTALL).matcher(source).results().map(m -> "{" + m.group(1)
                + "\n},\n").toList();
        assertTrue(lists.size() > 30, "only " + lists.size() + " patterns");
        return String.join("", lists);
    }

    private Path compile(Path upstream, String variant) throws IOException, InterruptedException {
        var compiler = System.getenv().getOrDefault("CXX", "c++");
        var program = folder.resolve(variant);
        Process process;
        try {
            process = new ProcessBuilder(compiler, "-std=c++17", "-O1", "-w", "-DUNICODE=\"" + variant + ".cpp\"", "-I" + folder,
                    "-I" + upstream.toAbsolutePath(), "-I" + NATIVE.resolve("hooks").toAbsolutePath(), "-o", program.toString(),
                    folder.resolve("check.cpp").toString(),
                            upstream.resolve("unicode-data.cpp").toString()).redirectErrorStream(true).start();
        } catch (IOException e) {
            assumeTrue(false, "no C++ compiler (" + compiler + ") on this machine");
            throw e;
        }
        var text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(0, process.waitFor(), text);
        return program;
    }

    private static List<String> run(Path program, int seed) throws IOException, InterruptedException {
        var process = new ProcessBuilder(program.toString(), Integer.toString(seed), "600").redirectErrorStream(true).start();
        var lines = process.inputReader(StandardCharsets.UTF_8).lines().toList();
        assertEquals(0, process.waitFor(), () -> program.getFileName() + ": " + lines.getLast());
        return lines;
    }
}
