package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.SplittableRandom;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Kernels that replace upstream's for some shapes give what sums in double give, at every border of their tiles. */
class KernelsTest {
    private static final Pattern CASE = Pattern.compile("(.*) (\\S+) (\\S+)");

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
        assertEquals(3 * 89, lines.stream().filter(line -> line.startsWith("mul_mat")).count());
        assertEquals(3 * 85, lines.stream().filter(line -> line.startsWith("attention")).count());
    }
}
