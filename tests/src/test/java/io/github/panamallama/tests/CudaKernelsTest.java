package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The CUDA kernels for 2:4 sparse weights where there is no GPU: what they compute, their source compiled for this machine, and that nvcc
 * compiles them and what ggml-cuda calls. Speed, and what only a GPU can show, is {@code bench/gpu-check}'s.
 */
class CudaKernelsTest {
    private final String seed = Long.toUnsignedString(new SplittableRandom().nextLong());

    @TempDir
    Path folder;

    @Test
    void everyOperatorGivesTheSumsOfTheReference() throws Exception {
        assertOperators(CProgram.compileKernels(folder, "s24_cuda", "").run(seed));
    }

    @Test
    void sanitizersFindNothing() throws Exception {
        var flags = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all";
        assertOperators(CProgram.compileKernels(folder, "s24_cuda", flags).run(seed));
    }

    @ParameterizedTest
    @ValueSource(strings = {"sm_80", "sm_90"})
    void compilesForGpus(String architecture) throws Exception {
        assumeTrue(CProgram.onPath("nvcc"), "needs nvcc on the PATH");
        CProgram.compileForGpu(folder, "s24_cuda.cpp", architecture);
        var upstream = Project.HOME.resolve("ggml-src/upstream/ggml");
        assumeTrue(Files.exists(upstream.resolve("src/ggml-cuda/common.cuh")), "needs llama.cpp's sources: ggml-src/vendor");
        CProgram.compileForGpu(folder, "s24_ggml.cu", architecture, upstream.resolve("src"), upstream.resolve("include"),
                CProgram.SOURCES.resolve("no-cublas"));
    }

    /** All patches apply to what travels to a machine with a GPU, and with none there the check says so. */
    @Test
    void whatAGpuIsCheckedWithCanBePacked() throws Exception {
        assumeTrue(Files.exists(Project.HOME.resolve("ggml-src/upstream/include/llama.h")), "needs llama.cpp's sources: ggml-src/vendor");
        var script = Project.HOME.resolve("bench/gpu-check").toString();
        Project.run(List.of(script, "--pack"), "").succeeded();
        var packed = Project.HOME.resolve("bench/target/gpu-check/llama.cpp");
        assertTrue(Files.readString(packed.resolve("ggml/src/ggml-cuda/ggml-cuda.cu")).contains("pl::s24::cuda::mul_mat(ctx, "));
        assertTrue(Files.readString(packed.resolve("tests/test-backend-ops.cpp")).contains("GGML_TYPE_S24_Q4"));
        if (!CProgram.onPath("nvidia-smi")) {
            var result = Project.run(List.of(script), "");
            assertEquals(2, result.code(), result.error());
            assertTrue(result.error().contains("this needs a machine with an NVIDIA GPU"), result.error());
        }
    }

    private void assertOperators(List<String> lines) {
        System.out.println("seed " + seed);
        for (var line : lines) {
            var words = line.split(" ");
            double error = Double.parseDouble(words[words.length - 2]);
            assertTrue(error <= Double.parseDouble(words[words.length - 1]), () -> line + ", seed " + seed);
        }
        int kinds = 4 * 4 + 1; // of weights and activations: scaled ones meet only each other
        assertEquals(3 * kinds * 10, count(lines, "vector "));
        assertEquals(3 * 5, count(lines, "experts "));
        assertEquals(3 * (kinds + 4), count(lines, "tensor "));
        assertEquals(3 * 6, count(lines, "expand "));
        assertEquals(3 * 6, count(lines, "get_rows "));
        var exact = lines.stream().filter(line -> line.matches("(vector|experts|tensor|expand|get_rows) .* 0 0")).count();
        assertEquals(3 * (4 * 4 * 10 + 4 + 4 * 4 + 3 + 12), exact, "without scales sums are exact, and so are single weights");
    }

    private static long count(List<String> lines, String operator) {
        return lines.stream().filter(line -> line.startsWith(operator)).count();
    }
}
