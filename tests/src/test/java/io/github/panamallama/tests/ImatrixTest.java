package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Dequantizer;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** {@code panama-llama imatrix} writes what {@code llama-imatrix} writes, and both programs quantise alike with it. */
class ImatrixTest {
    /** Of the root of each column's sum, in parts of the mean: the two programs evaluate batches of different sizes. */
    private static final double TOLERANCE = 1e-3;

    @TempDir
    private Path folder;

    static Stream<Arguments> modelsAndTypes() {
        return Stream.of(Arguments.of(Models.shippedF16(), "IQ2_XS"), Arguments.of(Models.random(Architecture.QWEN3MOE), "IQ4_NL"));
    }

    @ParameterizedTest
    @MethodSource("modelsAndTypes")
    void importanceMatrixEqualsUpstreamsAndQuantisesAlike(Path path, String type) throws Exception {
        var model = path.toString();
        var text = Files.writeString(folder.resolve("text.txt"), JavaText.below(Project.HOME.resolve("runtime/src/main/java")));
        var ours = folder.resolve("ours.gguf");
        var theirs = folder.resolve("theirs.gguf");
        Commands.run("imatrix", "-m", model, text.toString(), ours.toString(), "-c", "256", "--chunks", "8", "-t", "2").succeeded();
        Project.run(List.of(Project.tools().resolve("llama-imatrix").toString(), "-m", model, "-f", text.toString(), "-o",
                theirs.toString(), "-c", "256", "--chunks", "8", "-t", "2", "--no-ppl"), "").succeeded();

        var own = GgufFile.read(ours);
        var upstream = GgufFile.read(theirs);
        assertEquals(names(upstream), names(own));
        for (var key : List.of("general.type", "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size")) {
            assertEquals(upstream.metadata().type(key), own.metadata().type(key), key);
            assertEquals(upstream.metadata().text(key), own.metadata().text(key), key);
        }
        double largest = 0;
        for (var tensor : upstream.tensors()) {
            assertEquals(tensor.shape(), own.tensor(tensor.name()).orElseThrow().shape(), tensor.name());
            float[] wanted = values(upstream, tensor);
            float[] got = values(own, own.tensor(tensor.name()).orElseThrow());
            double mean = 0;
            for (float value : wanted) {
                mean += Math.sqrt(value) / wanted.length;
            }
            for (int i = 0; i < wanted.length; i++) {
                double difference = Math.abs(Math.sqrt(wanted[i]) - Math.sqrt(got[i])) / mean;
                largest = Math.max(largest, difference);
                assertTrue(difference <= (tensor.name().endsWith(".counts") ? 0 : TOLERANCE),
                        tensor.name() + " " + i + ": " + got[i] + ", upstream " + wanted[i]);
            }
        }
        System.out.printf("largest difference of a norm: %.2e of the mean%n", largest);

        var quantized = folder.resolve("quantized.gguf");
        var byUpstream = folder.resolve("by-upstream.gguf");
        Commands.run("quantize", model, quantized.toString(), type, "--imatrix", ours.toString()).succeeded();
        Project.run(List.of(Project.tools().resolve("llama-quantize").toString(), "--imatrix", ours.toString(), model,
                byUpstream.toString(), type, "2"), "").succeeded();
        var left = GgufFile.read(quantized);
        var right = GgufFile.read(byUpstream);
        for (var tensor : right.tensors()) {
            var same = left.tensor(tensor.name()).orElseThrow();
            assertEquals(tensor.type(), same.type(), tensor.name());
            try (var arena = Arena.ofConfined()) {
                assertEquals(-1, right.map(tensor, arena).mismatch(left.map(same, arena)), tensor.name());
            }
        }
    }

    private static String names(GgufFile file) {
        return file.tensors().stream().map(GgufTensor::name).collect(Collectors.joining("\n"));
    }

    private static float[] values(GgufFile file, GgufTensor tensor) {
        var values = new float[(int) tensor.elementCount()];
        try (var arena = Arena.ofConfined()) {
            Dequantizer.toFloats(tensor.type(), file.map(tensor, arena), values, values.length);
        }
        return values;
    }
}
