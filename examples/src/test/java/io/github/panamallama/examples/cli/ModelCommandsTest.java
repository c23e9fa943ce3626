package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.gguf.RandomEncoder;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** inspect, tokenize, perplexity, quantize, imatrix, sparsify, search-types and bench. */
class ModelCommandsTest {
    private static final String F16 = Path.of("..", "models", "java-tiny-f16.gguf").toString();

    @TempDir
    Path folder;

    @Test
    void inspectShowsMetadataTypesAndTensors() {
        var result = Cli.run("inspect", DefaultModel.path().toString());
        assertEquals(0, result.code(), result.err());
        assertTrue(result.out().contains("general.architecture") && result.out().contains("token_embd.weight"), result.out());
        assertTrue(result.out().matches("(?s).*q8_0 +\\d+ tensors.* 8\\.50 bits per weight.*"), result.out());
        assertEquals("", result.err());
    }

    @Test
    void inspectAsJsonIsComplete() {
        var json = Cli.run("inspect", "--json", DefaultModel.path().toString()).json();
        assertEquals("llama", json.get("metadata").get("general.architecture").asString());
        assertEquals(5_771_520, json.get("n_params").asLong());
        assertEquals(json.get("n_tensors").asInt(), json.get("tensors").size());
        assertEquals(4096, json.get("metadata").get("tokenizer.ggml.tokens").size());
        long bytes = 0;
        for (var tensor : json.get("tensors")) {
            bytes += tensor.get("bytes").asLong();
        }
        assertEquals(bytes, json.get("tensor_bytes").asLong());
        assertEquals(8.0 * bytes / 5_771_520, json.get("bits_per_weight").asDouble(), 1e-3);
    }

    @Test
    void escapesKeepFilesFromWritingToTheTerminal() {
        assertEquals("a\\u001b[31mb\\n\\tc\\u009b", InspectCommand.escape("a\u001b[31mb\n\tc\u009b"));
    }

    @Test
    void tokenizePrintsIdsAndPiecesOfStandardInput() {
        var text = "return x;\n\u00e9\uD83D\uDE00";
        var json = Cli.withInput(text, "tokenize", "--json").json();
        var joined = new StringBuilder();
        json.get("tokens").forEach(token -> joined.append(token.get("text").asString()));
        assertEquals(text, joined.toString());
        assertEquals(json.get("n_tokens").asInt(), json.get("tokens").size());

        var plain = Cli.withInput(text, "tokenize");
        assertEquals(json.get("n_tokens").asInt(), plain.out().lines().count());
        assertTrue(plain.out().lines().allMatch(line -> line.matches("\\d+\t.+")), plain.out());
        assertEquals(json.get("n_tokens").asInt() + "\n", Cli.withInput(text, "tokenize", "--count").out());
    }

    @Test
    void specialTokensAreTextUnlessAskedFor() {
        assertTrue(Cli.withInput("<|im_end|>", "tokenize", "--json").json().get("n_tokens").asInt() > 1);
        assertEquals(1, Cli.withInput("<|im_end|>", "tokenize", "--json", "--special").json().get("n_tokens").asInt());
    }

    @Test
    void perplexityOfRepeatedTextIsLowerThanOfNoise() throws IOException {
        var code = Files.writeString(folder.resolve("a.txt"), "public int size() {\n    return size;\n}\n\n".repeat(80));
        var noise = Files.writeString(folder.resolve("b.txt"), new Random(3).ints(3000, 'a', 'z').mapToObj(c -> c % 7 == 0 ? " " : ""
                + (char) c)
                .collect(Collectors.joining()));
        var low = Cli.run("perplexity", code.toString(), "-c", "128", "-t", "2", "--json").json();
        var high = Cli.run("perplexity", noise.toString(), "-c", "128", "-t", "2", "--json").json();
        assertTrue(low.get("ppl").asDouble() > 1, low.toString());
        assertTrue(low.get("ppl").asDouble() < high.get("ppl").asDouble() / 3, low + " against " + high);
        assertEquals(low.get("n_chunks").asInt() * 63, low.get("n_scored").asInt(), "of 128 tokens the last 64 but one are scored");

        var text = Cli.run("perplexity", code.toString(), "-c", "128", "-t", "2");
        assertTrue(text.out().matches("Final estimate: PPL = \\d+\\.\\d{4} \\+/- \\d+\\.\\d{5}\n"), text.out());
    }

