package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.adapters.AdapterMerger;
import io.github.panamallama.adapters.LoraWeights;
import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Random;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** adapters merge, diff and combine. */
class AdapterFilesTest {
    @TempDir
    Path folder;

    private String base;
    private String adapter;
    private String other;

    @BeforeEach
    void files() {
        base = folder.resolve("base.gguf").toString();
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(Path.of(base));
        adapter = write("adapter", 4, "blk.0.attn_q.weight", "blk.2.attn_q.weight");
        other = write("other", 2, "blk.2.attn_q.weight", "blk.3.attn_output.weight");
    }

    private String write(String name, int rank, String... matrices) {
        var random = new Random(name.hashCode());
        var targets = List.of(matrices).stream()
                .map(matrix -> new LoraWeights.Target(matrix, rank, 64, 64, 1, values(random, rank), values(random, rank))).toList();
        var file = folder.resolve(name + ".gguf");
        new LoraWeights("llama", name, rank, new int[0], Map.of(), targets).write(file, GgmlType.F32);
        return file.toString();
    }

    private static float[] values(Random random, int rank) {
        var values = new float[64 * rank];
        for (int i = 0; i < values.length; i++) {
            values[i] = random.nextFloat(-1, 1);
        }
        return values;
    }

    private String out(String name) {
        return folder.resolve(name).toString();
    }

    @Test
    void mergeWritesWhatTheMergerWrites() throws IOException {
        var out = out("out.gguf");
        var result = Cli.run("adapters", "merge", base, adapter + ":0.5", other, out, "--type", "f16");
        assertEquals(0, result.code(), result.err());
        assertEquals("", result.out());
        assertTrue(result.err().contains("2 adapters merged"), result.err());
        var wanted = folder.resolve("wanted.gguf");
        AdapterMerger.of(Path.of(base)).with(Path.of(adapter), 0.5f).with(Path.of(other), 1).withMatrixType(GgmlType.F16).run(wanted);
        assertEquals(-1, Files.mismatch(wanted, Path.of(out)));
    }

    @Test
    void mergeQuantisesTheWholeModelToOtherTypes() {
        var result = Cli.run("adapters", "merge", "--type", "q8_0", base, adapter, out("out.gguf"));
        assertEquals(0, result.code(), result.err());
        assertEquals(GgmlType.Q8_0, GgufFile.read(folder.resolve("out.gguf")).tensor("blk.1.ffn_up.weight").orElseThrow().type());
    }

    @Test
    void mergeOverwritesNothingUnasked() throws IOException {
        var out = Files.writeString(folder.resolve("out.gguf"), "mine").toString();
        var result = Cli.run("adapters", "merge", base, adapter, out);
        assertEquals(1, result.code());
        assertTrue(result.err().contains("exists"), result.err());
        assertEquals(0, Cli.run("adapters", "merge", "--force", base, adapter, out).code());
        result = Cli.run("adapters", "merge", "--force", base, adapter, base);
        assertEquals(1, result.code());
        assertTrue(result.err().contains("is an input"), result.err());
    }

    @Test
    void diffShowsMatricesLayersAndTheWhole() {
        var result = Cli.run("adapters", "diff", adapter);
        assertEquals(0, result.code(), result.err());
        assertTrue(result.out().matches("(?s)matrix +rank +norm\nblk\\.0\\.attn_q\\.weight +4 +\\d.*\nlayer 0 .*\nlayer 2 .*\nall .*"),
                result.out());
        result = Cli.run("adapters", "diff", adapter, "--base", base);
        assertTrue(result.out().contains("relative") && result.out().contains(" %"), result.out());
    }

