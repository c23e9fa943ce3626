package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.json.JsonMapper;

class ControlOptionTest {
    private static final JsonMapper JSON = new JsonMapper();

    @TempDir
    Path folder;

    private String control(int block) {
        int width = (int) GgufFile.read(DefaultModel.path()).metadata().integer("llama.embedding_length").orElseThrow();
        var random = new SplittableRandom(block);
        var values = ByteBuffer.allocate(4 * width).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < width; i++) {
            values.putFloat((float) random.nextDouble(-1, 1));
        }
        var path = folder.resolve("control-" + block + ".gguf");
        new GgufWriter().put("general.architecture", "controlvector").put("controlvector.model_hint", "llama")
                .tensor("direction." + block, GgmlType.F32, List.of((long) width), out -> out.write(MemorySegment.ofArray(values.array())))
                .write(path);
        return path.toString();
    }

    private static Cli.Result generate(String... more) {
        var args = new ArrayList<>(List.of("generate", "-t", "2", "-p", "public static int max(", "-n", "12"));
        args.addAll(Arrays.asList(more));
        return Cli.run(args.toArray(String[]::new));
    }

    @Test
    void aControlVectorChangesTheText() {
        var plain = generate();
        assertEquals(0, plain.code(), plain.err());
        var file = control(2);
        var strong = generate("--control-vector", file + ":4");
        assertEquals(0, strong.code(), strong.err());
        assertNotEquals(plain.out(), strong.out());
        assertEquals(plain.out(), generate("--control-vector", file + ":0").out());
        assertEquals(plain.out(), generate("--control-vector", file + ":4", "--control-vector-layers", "3-5").out());
        assertEquals(strong.out(), generate("--control-vector", file + ":4", "--control-vector-layers", "1-2").out());
        var both = generate("--control-vector", file + ":4", "--control-vector", control(3) + ":-4");
        assertEquals(0, both.code(), both.err());
    }

    @Test
    void perplexityAndSpeedAreMeasuredWithIt() throws Exception {
        var text = Files.writeString(folder.resolve("text.java"), "public final class Point {\n    private final int x;\n}\n".repeat(20));
        var file = control(2);
        double plain = perplexity(text);
        double strong = perplexity(text, "--control-vector", file + ":4");
        assertTrue(Math.abs(strong - plain) > 0.01, plain + " and " + strong);
        assertEquals(plain, perplexity(text, "--control-vector", file + ":0"));
        assertEquals(plain, perplexity(text, "--control-vector", file + ":4", "--control-vector-layers", "3-5"));
        var bench = Cli.run("bench", "-p", "8", "-n", "4", "-r", "1", "-t", "1", "--no-warmup", "--json", "--control-vector", file + ":4",
                "--control-vector-layers", "1-3");
        assertEquals(0, bench.code(), bench.err());
        for (var test : JSON.readTree(bench.out())) {
            assertEquals(4, test.get("control_vectors").get(0).get("scale").asDouble());
            assertEquals("1-3", test.get("control_vectors").get(0).get("layers").asString());
            assertTrue(test.get("avg_ts").asDouble() > 0);
        }
    }

    private static double perplexity(Path text, String... more) {
        var args = new ArrayList<>(List.of("perplexity", text.toString(), "-c", "64", "--chunks", "2", "-t", "2", "--json"));
        args.addAll(Arrays.asList(more));
        var result = Cli.run(args.toArray(String[]::new));
        assertEquals(0, result.code(), result.err());
        return JSON.readTree(result.out()).get("ppl").asDouble();
    }

    @Test
    void whatIsWrongWithItIsSaid() throws Exception {
        var text = Files.writeString(folder.resolve("text.java"), "int x = 1;\n".repeat(200)).toString();
        var file = control(2);
        assertRefused(2, "needs --control-vector", generate("--control-vector-layers", "1-2"));
        assertRefused(2, "must be like 4-12", generate("--control-vector", file, "--control-vector-layers", "2"));
        assertRefused(2, "layers 5 to 99", generate("--control-vector", file, "--control-vector-layers", "5-99"));
        assertRefused(1, "no such control vector file", generate("--control-vector", "nowhere.gguf"));
        assertRefused(2, "finite", generate("--control-vector", file + ":NaN"));
        assertRefused(1, "is no control vector", generate("--control-vector", DefaultModel.path().toString()));
        for (var command : List.of(List.of("bench", "-p", "8", "-n", "0", "-r", "1", "--no-warmup"),
                List.of("perplexity", text, "-c", "64"))) {
            assertRefused(2, "needs --control-vector", with(command, "--control-vector-layers", "1-2"));
            assertRefused(2, "must be in order", with(command, "--control-vector", file, "--control-vector-layers", "3-2"));
            assertRefused(2, "layers 5 to 99", with(command, "--control-vector", file, "--control-vector-layers", "5-99"));
            assertRefused(1, "no such control vector file", with(command, "--control-vector", "nowhere.gguf"));
            assertRefused(1, "is no control vector", with(command, "--control-vector", DefaultModel.path().toString()));
        }
    }

    private static Cli.Result with(List<String> command, String... more) {
        var args = new ArrayList<>(command);
        args.addAll(Arrays.asList(more));
        return Cli.run(args.toArray(String[]::new));
    }

    private static void assertRefused(int code, String message, Cli.Result result) {
        assertEquals(code, result.code(), result.err());
        assertTrue(result.err().contains(message), result.err());
    }
}
