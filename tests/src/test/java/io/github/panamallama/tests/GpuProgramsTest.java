package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What {@code bench/gpu-check} runs on a GPU, on a device of a test back end: the programs compile, and their checks hold here. */
class GpuProgramsTest {
    private static final Path SOURCES = Project.HOME.resolve("bench/src/main/gpu");

    @TempDir
    static Path folder;
    private static Path whole;

    @BeforeAll
    static void compile() throws Exception {
        var inner = Project.HOME.resolve("ggml-src/upstream/ggml/src");
        assumeTrue(Files.exists(inner.resolve("ggml-backend-impl.h")), "needs llama.cpp's sources: ggml-src/vendor");
        var natives = Project.natives();
        var lib = natives.resolve("lib");
        var compiler = System.getenv().getOrDefault("CXX", "c++");
        whole = folder.resolve("whole");
        Project.run(List.of(compiler, "-std=c++17", "-O1", "-Wall", "-Werror", "-I" + natives.resolve("include"),
                SOURCES.resolve("whole.cpp").toString(), "-o", whole.toString(), "-L" + lib, "-lpanama-llama-ext", "-lllama", "-lggml",
                "-lggml-base", "-Wl,-rpath," + lib, "-Wl,-rpath-link," + lib), "").succeeded();
        Project.run(List.of(compiler, "-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-I" + Project.HOME.resolve("ggml-src/hooks"),
                "-I" + inner, "-I" + natives.resolve("include"), CProgram.SOURCES.resolve("limited_device.cpp").toString(),
                "-o", folder.resolve("limited.so").toString(), "-L" + lib, "-lggml", "-lggml-base"), "").succeeded();
    }

    /** Lines whose last two words, an error and its bound, are as they should be. */
    private static List<String> run(String environment, String... arguments) throws Exception {
        var command = new ArrayList<>(List.of("env", "GGML_BACKEND_PATH=" + folder.resolve("limited.so"), "PANAMA_LIMITED_DEVICES=400"));
        command.addAll(environment.isEmpty() ? List.of() : List.of(environment));
        command.add(whole.toString());
        command.addAll(List.of(arguments));
        var lines = Project.run(command, "").succeeded().out().lines().toList();
        for (var line : lines) {
            var words = line.split(" ");
            assertTrue(Double.parseDouble(words[words.length - 2]) <= Double.parseDouble(words[words.length - 1]), line);
        }
        return lines;
    }

    @Test
    void adaptersPlansAndTapsAreAsOnTheProcessor() throws Exception {
        assertEquals(17, run("", "check", "CUDA0", folder.toString(), "f16", "experts").size());
        assertEquals(17, run("", "check", "CUDA0", folder.toString(), "s24_q4", "small").size());
    }

    @Test
    void plansOfMemoryAreWhatIsUsedAndTooMuchIsAnError() throws Exception {
        assertEquals(5, run("", "memory", "CUDA0", folder.toString()).size());
    }

    @Test
    void aLostDeviceIsAnErrorAndTheProcessGoesOn() throws Exception {
        assertEquals(2, run("PANAMA_LIMITED_LOST=6", "lost", "CUDA0", folder.toString()).size());
    }
}
