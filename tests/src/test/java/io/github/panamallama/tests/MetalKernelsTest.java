package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What the Metal kernels for 2:4 sparse weights compute, their source compiled for this machine: they have not run on an Apple GPU. */
class MetalKernelsTest {
    private final String seed = Long.toUnsignedString(new SplittableRandom().nextLong());

    @TempDir
    Path folder;

    @ParameterizedTest
    @ValueSource(strings = {"", "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"})
    void everyOperatorGivesTheSumsOfTheReference(String flags) throws Exception {
        System.out.println("seed " + seed);
        List<String> lines = CProgram.compileKernels(folder, "s24_metal", flags).run(seed);
        for (var line : lines) {
            var words = line.split(" ");
            double error = Double.parseDouble(words[words.length - 2]);
            assertTrue(error <= Double.parseDouble(words[words.length - 1]), () -> line + ", seed " + seed);
        }
        int kinds = 4 * 4 + 1; // of weights and activations: scaled ones meet only each other
        assertEquals(4 * 3 * (kinds + 5 * 2), lines.size());
        assertEquals(4 * 3 * (kinds - 1 + 5 * 2), lines.stream().filter(line -> line.endsWith(" 0 0")).count(),
                "without scales sums are exact");
    }
}
