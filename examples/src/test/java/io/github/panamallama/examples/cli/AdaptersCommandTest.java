package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** adapters inspect and adapters convert. */
class AdaptersCommandTest {
    private static final String MODULE = "base_model.model.model.layers.0.mlp.up_proj";

    @TempDir
    Path folder;

    private Path base;
    private Path peft;

    /** A llama of width 64 and feed-forward 128, and an adapter of PEFT on one matrix of it, rank 4 and alpha 8. */
    @BeforeEach
    void prepare() throws IOException {
        base = folder.resolve("base.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(base);
        peft = Files.createDirectories(folder.resolve("peft"));
        config("");
        safetensors("""
                {"%1$s.lora_A.weight":{"dtype":"F32","shape":[4,64],"data_offsets":[0,1024]},\
                "%1$s.lora_B.weight":{"dtype":"F32","shape":[128,4],"data_offsets":[1024,3072]}}""".formatted(MODULE), 768);
    }

    private void config(String more) throws IOException {
        Files.writeString(peft.resolve("adapter_config.json"),
                "{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"alora_invocation_tokens\":[3,4]" + more + "}");
    }

    private void safetensors(String header, int floats) throws IOException {
        var bytes = header.getBytes(StandardCharsets.UTF_8);
        var file = ByteBuffer.allocate(8 + bytes.length + 4 * floats).order(ByteOrder.LITTLE_ENDIAN).putLong(bytes.length).put(bytes);
        for (int i = 0; i < floats; i++) {
            file.putFloat(i % 7 - 3);
        }
        Files.write(peft.resolve("adapter_model.safetensors"), file.array());
    }

    private Cli.Result convert(Path in, String out, String... more) {
        var args = new String[4 + more.length];
        args[0] = "adapters";
        args[1] = "convert";
        args[2] = in.toString();
        args[3] = folder.resolve(out).toString();
        System.arraycopy(more, 0, args, 4, more.length);
        return Cli.run(args);
    }

    @Test
    void aPeftFolderBecomesAnAdapterThatInspectShows() {
        var converted = convert(peft, "out.gguf", "--base", base.toString());
        assertEquals(0, converted.code(), converted.err());
        assertEquals("", converted.out());
        assertTrue(converted.err().contains("1 matrix, weights 1.50 KiB (f16 x 2), file "), converted.err());

        var out = folder.resolve("out.gguf").toString();
        var table = Cli.run("adapters", "inspect", out);
        assertEquals(0, table.code(), table.err());
        assertTrue(table.out().contains("LoRA adapter \"peft\" for llama, alpha 8, 1 matrix"), table.out());
        assertTrue(table.out().contains("from the last occurrence of these tokens on: [3, 4]"), table.out());
        assertTrue(table.out().matches("(?s).*\n  blk\\.0\\.ffn_up\\.weight +4 +64 x 128 +f16 +2 +1\\.50 KiB\n"), table.out());

        var json = Cli.run("adapters", "inspect", "--json", out).json();
        assertEquals(8, json.get("alpha").asDouble());
        assertEquals(4, json.get("metadata").get("llama.block_count").asInt());
        assertEquals(3, json.get("invocation_tokens").get(0).asInt());
        var target = json.get("targets").get(0);
        assertEquals("blk.0.ffn_up.weight", target.get("name").asString());
        assertEquals(4, target.get("rank").asInt());
        assertEquals(2, target.get("scale").asDouble());
        assertEquals(1536, target.get("bytes").asInt());
        assertEquals(json.get("weight_bytes").asLong(), target.get("bytes").asLong());
    }

    @ParameterizedTest
    @CsvSource({"f32, f32, 3072", "bf16, bf16, 1536", "Q8_0, q8_0, 816", "q4_0, q4_0, 432"})
    void anAdapterIsConvertedToAnotherType(String given, String label, int bytes) {
        assertEquals(0, convert(peft, "f32.gguf", "--base", base.toString(), "--type", "f32").code());
        var converted = convert(folder.resolve("f32.gguf"), "out.gguf", "--type", given);
        assertEquals(0, converted.code(), converted.err());
        var target = Cli.run("adapters", "inspect", "--json", folder.resolve("out.gguf").toString()).json().get("targets").get(0);
        assertEquals(label, target.get("type_a").asString());
        assertEquals(label, target.get("type_b").asString());
        assertEquals(bytes, target.get("bytes").asInt());
        assertEquals(128, target.get("outputs").asInt());
    }

    @Test
    void nothingIsOverwrittenUnlessAsked() throws IOException {
        var out = Files.writeString(folder.resolve("out.gguf"), "mine");
        var refused = convert(peft, "out.gguf", "--base", base.toString());
        assertEquals(1, refused.code());
        assertTrue(refused.err().contains("--force overwrites it"), refused.err());
        assertEquals("mine", Files.readString(out));
        assertEquals(0, convert(peft, "out.gguf", "--base", base.toString(), "--force").code());
        assertEquals(0, Cli.run("adapters", "inspect", out.toString()).code());

        long before = Files.size(base);
        var lost = convert(peft, "base.gguf", "--base", base.toString(), "--force");
        assertEquals(1, lost.code());
        assertTrue(lost.err().contains("is the base model"), lost.err());
        assertEquals(before, Files.size(base));
    }

    @Test
    void whatCannotBeConvertedIsSaidAndLeavesNoFile() throws IOException {
        config(",\"use_dora\":true");
        fails("use_dora is true: DoRA", peft, "--base", base.toString());
        config("");
        safetensors("{}", 0);
        fails("has no LoRA weights", peft, "--base", base.toString());
        fails("no such file", folder.resolve("nowhere.gguf"));
        fails("general.type is missing", base);
        fails("is a pickle file", Files.write(folder.resolve("adapter_model.bin"), new byte[4]), "--base", base.toString());
    }

    private void fails(String message, Path in, String... more) {
        var result = convert(in, "none.gguf", more);
        assertEquals(1, result.code(), result.err());
        assertTrue(result.err().startsWith("panama-llama: ") && result.err().contains(message), result.err());
        assertFalse(Files.exists(folder.resolve("none.gguf")));
    }

    @Test
    void anAdapterForAnotherBaseIsRefused() {
        assertEquals(0, convert(peft, "out.gguf", "--base", base.toString()).code());
        var other = folder.resolve("other.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withLayers(2).write(other);
        fails("it declares llama.block_count = 4, but " + other + " has 2", folder.resolve("out.gguf"), "--base", other.toString());
    }

    @Test
    void peftNeedsItsBase() {
        var result = convert(peft, "out.gguf");
        assertEquals(2, result.code());
        assertTrue(result.err().contains("--base is needed"), result.err());
    }

    @ParameterizedTest
    @ValueSource(strings = {"adapters", "adapters inspect", "adapters convert", "adapters convert x.gguf",
            "adapters convert x.gguf y.gguf --type q4_K",
        "adapters convert x.gguf y.gguf --type i32", "adapters drop x.gguf"})
    void wrongArgumentsEndWithExitCode2AndAHint(String line) {
        var result = Cli.run(line.split(" "));
        assertEquals(2, result.code(), result.err());
        assertTrue(result.err().startsWith("panama-llama: "), result.err());
        assertEquals("", result.out());
    }
}
