package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;
import org.junit.jupiter.api.io.TempDir;

/** The natives for 64-bit Arm, made by a cross compiler and run on an emulator: they load, choose a back end and compute the same. */
@EnabledIfSystemProperty(named = "panamallama.variants", matches = "true",
        disabledReason = "builds for another platform; run it with -Dpanamallama.variants=true")
class CrossBuildTest {
    /** Of the logits' root mean square: sums in another order, and half floats where Arm multiplies them. */
    private static final double RELATIVE = 0.02;

    @TempDir
    private Path folder;

    @Test
    void nativesForArmGiveTheSameLogits() throws Exception {
        assumeTrue(CProgram.emulatesArm(), "skipped: no aarch64-linux-gnu-g++ and qemu-aarch64 on the PATH");
        var here = logits(built("--portable"), System.getenv().getOrDefault("CC", "cc"), List.of());
        var arm = logits(built("--target", "linux-aarch64"), "aarch64-linux-gnu-gcc",
                List.of("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"));
        assertEquals(here.length, arm.length);
        double difference = 0;
        double square = 0;
        for (int i = 0; i < here.length; i++) {
            difference += Math.pow(arm[i] - here[i], 2);
            square += Math.pow(here[i], 2);
        }
        double relative = Math.sqrt(difference / square);
        System.out.printf("%d logits, root mean square difference %.2g of theirs%n", here.length, relative);
        assertTrue(square > 0 && relative < RELATIVE, "relative difference " + relative);
    }

    private static Path built(String... options) throws IOException, InterruptedException {
        var command = new ArrayList<>(List.of(Project.HOME.resolve("ggml-src/build").toString()));
        command.addAll(List.of(options));
        return Path.of(Project.run(command, "").succeeded().out().strip().lines().toList().getLast());
    }

    private float[] logits(Path natives, String compiler, List<String> emulator) throws IOException, InterruptedException {
        var lib = natives.resolve("lib");
        var program = folder.resolve("crossed-" + compiler);
        Project.run(List.of(compiler, "-std=gnu11", "-O1", "-Wall", "-Werror", "-I" + natives.resolve("include"),
                Project.HOME.resolve("tests/src/test/c/crossed.c").toString(), "-o", program.toString(), "-L" + lib, "-lpanama-llama-ext",
                "-lllama", "-lggml", "-lggml-base", "-Wl,-rpath," + lib, "-Wl,-rpath-link," + lib), "").succeeded();
        var out = folder.resolve("logits");
        var command = new ArrayList<>(emulator);
        command.addAll(List.of(program.toString(), lib.toString(), Models.shippedF16().toString(), out.toString()));
        Project.run(command, "").succeeded();
        var floats = ByteBuffer.wrap(Files.readAllBytes(out)).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
        var rows = new float[floats.remaining()];
        floats.get(rows);
        return rows;
    }
}
