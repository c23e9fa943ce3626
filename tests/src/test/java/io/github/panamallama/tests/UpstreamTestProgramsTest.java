package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** ggml's own programs for testing types of weights, with the 2:4 sparse types added to their lists. */
class UpstreamTestProgramsTest {
    private static final List<String> TYPES = List.of("s24_q4", "s24_q8", "s24_t");

    @TempDir
    Path folder;

    @BeforeAll
    static void needsUpstream() {
        assumeTrue(Files.exists(CProgram.UPSTREAM), "no upstream tree: run ggml-src/vendor");
    }

    /** Errors of quantisers and dot products within the limits of dense types of as many bits, on 2:4 sparse rows. */
    @Test
    void quantizationFunctionsKeepUpstreamsLimits() throws Exception {
        var lines = CProgram.compileUpstream(folder, "test-quantize-fns").run("-v");
        for (var type : TYPES) {
            for (var what : List.of("absolute quantization error", "reference implementation error", "dot product error")) {
                assertEquals(1, lines.stream().filter(line -> line.matches(" *" + type + " " + what + ": +ok .*")).count(), type + ", "
                        + what);
            }
        }
        assertEquals("0 tests failed", lines.getLast());
    }

    /** What the program measures is for people; here it runs the functions on rows at odd addresses. */
    @Test
    void quantizationFunctionsRunAtEveryAlignmentOfTheirInput() throws Exception {
        var program = CProgram.compileUpstream(folder, "test-quantize-perf");
        for (var offset : List.of("0", "4", "36")) {
            var lines = program.run("--type", "s24_q4", "--type", "s24_q8", "--type", "s24_t", "--size", "4096", "-i", "1",
                    "--alignment-offset", offset);
            assertEquals(TYPES, lines.stream().filter(TYPES::contains).toList());
            assertEquals(3 * 5, lines.stream().filter(line -> line.contains("quantized throughput")).count());
        }
    }

    /** Every case of an operator that has such a type, against ggml's reference back end. */
    @Test
    void operatorsGiveWhatTheReferenceBackEndGives() throws Exception {
        var lines = CProgram.compileUpstream(folder, "test-backend-ops").run("test", "-b", "CPU", "-p", "s24_");
        for (var type : TYPES) {
            for (var operator : List.of("MUL_MAT", "MUL_MAT_ID", "GET_ROWS", "SET_ROWS", "CPY", "OUT_PROD")) {
                assertTrue(lines.stream().anyMatch(line -> line.matches("  " + operator + "\\(.*=" + type + ",.*OK.*")), operator + ", "
                        + type);
            }
        }
        assertEquals(List.of(), lines.stream().filter(line -> line.contains("FAIL")).toList());
    }
}