    @Test
    void perplexityNeedsTwoWindows() throws IOException {
        var file = Files.writeString(folder.resolve("short.txt"), "int x;");
        var result = Cli.run("perplexity", file.toString());
        assertEquals(1, result.code());
        assertTrue(result.err().contains("needs at least 1024"), result.err());
    }

    @Test
    void quantizeWritesASmallerModelThatRuns() {
        var out = folder.resolve("q4.gguf");
        var result = Cli.run("quantize", DefaultModel.path().toString(), out.toString(), "q4_0", "--allow-requantize", "-t", "2");
        assertEquals(0, result.code(), result.err());
        assertEquals("", result.out());
        assertTrue(Cli.run("inspect", "--json", out.toString()).json().get("bits_per_weight").asDouble() < 6);
        assertEquals(0, Cli.withInput("int x", "complete", "--stdin", "-n", "2", "-m", out.toString(), "-t", "2").code());

        var again = Cli.run("quantize", DefaultModel.path().toString(), out.toString(), "q4_0", "--allow-requantize");
        assertEquals(1, again.code());
        assertTrue(again.err().contains(out + " exists"), again.err());
    }

    private Path text() throws IOException {
        return Files.writeString(folder.resolve("text.java"), "int sum(int[] values) { return Arrays.stream(values).sum(); }\n".repeat(60));
    }

    @Test
    void anImatrixMakesTypesPossibleThatNeedOne() throws IOException {
        var text = text().toString();
        var imatrix = folder.resolve("imatrix.gguf").toString();
        var result = Cli.run("imatrix", "-m", F16, text, imatrix, "-c", "64", "--chunks", "4");
        assertEquals(0, result.code(), result.err());
        assertTrue(result.err().contains("56 matrices on 256 tokens"), result.err());
        var again = Cli.run("imatrix", "-m", F16, text, imatrix, "-c", "64");
        assertEquals(1, again.code());
        assertTrue(again.err().contains(imatrix + " exists"), again.err());
        var iq = folder.resolve("iq2.gguf").toString();
        assertEquals(1, Cli.run("quantize", F16, iq, "IQ2_XS").code());
        assertEquals(0, Cli.run("quantize", F16, iq, "IQ2_XS", "--imatrix", imatrix).code());
        var wrong = Cli.run("quantize", F16, folder.resolve("iq3.gguf").toString(), "IQ2_XS", "--imatrix", F16);
        assertEquals(1, wrong.code());
        assertTrue(wrong.err().contains("an importance matrix says \"imatrix\""), wrong.err());
    }

    @Test
    void sparsifyWritesAModelThatRuns() throws IOException {
        var out = folder.resolve("sparse.gguf");
        var result = Cli.run("sparsify", F16, out.toString(), "--type", "s24_q4", "--calib", text().toString(), "-c", "64",
                "--keep-dense", "attn_v");
        assertEquals(0, result.code(), result.err());
        assertEquals("", result.out());
        assertTrue(result.err().contains("48 matrices are S24_Q4"), result.err());
        assertTrue(Cli.run("inspect", out.toString()).out().contains("sparsegpt"));
        assertEquals(0, Cli.withInput("int x", "complete", "--stdin", "-n", "2", "-m", out.toString(), "-t", "2").code());
        var again = Cli.run("sparsify", F16, out.toString(), "--type", "S24_Q8");
        assertEquals(1, again.code());
        assertTrue(again.err().contains(out + " exists"), again.err());
        assertEquals(0, Cli.run("sparsify", F16, out.toString(), "--type", "S24_T", "--overwrite").code());
    }

    @Test
    void sparsifyRefusesWhatItCannotDo() throws IOException {
        var out = folder.resolve("sparse.gguf").toString();
        for (var wrong : List.of(List.of("--type", "Q4_0"), List.of("--type", "S24_Q4", "--method", "wanda"),
                List.of("--type", "S24_Q4", "--keep-dense", "attn("),
                List.of("--type", "S24_Q4", "--calib", text().toString(), "-c", "2"))) {
            var arguments = new ArrayList<>(List.of("sparsify", F16, out));
            arguments.addAll(wrong);
            assertEquals(2, Cli.run(arguments.toArray(String[]::new)).code(), wrong.toString());
        }
        var none = Cli.run("sparsify", F16, out, "--type", "S24_Q4", "--keep-dense", "atn_v");
        assertEquals(1, none.code());
        assertTrue(none.err().contains("matches 'atn_v'"), none.err());
        var shorter = Cli.run("sparsify", F16, out, "--type", "S24_Q4", "--calib", text().toString(), "-c", "1024");
        assertEquals(1, shorter.code());
        assertTrue(shorter.err().contains("at least 2048"), shorter.err());
        assertFalse(Files.exists(Path.of(out)));
    }

