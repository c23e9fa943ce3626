package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The 2:4 sparse block types in ggml: every operator, every instruction set, what quantisers promise, and what is refused. */
class SparseTypesTest {
    private static final Pattern CASE = Pattern.compile("(.*) (\\S+) (\\S+)");
    private static final String AVX2 = "-mavx2 -mfma -mf16c -mbmi2";
    private static final String AVX512 = AVX2 + " -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd -mavx512vnni";

    private final String seed = Long.toUnsignedString(new SplittableRandom().nextLong());

    @TempDir
    Path folder;

    @Test
    void everyOperatorGivesWhatTheDequantisedWeightsGive() throws Exception {
        var lines = CProgram.compile(folder, "sparse").run(seed, folder.toString());
        assertWithinBounds(lines, "");
        assertEquals(3 * 3 * (8 * 6 + 1), lines.stream().filter(line -> line.startsWith("mul_mat ")).count());
        for (var operator : List.of("mul_mat_id", "mul_mat_id n=1", "mul_mat_id apart", "get_rows", "cpy to f32",
                "cpy from f32", "cont of a view", "set_rows", "add", "add1", "out_prod")) {
            assertEquals(3 * 3, lines.stream().filter(line -> line.startsWith(operator + " s24_")).count(), operator);
        }
        assertEquals(3 * 8, lines.stream().filter(line -> line.startsWith("round trip")).count());
        assertEquals(3 * 3 * 60 + 3 * 9 + 1 + 9 + 5, lines.size());
    }

    /** On this machine: the generations of processors whose instructions it has, the reference first. */
    @ParameterizedTest
    @ValueSource(strings = {"", AVX2, AVX512, AVX512 + " -mavx512vbmi"})
    void everyInstructionSetGivesTheSumsOfTheReference(String flags) throws Exception {
        assumeTrue(flags.isEmpty() || CProgram.processorHas(flags), "this processor has not all of " + flags);
        assertKernels(CProgram.compileKernels(folder, "s24", flags).run(seed), flags);
    }

    @ParameterizedTest
    @ValueSource(strings = {"", AVX2, AVX512 + " -mavx512vbmi"})
    void sanitizersFindNothing(String flags) throws Exception {
        assumeTrue(flags.isEmpty() || CProgram.processorHas(flags), "this processor has not all of " + flags);
        var sanitize = (flags + " -O1 -fsanitize=address,undefined -fno-sanitize-recover=all").strip();
        assertKernels(CProgram.compileKernels(folder, "s24", sanitize).run(seed), sanitize);
    }

    /**
     * From floats to blocks and back, the check of blocks, and products shared by threads as ggml-cpu shares them. Without instructions for
     * them the reference runs, and says so once: for a product by an expert, which is the first here, as for any other.
     */
    @ParameterizedTest
    @ValueSource(strings = {"", AVX2, AVX512 + " -mavx512vbmi"})
    void sanitizersFindNothingInBlocksAndThreads(String flags) throws Exception {
        assumeTrue(Files.exists(CProgram.UPSTREAM), "no upstream tree: run ggml-src/vendor");
        assumeTrue(flags.isEmpty() || CProgram.processorHas(flags), "this processor has not all of " + flags);
        var sanitize = (flags + " -O1 -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -pthread").strip();
        var lines = CProgram.compileInnerKernels(folder, "s24_blocks", sanitize).run(seed);
        assertWithinBounds(lines, sanitize);
        assertEquals(3 * (2 + 12 + 2 + 3 * 4) + 2, lines.size());
    }

    @ParameterizedTest
    @ValueSource(strings = {"-march=armv8-a", "-march=armv8.2-a+dotprod"})
    void armGivesTheSumsOfTheReference(String flags) throws Exception {
        assumeTrue(CProgram.emulatesArm(), "needs aarch64-linux-gnu-g++ and qemu-aarch64 on the PATH");
        assertKernels(CProgram.compileKernelsForArm(folder, "s24", flags).run(seed), flags);
    }

    /** llama.cpp as released, which doesn't know the types. */
    @ParameterizedTest
    @ValueSource(strings = {"llama-completion -m FILE -p x -n 1 -no-cnv", "llama-bench -v -m FILE -p 8 -n 0",
            "llama-quantize FILE OUT Q8_0"})
    void aProgramThatDoesNotKnowThemFailsCleanly(String line) throws Exception {
        var tools = Project.releasedTools();
        assumeTrue(Files.isDirectory(tools), "llama.cpp as released is not built; ggml-src/build --unpatched --tools builds it");
        var sparse = folder.resolve("sparse.gguf");
        Commands.run("quantize", Models.shippedF16().toString(), sparse.toString(), "S24_Q4").succeeded();
        var command = new ArrayList<String>();
        for (var word : line.split(" ")) {
            command.add(word.equals("FILE") ? sparse.toString() : word.equals("OUT") ? folder.resolve("out.gguf").toString() : word);
        }
        command.set(0, tools.resolve(command.getFirst()).toString());
        var result = Project.run(command, "");
        assertTrue(result.code() > 0 && result.code() < 128, "exit code " + result.code());
        // its completion program writes its log from a thread of its own, the end of which may be lost when it exits
        assertTrue(line.startsWith("llama-completion") || (result.out() + result.error()).contains("invalid ggml type 200"),
                result.out() + result.error());
    }

    private void assertKernels(List<String> lines, String flags) {
        assertWithinBounds(lines, flags);
        int cases = 5 * 3 + 7 * 5;
        assertEquals(6, lines.stream().filter(line -> line.startsWith("rounding of ")).count());
        assertEquals(3 * 17 * cases + 6, lines.size());
        assertEquals(3 * 16 * cases + 6, lines.stream().filter(line -> line.endsWith(" 0 0")).count(), "sums without scales are exact");
    }

    private void assertWithinBounds(List<String> lines, String flags) {
        System.out.println("seed " + seed);
        for (var line : lines) {
            var match = CASE.matcher(line);
            assertTrue(match.matches(), line);
            double error = Double.parseDouble(match.group(2));
            assertTrue(error <= Double.parseDouble(match.group(3)), () -> line + ", seed " + seed + ", " + flags);
        }
    }
}
