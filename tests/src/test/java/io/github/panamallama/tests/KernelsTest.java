package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Path;
import java.util.SplittableRandom;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Kernels that replace upstream's for some shapes give what sums in double give, at every border of their tiles. */
class KernelsTest {
    private static final Pattern CASE = Pattern.compile("(.*) (\\S+) (\\S+)");

    /** On this machine: the generations of processors whose instructions it has. */
    @ParameterizedTest
    @ValueSource(strings = {"", "-mavx2 -mfma -mf16c -mbmi2",
            "-mavx2 -mfma -mf16c -mbmi2 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd"})
    void adapterKernelsEqualSumsInDouble(String flags, @TempDir Path folder) throws Exception {
        assumeTrue(flags.isEmpty() || CProgram.processorHas(flags), "this processor has not all of " + flags);
        var seed = Long.toUnsignedString(new SplittableRandom().nextLong());
        System.out.println("seed " + seed);
        var lines = CProgram.compileKernels(folder, "lora", flags).run(seed);
        for (var line : lines) {
            var match = CASE.matcher(line);
            assertTrue(match.matches(), line);
            double error = Double.parseDouble(match.group(2));
            assertTrue(error <= Double.parseDouble(match.group(3)), () -> line + ", seed " + seed + ", " + flags);
        }
        assertEquals(2 * (3 * 9 + 2 * 5) * 6 * 7, lines.size());
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "-mavx2 -mfma -mf16c -mbmi2",
            "-mavx2 -mfma -mf16c -mbmi2 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd"})
    void sanitizersFindNothingInAdapterKernels(String flags, @TempDir Path folder) throws Exception {
        assumeTrue(flags.isEmpty() || CProgram.processorHas(flags), "this processor has not all of " + flags);
        var sanitize = (flags + " -O1 -fsanitize=address,undefined -fno-sanitize-recover=all").strip();
        assertEquals(2 * (3 * 9 + 2 * 5) * 6 * 7, CProgram.compileKernels(folder, "lora", sanitize).run("1").size());
    }

    @Test
    void productsAndAttentionEqualSumsInDouble(@TempDir Path folder) throws Exception {
        var seed = Long.toUnsignedString(new SplittableRandom().nextLong());
        System.out.println("seed " + seed);
        var lines = CProgram.compile(folder, "kernels").run(seed);
        for (var line : lines) {
            var match = CASE.matcher(line);
            assertTrue(match.matches(), line);
            double error = Double.parseDouble(match.group(2));
            assertTrue(error <= Double.parseDouble(match.group(3)), () -> line + ", seed " + seed);
        }
        assertEquals(3 * 97, lines.stream().filter(line -> line.startsWith("mul_mat")).count());
        assertEquals(3 * 85, lines.stream().filter(line -> line.startsWith("attention")).count());
    }
}