    @Test
    void diffAsJsonHasTheScaledNorms() {
        var full = Cli.run("adapters", "diff", "--json", "--base", base, adapter).json();
        var half = Cli.run("adapters", "diff", "--json", adapter + ":0.5").json();
        assertEquals("blk.2.attn_q.weight", full.get("matrices").get(1).get("name").asString());
        assertEquals(2, full.get("matrices").get(1).get("layer").asInt());
        assertEquals("attn_q", full.get("matrices").get(1).get("kind").asString());
        assertEquals(full.get("total").get("norm").asDouble() / 2, half.get("total").get("norm").asDouble(), 1e-9);
        assertEquals(full.get("layers").get(0).get("norm").asDouble() / full.get("layers").get(0).get("base_norm").asDouble(),
                full.get("layers").get(0).get("relative").asDouble(), 1e-12);
        assertFalse(half.get("matrices").get(0).has("base_norm"));
    }

    @Test
    void diffDrawsAPicture() throws IOException {
        var file = folder.resolve("plot.png");
        var result = Cli.run("adapters", "diff", adapter, "--base", base, "--plot", file.toString());
        assertEquals(0, result.code(), result.err());
        var picture = ImageIO.read(file.toFile());
        assertTrue(picture.getWidth() >= 900, "" + picture.getWidth());
        int coloured = 0;
        for (int y = 0; y < picture.getHeight(); y++) {
            for (int x = 0; x < picture.getWidth(); x++) {
                int rgb = picture.getRGB(x, y);
                if ((rgb >> 16 & 255) != (rgb & 255)) {
                    coloured++;
                }
            }
        }
        assertTrue(coloured > 1000, "bars stand on the white ground: " + coloured + " points");
    }

    @Test
    void combineAddsAndCuts() {
        var result = Cli.run("adapters", "combine", adapter + ":-2", other, out("sum.gguf"), "--type", "f32", "--name", "both");
        assertEquals(0, result.code(), result.err());
        var sum = LoraWeights.read(AdapterFile.read(folder.resolve("sum.gguf")));
        assertEquals("both", sum.name());
        assertEquals(List.of(4, 6, 2), sum.targets().stream().map(LoraWeights.Target::rank).toList());
        assertTrue(result.err().contains("rank 6"), result.err());

        result = Cli.run("adapters", "combine", adapter, other, out("cut.gguf"), "--rank", "3");
        assertEquals(0, result.code(), result.err());
        assertTrue(result.err().matches("(?s).*rank 3; the cut changes the updates by \\d+\\.\\d\\d %.*"), result.err());
        assertEquals(GgmlType.F16, GgufFile.read(folder.resolve("cut.gguf")).tensors().getFirst().type());
    }

    @Test
    void combineOverwritesNothingUnasked() throws IOException {
        var out = Files.writeString(folder.resolve("out.gguf"), "mine").toString();
        assertEquals(1, Cli.run("adapters", "combine", adapter, out).code());
        assertEquals("mine", Files.readString(Path.of(out)));
        assertEquals(0, Cli.run("adapters", "combine", "--force", adapter, out).code());
        var result = Cli.run("adapters", "combine", "--force", adapter, adapter);
        assertEquals(1, result.code());
        assertTrue(result.err().contains("is an input"), result.err());
    }

    @Test
    void wrongArgumentsAreNamed() {
        usage("is no type", "adapters", "merge", base, adapter, out("x"), "--type", "f17");
        usage("must be finite", "adapters", "merge", base, adapter + ":NaN", out("x"));
        usage("q4_K", "adapters", "combine", adapter, out("x"), "--type", "q4_K");
        usage("--rank is 0", "adapters", "combine", adapter, out("x"), "--rank", "0");
        usage("must be finite", "adapters", "diff", adapter + ":Infinity");
        usage("at least 2 values", "adapters", "merge", base, adapter);
        usage("a command is needed", "adapters");
        var missing = Cli.run("adapters", "diff", out("missing.gguf") + ":much");
        assertEquals(1, missing.code());
        assertTrue(missing.err().contains("missing.gguf:much") && missing.err().contains("no such file"), missing.err());
        var model = Cli.run("adapters", "diff", base);
        assertEquals(1, model.code());
        assertTrue(model.err().contains("general.type"), model.err());
    }

    private static void usage(String part, String... args) {
        var result = Cli.run(args);
        assertEquals(2, result.code(), result.err());
        assertTrue(result.err().contains(part), result.err());
    }
}
