package io.github.panamallama.runtime.gguf;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.runtime.AdapterException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.function.Consumer;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What an adapter's header tells, and what of it is refused, before native code sees the file. */
class AdapterFileTest {
    private static final Path JAVA_TINY = Path.of("..", "models", "java-tiny-f16.gguf");
    private static final Path GUAVA = Path.of("..", "..", "shared", "models", "java-tiny-guava-lora.gguf");

    @TempDir
    Path folder;

    private Path base;

    /** A llama of 4 layers, width 64, 2 of 4 heads for keys and values, 512 tokens. */
    @BeforeEach
    void writeBase() {
        base = folder.resolve("base.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(base);
    }

    @Test
    void theRealAdapterFitsItsModel() {
        assumeTrue(Files.exists(GUAVA), GUAVA.toAbsolutePath().normalize() + " is missing: it lies beside the checkout, not in it");
        var file = AdapterFile.read(GUAVA);
        assertEquals("llama", file.architecture());
        assertEquals("Java tiny, Guava style", file.name());
        assertEquals(16, file.alpha());
        assertEquals(8 * 7, file.targets().size());
        for (var target : file.targets()) {
            assertEquals(8, target.rank());
            assertEquals(2, target.scale(file.alpha()));
        }
        file.check(GgufFile.readParts(JAVA_TINY));
        var e = assertThrows(AdapterException.class, () -> file.check(GgufFile.readParts(base)));
        assertTrue(e.getMessage().contains("[256 x 256 x 1]") && e.getMessage().contains("[64 x 64]"), e.getMessage());
    }

    @Test
    void ordinaryTransposedAndEmbeddingTargetsTellTheShapeOfTheirMatrix() {
        var file = read(writer -> {
            pair(writer, "blk.0.attn_k.weight", List.of(64L, 4L), List.of(4L, 32L));
            floats(writer, "blk.1.ffn_up.weight.lora_a", 64, 4);
            floats(writer, "blk.1.ffn_up.weight.lora_bt", 128, 4);
            pair(writer, AdapterFile.EMBEDDING, List.of(4L, 512L), List.of(4L, 64L));
        });
        var key = file.targets().get(0);
        assertEquals(List.of(64, 32, 1, 4), List.of(key.inputs(), key.outputs(), key.experts(), key.rank()));
        assertFalse(key.transposed() || key.embedding());
        var up = file.targets().get(1);
        assertEquals(List.of(64, 128, 1, 4), List.of(up.inputs(), up.outputs(), up.experts(), up.rank()));
        assertTrue(up.transposed());
        var embedding = file.targets().get(2);
        assertEquals(List.of(64, 512, 1, 4), List.of(embedding.inputs(), embedding.outputs(), embedding.experts(), embedding.rank()));
        assertTrue(embedding.embedding());
        file.check(GgufFile.readParts(base));
        assertEquals(4 * 4 * (64 + 32 + 64 + 128 + 512 + 64), file.byteSize());
    }

    @Test
    void expertsAreTheThirdDimension() {
        var file = read(writer -> pair(writer, "blk.0.ffn_up_exps.weight", List.of(64L, 2L, 8L), List.of(2L, 96L, 8L)));
        var target = file.targets().getFirst();
        assertEquals(List.of(64, 96, 8, 2), List.of(target.inputs(), target.outputs(), target.experts(), target.rank()));
    }

    @Test
    void withoutAnAlphaTheFactorIsOne() {
        var file = read(writer -> {
            writer.remove("adapter.lora.alpha").remove("general.name");
            query(writer);
        });
        assertEquals(0, file.alpha());
        assertEquals(1, file.targets().getFirst().scale(file.alpha()));
        assertEquals("adapter.gguf", file.name());
        assertEquals(0, file.invocationTokens().length);
    }

    @Test
    void invocationTokensMayBeSignedOrUnsigned() {
        var tokens = new int[] {5, 7, 11};
        assertArrayEquals(tokens, read(writer -> query(writer.putU32s("adapter.alora.invocation_tokens", tokens))).invocationTokens());
        assertArrayEquals(tokens, read(writer -> query(writer.putI32s("adapter.alora.invocation_tokens", tokens))).invocationTokens());
        refused("adapter.alora.invocation_tokens[1] is -7", writer ->
                query(writer.putI32s("adapter.alora.invocation_tokens", new int[] {5, -7})));
        refused("[0] is 4294967295", writer -> query(writer.putU32s("adapter.alora.invocation_tokens", new int[] {-1})));
    }

    @Test
    void otherKindsOfFilesAreRefused() {
        var e = assertThrows(AdapterException.class, () -> AdapterFile.read(base));
        assertTrue(e.getMessage().contains("general.type is missing") && e.getMessage().contains("Model.load"), e.getMessage());
        refused("general.type is \"model\"", writer -> query(writer.put("general.type", "model")));
        refused("adapter.type is \"ia3\"", writer -> query(writer.put("adapter.type", "ia3")));
        refused("general.architecture is missing", writer -> query(writer.remove("general.architecture")));
        refused("has no tensors", writer -> { });
    }

    @ParameterizedTest
    @ValueSource(floats = {Float.NaN, Float.POSITIVE_INFINITY, -1})
    void alphaIsANumberOfAtLeastZero(float alpha) {
        refused("adapter.lora.alpha is " + alpha, writer -> query(writer.putF32("adapter.lora.alpha", alpha)));
    }

    @Test
    void alphaOfATypeThatEndsUpstreamsProcessIsRefused() {
        refused("adapter.lora.alpha is of type u32", writer -> query(writer.putU32("adapter.lora.alpha", 16)));
    }

    @Test
    void bothFactorsMustBeThereAndAgree() {
        refused("has only blk.0.attn_q.weight.lora_a", writer -> floats(writer, "blk.0.attn_q.weight.lora_a", 64, 4));
        refused("has only blk.0.attn_q.weight.lora_bt", writer -> floats(writer, "blk.0.attn_q.weight.lora_bt", 64, 4));
        refused("both .lora_b and .lora_bt", writer -> floats(query(writer), "blk.0.attn_q.weight.lora_bt", 64, 4));
        refused("has rank 4, but B of [8 x 64] has rank 8", writer ->
                pair(writer, "blk.0.attn_q.weight", List.of(64L, 4L), List.of(8L, 64L)));
        refused("has rank 64", writer -> pair(writer, "blk.0.attn_q.weight", List.of(4L, 64L), List.of(4L, 64L)));
        refused("number of experts", writer -> pair(writer, "blk.0.ffn_up_exps.weight", List.of(64L, 4L, 8L), List.of(4L, 64L, 4L)));
        refused("not possible for embeddings", writer -> {
            floats(writer, "token_embd.weight.lora_a", 4, 512);
            floats(writer, "token_embd.weight.lora_bt", 64, 4);
        });
    }

    @Test
    void aRankOfZeroBreaksTheFormat() throws IOException {
        var path = folder.resolve("zero.gguf");
        var writer = header();
        pair(writer, "blk.0.attn_q.weight", List.of(64L, 4L), List.of(4L, 64L));
        writer.write(path);
        var bytes = Files.readAllBytes(path);
        int at = new String(bytes, StandardCharsets.ISO_8859_1).indexOf(".lora_a") + ".lora_a".length();
        bytes[at + 4 + 8] = 0;     // after the number of dimensions and the first of them
        Files.write(path, bytes);
        var e = assertThrows(GgufException.class, () -> AdapterFile.read(path));
        assertTrue(e.getMessage().contains("dimension 1 of tensor \"blk.0.attn_q.weight.lora_a\" is 0"), e.getMessage());
    }

    @Test
    void aTruncatedFileIsRefused() throws IOException {
        var path = folder.resolve("cut.gguf");
        query(header()).write(path);
        try (var file = new RandomAccessFile(path.toFile(), "rw")) {
            file.setLength(file.length() - 100);
        }
        assertThrows(GgufException.class, () -> AdapterFile.read(path));
    }

    @Test
    void wholeTensorsAreRefusedAndNormsWithAReason() {
        refused("whole norm vector", writer -> floats(query(writer), "blk.0.attn_norm.weight", 64, 1));
        refused("\"output.weight\" has no suffix of an adapter", writer -> floats(query(writer), "output.weight", 64, 8));
    }

    @ParameterizedTest
    @EnumSource(names = {"I8", "I32", "F64", "Q8_1", "Q8_K"})
    void typesThatAreNoWeightsAreRefused(GgmlType type) {
        refused("is of type " + type.label(), writer -> {
            long rows = 4;
            writer.tensor("blk.0.attn_q.weight.lora_a", type, List.of(256L, rows), out ->
                    out.write(MemorySegment.ofArray(new byte[(int) type.bytes(256 * rows)])));
            floats(writer, "blk.0.attn_q.weight.lora_b", 4, 64);
        });
    }

    @Test
    void anAdapterOfAnotherModelIsRefusedWithBothValues() {
        foreign("architecture \"qwen3\"", writer -> query(writer.put("general.architecture", "qwen3")));
        foreign("llama.block_count = 16, but " + base + " has 4", writer -> query(writer.putU32("llama.block_count", 16)));
        foreign("llama.embedding_length = 128", writer -> query(writer.putU32("llama.embedding_length", 128)));
        foreign("tokenizer.ggml.model = gpt2, but " + base + " has llama", writer -> query(writer.put("tokenizer.ggml.model", "gpt2")));
        foreign("tokenizer.ggml.tokens = array of string, 2 elements", writer ->
                query(writer.putStrings("tokenizer.ggml.tokens", List.of("a", "b"))));
        foreign("\"blk.7.attn_q.weight\", which " + base + " has not (4 layers)", writer ->
                pair(writer, "blk.7.attn_q.weight", List.of(64L, 4L), List.of(4L, 64L)));
        foreign("a matrix of [64 x 64 x 1], but in " + base + " it is [64 x 32]", writer ->
                pair(writer, "blk.0.attn_k.weight", List.of(64L, 4L), List.of(4L, 64L)));
        foreign("a matrix of [64 x 500 x 1]", writer -> pair(writer, AdapterFile.EMBEDDING, List.of(4L, 500L), List.of(4L, 64L)));
        foreign("a matrix of [64 x 128 x 2]", writer -> pair(writer, "blk.0.ffn_up.weight", List.of(64L, 4L, 2L), List.of(4L, 128L, 2L)));
    }

    @Test
    void whatTheAdapterDeclaresOfItsBaseMayAgree() {
        read(writer -> query(writer.putU16("llama.block_count", 4).put("tokenizer.ggml.pre", "default"))).check(GgufFile.readParts(base));
    }

    private void foreign(String message, Consumer<GgufWriter> content) {
        var file = read(content);
        var e = assertThrows(AdapterException.class, () -> file.check(GgufFile.readParts(base)));
        assertTrue(e.getMessage().startsWith(file.path().toString()) && e.getMessage().contains(message), e.getMessage());
    }

    private void refused(String message, Consumer<GgufWriter> content) {
        var e = assertThrows(AdapterException.class, () -> read(content));
        assertTrue(e.getMessage().startsWith(folder.toString()) && e.getMessage().contains(message), e.getMessage());
    }

    private AdapterFile read(Consumer<GgufWriter> content) {
        var writer = header();
        content.accept(writer);
        var path = folder.resolve("adapter.gguf");
        writer.write(path);
        return AdapterFile.read(path);
    }

    private static GgufWriter header() {
        return new GgufWriter().put("general.architecture", "llama").put("general.type", "adapter").put("general.name", "test")
                .put("adapter.type", "lora").putF32("adapter.lora.alpha", 8);
    }

    private static GgufWriter query(GgufWriter writer) {
        return pair(writer, "blk.0.attn_q.weight", List.of(64L, 4L), List.of(4L, 64L));
    }

    private static GgufWriter pair(GgufWriter writer, String name, List<Long> a, List<Long> b) {
        zeros(writer, name + ".lora_a", a);
        return zeros(writer, name + ".lora_b", b);
    }

    private static GgufWriter floats(GgufWriter writer, String name, long columns, long rows) {
        return zeros(writer, name, List.of(columns, rows));
    }

    private static GgufWriter zeros(GgufWriter writer, String name, List<Long> shape) {
        long elements = shape.stream().reduce(1L, Math::multiplyExact);
        return writer.tensor(name, GgmlType.F32, shape, out -> out.write(MemorySegment.ofArray(new byte[(int) (4 * elements)])));
    }
}