    private static final List<String> SMALL_SEARCH = List.of("-c", "64", "--chunks", "8", "--generations", "1", "--offspring", "2",
            "--tokens",
            "128", "-t", "2");

    private static Cli.Result run(List<String> more, String... arguments) {
        var all = new ArrayList<>(List.of(arguments));
        all.addAll(more);
        return Cli.run(all.toArray(String[]::new));
    }

    @Test
    void searchTypesFindsAPlanThatQuantizeApplies() throws IOException {
        var text = text();
        var plan = folder.resolve("plan.json").toString();
        var out = folder.resolve("mixed.gguf").toString();
        var found = run(SMALL_SEARCH, "search-types", F16, "--bpw", "4", "--calib", text.toString(), "-o", plan, "--types",
                "S24_Q4,q3_k,Q4_K,Q8_0");
        assertEquals(0, found.code(), found.err());
        assertTrue(found.out().matches("(?s)(3\\.9\\d\\d|4\\.000) bits per weight, 0\\.\\d+ nats per token .*"), found.out());
        var written = Cli.run("quantize", F16, out, "--plan", plan, "-t", "2");
        assertEquals(0, written.code(), written.err());
        assertTrue(Cli.run("inspect", "--json", out).json().get("bits_per_weight").asDouble() <= 4);
        assertEquals(0, Cli.withInput("int x", "complete", "--stdin", "-n", "2", "-m", out, "-t", "2").code());

        var again = Cli.run("quantize", F16, out, "--plan", plan);
        assertEquals(1, again.code());
        assertTrue(again.err().contains(out + " exists"), again.err());
        var other = Cli.run("quantize", out, folder.resolve("twice.gguf").toString(), "--plan", plan);
        assertEquals(1, other.code());
        assertTrue(other.err().contains("the plan is for java-tiny-f16.gguf"), other.err());

        var moved = Files.move(text, folder.resolve("moved.java"));
        var lost = Cli.run("quantize", F16, out, "--plan", plan, "--force");
        assertEquals(1, lost.code());
        assertTrue(lost.err().contains("is no longer at " + text.toAbsolutePath()), lost.err());
        assertEquals(0, Cli.run("quantize", F16, out, "--plan", plan, "--force", "--calib", moved.toString(), "-t", "2").code());
        Files.writeString(moved, "// changed", StandardOpenOption.APPEND);
        var changed = Cli.run("quantize", F16, out, "--plan", plan, "--force", "--calib", moved.toString());
        assertEquals(1, changed.code());
        assertTrue(changed.err().contains("another text"), changed.err());
    }

    @Test
    void sparsifySearchesWhatStaysDense() throws IOException {
        var out = folder.resolve("sparse.gguf").toString();
        var result = run(SMALL_SEARCH, "sparsify", F16, out, "--type", "S24_Q4", "--calib", text().toString(), "--bpw", "6.8",
                "--dense-type", "Q8_0");
        assertEquals(0, result.code(), result.err());
        assertTrue(result.err().contains("matrices stay dense: blk.") && result.err().contains("matrices are S24_Q4"), result.err());
        var json = Cli.run("inspect", "--json", out).json();
        assertTrue(json.get("bits_per_weight").asDouble() <= 6.8);
        assertEquals("sparsegpt", json.get("metadata").get("general.sparsity.method").asString());
    }

    @Test
    void searchesRefuseWhatTheyCannotDo() throws IOException {
        var text = text().toString();
        var plan = folder.resolve("plan.json").toString();
        var out = folder.resolve("out.gguf").toString();
        var search = List.of("search-types", F16, "-o", plan, "--calib", text, "-c", "64");
        for (var wrong : List.of(List.of("--bpw", "0"), List.of("--bpw", "4", "--types", "Q4_K,Q4_X"),
                List.of("--bpw", "4", "--tokens", "0"),
                List.of("--bpw", "4", "--generations", "0"))) {
            assertEquals(2, run(wrong, search.toArray(String[]::new)).code(), wrong.toString());
        }
        for (var wrong : List.of(List.of("quantize", F16, out), List.of("quantize", F16, out, "Q4_0", "--plan", plan),
                List.of("quantize", F16, out, "--plan", plan, "--pure"), List.of("quantize", F16, out, "Q4_0", "--calib", text),
                List.of("sparsify", F16, out, "--type", "S24_Q4", "--bpw", "4"),
                List.of("sparsify", F16, out, "--type", "S24_Q4", "--bpw", "4", "--calib", text, "--keep-dense", "attn_v"),
                List.of("sparsify", F16, out, "--type", "S24_Q4", "--dense-type", "Q4_K"))) {
            assertEquals(2, Cli.run(wrong.toArray(String[]::new)).code(), wrong.toString());
        }
        var small = run(List.of("--bpw", "1"), search.toArray(String[]::new));
        assertEquals(1, small.code());
        assertTrue(small.err().contains("1.0 bits per weight can't be reached"), small.err());
        assertEquals(1, run(List.of("--bpw", "4", "--scratch", folder.resolve("none").toString()), search.toArray(String[]::new)).code());
        // a result that can't be kept is refused before the work
        for (var nowhere : List.of(folder.toString(), folder.resolve("none/out.gguf").toString())) {
            for (var wrong : List.of(List.of("search-types", F16, "--bpw", "4", "--calib", text, "-o", nowhere),
                    List.of("imatrix", "-m", F16, text, nowhere, "--force"),
                    List.of("sparsify", F16, nowhere, "--type", "S24_Q4", "--bpw", "4", "--calib", text, "--force"))) {
                var refused = Cli.run(wrong.toArray(String[]::new));
                assertEquals(1, refused.code(), wrong.toString());
                assertTrue(refused.err().contains(nowhere.endsWith("gguf") ? "no such folder for the output: " + folder : "is a directory"),
                        refused.err());
            }
        }
        Files.writeString(Path.of(plan), "{ \"format\" : 1");
        var broken = Cli.run("quantize", F16, out, "--plan", plan);
        assertEquals(1, broken.code());
        assertTrue(broken.err().contains(plan + ": broken JSON"), broken.err());
        assertFalse(Files.exists(Path.of(out)));
    }

    @Test
    void benchHasTheFieldsOfLlamaBench() {
        var json = Cli.run("bench", "-p", "32", "-n", "4", "-t", "2", "-r", "3", "--json").json();
        assertEquals(2, json.size());
        for (var test : json) {
            for (var field : List.of("build_commit", "model_filename", "model_type", "model_size", "model_n_params", "n_batch", "n_ubatch",
                    "n_threads", "type_k",
                    "type_v", "n_prompt", "n_gen", "n_depth", "test_time", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts")) {
                assertTrue(test.has(field), field);
            }
            assertEquals(2, test.get("n_threads").asInt());
            assertEquals(3, test.get("samples_ns").size());
            assertEquals(3, test.get("samples_ts").size());
            int tokens = test.get("n_prompt").asInt() + test.get("n_gen").asInt();
            assertEquals(1e9 * tokens / test.get("samples_ns").get(1).asLong(), test.get("samples_ts").get(1).asDouble(), 1e-6);
        }
        assertEquals(32, json.get(0).get("n_prompt").asInt());
        assertEquals(4, json.get(1).get("n_gen").asInt());
    }

    @Test
    void benchPrintsATableWithARowPerTest() {
        var result = Cli.run("bench", "-p", "16,32", "-n", "2", "-t", "2", "-r", "1");
        assertEquals(0, result.code(), result.err());
        assertEquals(5, result.out().lines().count(), result.out());
        assertTrue(result.out().contains("pp16") && result.out().contains("pp32") && result.out().contains("tg2"), result.out());
        assertFalse(result.out().contains("NaN"));
    }

    @Test
    void benchPrintsNoTableOverAnError() {
        var file = folder.resolve("t5.gguf");
        RandomEncoder.tiny(RandomEncoder.Architecture.T5).write(file);
        var result = Cli.run("bench", "-m", file.toString(), "-p", "8", "-n", "2", "-r", "1", "-t", "1", "--no-warmup");
        assertEquals(1, result.code(), result.err());
        assertEquals("", result.out());
        assertTrue(result.err().startsWith("panama-llama: "), result.err());
    }

    @Test
    void theSmallestContextTakesAPromptThatFitsIt() {
        for (var size : List.of("1", "31", "200")) {
            var result = Cli.run("generate", "-p", "int x = 1;\n".repeat(30), "-c", size, "-n", "2", "-t", "1");
            assertEquals(0, result.code(), size + ": " + result.err());
        }
    }
}
