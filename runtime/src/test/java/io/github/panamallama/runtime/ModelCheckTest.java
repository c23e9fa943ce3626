package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufMetadata;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

class ModelCheckTest {
    @TempDir
    Path folder;

    record Fault(String name, Consumer<GgufWriter> change, String message) {
        @Override
        public String toString() {
            return name;
        }
    }

    static Stream<Fault> faults() {
        return Stream.of(
                new Fault("an adapter", w -> w.put("general.type", "adapter"), "is a LoRA adapter"),
                new Fault("a projector", w -> w.put("general.architecture", "clip"), "is a projector"),
                new Fault("no architecture", w -> w.remove("general.architecture"), "has no general.architecture"),
                new Fault("no vocabulary", w -> w.remove("tokenizer.ggml.model"), "has no vocabulary (tokenizer.ggml.model is missing)"),
                new Fault("no tokens", w -> w.remove("tokenizer.ggml.tokens"), "has no vocabulary (tokenizer.ggml.tokens"),
                new Fault("numbers as tokens", w -> w.putI32s("tokenizer.ggml.tokens", new int[] {1}),
                        "as an array of i32; strings are needed"),
                new Fault("an empty vocabulary", w -> w.putStrings("tokenizer.ggml.tokens", List.of()), "has an empty vocabulary"),
                // upstream asserts that all are different
                new Fault("a token twice", w -> w.putStrings("tokenizer.ggml.tokens", List.of("a", "b", "a")), "has the token \"a\" twice"),
                new Fault("a token named as an empty one", w -> w.putStrings("tokenizer.ggml.tokens", List.of("[EMPTY_1]", "")), "twice"),
                // CVE-2025-49847: lengths that don't fit where they are copied to; here upstream also takes a stack frame for each byte
                // CVE-2025-49847: lengths of tokens that are cast to 32 bits with a sign
                new Fault("a token as long as a book", w -> w.putStrings("tokenizer.ggml.tokens", List.of("a", "b".repeat(2 << 20))),
                        "has a token of 2097152 bytes"),
                new Fault("a token that is not UTF-8 in plamo2", w -> w.put("tokenizer.ggml.model", "plamo2")
                        .putBytes("tokenizer.ggml.tokens", List.of(new byte[] {'a', (byte) 0x80, 'b'})).remove("tokenizer.ggml.token_type"),
                        "has a token that is not UTF-8, tokenizer.ggml.tokens[0]"),
                new Fault("endless suffixes in plamo2", w -> w.put("tokenizer.ggml.model", "plamo2").remove("tokenizer.ggml.token_type")
                        .putStrings("tokenizer.ggml.tokens", IntStream.range(100, 200).mapToObj(i -> i
                                + "x".repeat(1000)).toList()).remove("tokenizer.ggml.scores"),
                        "has tokens too long for a plamo2 vocabulary"),
                new Fault("few scores", w -> w.putF32s("tokenizer.ggml.scores", new float[10]),
                        "has 10 elements in tokenizer.ggml.scores for 512 tokens"),
                new Fault("scores of another type", w -> w.putBools("tokenizer.ggml.scores", new boolean[512]),
                        "as an array of bool; f32 is needed"),
                new Fault("a score alone", w -> w.putF32("tokenizer.ggml.scores", 1), "as a single value; an array is needed"),
                new Fault("few types", w -> w.putI32s("tokenizer.ggml.token_type", new int[10]),
                        "has 10 elements in tokenizer.ggml.token_type"),
                new Fault("types of another type", w -> w.putF32s("tokenizer.ggml.token_type", new float[512]),
                        "as an array of f32; i32 is needed"),
                new Fault("a byte token without a byte", w -> w.putI32s("tokenizer.ggml.token_type", filled(512, 6)),
                        "marks token 0 as a byte, but its text is \"<unk>\""),
                new Fault("a byte token in bert", w -> w.put("tokenizer.ggml.model", "bert").putI32s("tokenizer.ggml.token_type",
                        filled(512, 6)),
                        "which a bert vocabulary can't have"),
                new Fault("no blocks", w -> w.putU32("llama.block_count", 0), "llama.block_count 0; 1 to 512 is valid"),
                // arrays of 512 layers are indexed by this
                new Fault("many blocks", w -> w.putU32("llama.block_count", 0xFFFF_FFFFL),
                        "llama.block_count 4294967295; 1 to 512 is valid"),
                new Fault("no block count", w -> w.remove("llama.block_count"), "has no llama.block_count"),
                new Fault("a block count of text", w -> w.put("llama.block_count", "many"),
                        "llama.block_count is of type string; an integer is needed"),
                new Fault("no width", w -> w.putU32("llama.embedding_length", 0), "llama.embedding_length 0"),
                new Fault("no context", w -> w.putU32("llama.context_length", 0), "llama.context_length 0"),
                new Fault("more blocks to predict than blocks", w -> w.putU32("llama.nextn_predict_layers", 5),
                        "llama.nextn_predict_layers 5; 0 to 3 is valid"),
                new Fault("blocks to predict and no others", w -> w.putU32("llama.nextn_predict_layers", 4),
                        "llama.nextn_predict_layers 4; 0 to 3 is valid"),
                new Fault("uneven heads", w -> w.putU32("llama.attention.head_count_kv", 3),
                        "has 4 attention heads over 3 key-value heads in layer 0"),
                new Fault("few heads by layer", w -> w.putU32s("llama.attention.head_count_kv", new int[] {2}),
                        "has 1 elements in llama.attention.head_count_kv; 4 are needed"),
                new Fault("uneven heads in one layer", w -> w.putU32s("llama.attention.head_count_kv", new int[] {2, 2, 3, 2}),
                        "in layer 2"),
                new Fault("heads thinner than one", w -> w.putU32("llama.attention.head_count", 128).remove("llama.attention.key_length"),
                        "has more attention heads than elements in an embedding"),
                new Fault("keys of nothing", w -> w.putU32("llama.attention.key_length", 0), "llama.attention.key_length 0"),
                new Fault("more rotation than keys", w -> w.putU32("llama.rope.dimension_count", 64),
                        "llama.rope.dimension_count 64; 1 to 16 is valid"),
                new Fault("a rotation of half a pair", w -> w.putU32("llama.rope.dimension_count", 7),
                        "rotates 7 elements of a key (llama.rope.dimension_count)"),
                // the kernel turns on the spot
                new Fault("a rotation of nothing", w -> w.putU32("llama.rope.dimension_count", 0),
                        "llama.rope.dimension_count 0; 1 to 16 is valid"),
                new Fault("a section below nothing", w -> w.putI32s("llama.rope.dimension_sections", new int[] {8, -8, 0, 0}),
                        "has a section of -8"),
                new Fault("sections longer than a key", w -> w.putI32s("llama.rope.dimension_sections", new int[] {8, 8, 8, 0}),
                        "has [8, 8, 8, 0] as llama.rope.dimension_sections of keys of 16"),
                new Fault("the same in latent attention", w -> w.putU32("llama.attention.key_length_mla",
                        16).putU32("llama.rope.dimension_count", 7),
                        "rotates 7 elements of a key"),
                new Fault("the same in a window", w -> w.putU32("llama.rope.dimension_count_swa", 7), "rotates 7 elements of a key"),
                new Fault("another scaling", w -> w.put("llama.rope.scaling.type", "cubic"), "llama.rope.scaling.type \"cubic\""),
                new Fault("an endless base", w -> w.putF32("llama.rope.freq_base", Float.POSITIVE_INFINITY),
                        "llama.rope.freq_base Infinity"),
                new Fault("a negative epsilon", w -> w.putF32("llama.attention.layer_norm_rms_epsilon", -1), "layer_norm_rms_epsilon -1.0"),
                new Fault("an epsilon that is no number", w -> w.putF32("llama.attention.layer_norm_rms_epsilon", Float.NaN),
                        "layer_norm_rms_epsilon NaN"),
                new Fault("unknown pooling", w -> w.putU32("llama.pooling_type", 9), "llama.pooling_type 9; 0 to 4 is valid"),
                new Fault("many experts", w -> w.putU32("llama.expert_count", 5000), "llama.expert_count 5000"),
                new Fault("no expert used", w -> w.putU32("llama.expert_count", 4), "uses 0 of 4 experts"),
                new Fault("more experts used than there are", w -> w.putU32("llama.expert_count", 4).putU32("llama.expert_used_count", 5),
                        "uses 5 of 4 experts"),
                new Fault("experts used as a list too short", w -> w.putU32("llama.expert_count", 4).putU32s("llama.expert_used_count",
                        new int[] {2}),
                        "has 1 elements in llama.expert_used_count; 4 are needed"),
                // what upstream divides by
                new Fault("full attention every 0 layers", w -> w.putU32("llama.full_attention_interval", 0),
                        "llama.full_attention_interval 0"),
                new Fault("experts every 0 layers", w -> w.putU32("llama.interleave_moe_layer_step", 0),
                        "llama.interleave_moe_layer_step 0"),
                new Fault("groups of 0 experts", w -> w.putU32("llama.experts_per_group", 0), "llama.experts_per_group 0"),
                new Fault("output groups of nothing", w -> w.putU32("llama.attention.output_group_count", 0),
                        "llama.attention.output_group_count 0"),
                new Fault("state heads of nothing", w -> w.putU32("llama.wkv.head_size", 0), "llama.wkv.head_size 0"),
                new Fault("no groups of states", w -> w.putU32("llama.ssm.inner_size", 8).putU32("llama.ssm.group_count", 0),
                        "llama.ssm.group_count 0"),
                new Fault("time steps of nothing", w -> w.putU32("llama.ssm.inner_size", 8).putU32("llama.ssm.time_step_rank", 0),
                        "llama.ssm.time_step_rank 0"),
                new Fault("groups that don't divide", w -> w.putU32("llama.expert_count", 4).putU32("llama.expert_used_count", 2)
                        .putU32("llama.expert_group_count", 3), "has 3 groups of 4 experts"),
                new Fault("states that don't divide", w -> w.putU32("llama.ssm.inner_size", 10).putU32("llama.ssm.group_count", 4),
                        "ssm.inner_size for 4 groups"));
    }

    private static int[] filled(int count, int value) {
        var values = new int[count];
        Arrays.fill(values, value);
        return values;
    }

    @ParameterizedTest
    @MethodSource("faults")
    void isRefusedByName(Fault fault) {
        var path = folder.resolve("fault.gguf");
        var writer = RandomModel.tiny(RandomModel.Architecture.LLAMA).writer();
        fault.change.accept(writer);
        writer.write(path);
        var failure = assertThrows(LlamaException.class, () -> Model.load(path));
        assertTrue(failure.getMessage().contains(fault.message), failure.getMessage());
        assertTrue(failure.getMessage().contains(path.toString()), failure.getMessage());
    }

    @Test
    void normsAndWeightsOfImpossibleTypesAreRefused() {
        var path = folder.resolve("types.gguf");
        new GgufWriter().putAll(tiny()).tensor("blk.0.attn_norm.weight", GgmlType.F16, List.of(64L),
                out -> out.write(MemorySegment.ofArray(new byte[128])))
                .write(path);
        assertTrue(assertThrows(ModelLoadException.class, () -> Model.load(path)).getMessage().contains("must be f32"));
        new GgufWriter().putAll(tiny()).tensor("blk.0.ssm_a", GgmlType.BF16, List.of(4L, 4L),
                out -> out.write(MemorySegment.ofArray(new byte[32])))
                .write(path);
        assertTrue(assertThrows(ModelLoadException.class, () -> Model.load(path)).getMessage().contains("must be f32"));
        new GgufWriter().putAll(tiny()).tensor("token_embd.weight", GgmlType.I32, List.of(4L, 4L),
                out -> out.write(MemorySegment.ofArray(new byte[64])))
                .write(path);
        assertTrue(assertThrows(ModelLoadException.class,
                () -> Model.load(path)).getMessage().contains("as i32, which is no type for weights"));
    }

    @Test
    void anEncoderWithoutRelativePositionsIsRefused() {
        var path = folder.resolve("t5.gguf");
        for (var architecture : List.of("t5", "t5encoder")) {
            new GgufWriter().putAll(tiny()).put("general.architecture", architecture).putU32(architecture + ".block_count", 4)
                    .putU32(architecture + ".context_length", 512).putU32(architecture + ".embedding_length", 64)
                    .putU32(architecture + ".attention.head_count", 4)
                    .tensor("enc.blk.0.attn_norm.weight", GgmlType.F32, List.of(64L),
                            out -> out.write(MemorySegment.ofArray(new byte[256])))
                    .write(path);
            var refused = assertThrows(ModelLoadException.class, () -> Model.load(path));
            assertTrue(refused.getMessage().contains("enc.blk.0.attn_rel_b.weight"), refused.getMessage());
        }
    }

    @Test
    void tensorsThatAreUsedValueByValueAreF32WhateverTheirShape() {
        var path = folder.resolve("values.gguf");
        for (var name : List.of("blk.0.ffn_up_exps.bias", "blk.0.shortconv.conv.weight", "blk.0.time_mix_lerp_fused.weight",
                "blk.0.attn_q.scale")) {
            new GgufWriter().putAll(tiny()).tensor(name, GgmlType.F16, List.of(4L, 4L),
                    out -> out.write(MemorySegment.ofArray(new byte[32]))).write(path);
            var failure = assertThrows(ModelLoadException.class, () -> Model.load(path));
            assertTrue(failure.getMessage().contains("has \"" + name + "\" as f16"), failure.getMessage());
        }
    }

    @Test
    void expertsByTokenExist() {
        var path = folder.resolve("hashed.gguf");
        var name = "blk.0.ffn_gate_tid2eid.weight";
        for (int id : new int[] {-1, 4}) {
            new GgufWriter().putAll(tiny()).putU32("llama.expert_count", 4).putU32("llama.expert_used_count", 2)
                    .tensor(name, GgmlType.I32, List.of(2L, 2L), out -> out.write(MemorySegment.ofArray(new int[] {0, 3, 1,
                            id}))).write(path);
            var failure = assertThrows(ModelLoadException.class, () -> Model.load(path));
            assertTrue(failure.getMessage().contains("has expert " + id + " of 4 in \"" + name + "\""), failure.getMessage());
        }
        new GgufWriter().putAll(tiny()).tensor(name, GgmlType.F32, List.of(2L, 2L),
                out -> out.write(MemorySegment.ofArray(new float[4]))).write(path);
        assertTrue(assertThrows(ModelLoadException.class, () -> Model.load(path)).getMessage().contains("as f32; i32 is needed"));
    }

    @Test
    void aVocabularyThatWantsATokenItLacksIsRefused() {
        var path = folder.resolve("nobos.gguf");
        var tokens = List.of("a", "b", "c");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).writer().put("tokenizer.ggml.model", "gpt2").putStrings("tokenizer.ggml.merges",
                List.of())
                .putStrings("tokenizer.ggml.tokens", tokens).remove("tokenizer.ggml.scores").putI32s("tokenizer.ggml.token_type",
                        filled(3, 1))
                .put("tokenizer.ggml.add_bos_token", true).putU32("tokenizer.ggml.bos_token_id", 7).write(path);
        var failure = assertThrows(ModelLoadException.class, () -> Model.load(path, ModelOptions.defaults().withVocabularyOnly(true)));
        assertTrue(failure.getMessage().contains("tokenizer.ggml.add_bos_token"), failure.getMessage());
    }

    @Test
    void aFileWithoutWeightsIsRefusedUnlessOnlyTheVocabularyIsWanted() {
        var path = folder.resolve("vocabulary.gguf");
        new GgufWriter().putAll(tiny()).write(path);
        var failure = assertThrows(ModelLoadException.class, () -> Model.load(path));
        assertTrue(failure.getMessage().contains("withVocabularyOnly(true)"), failure.getMessage());
        try (var model = Model.load(path, ModelOptions.defaults().withVocabularyOnly(true))) {
            assertEquals(512, model.vocabulary().size());
        }
    }

    private GgufMetadata tiny() {
        var path = folder.resolve("tiny.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(path);
        return GgufFile.read(path).metadata();
    }

    @Test
    void modelsThatDivideByTheirExpertsHaveSome() {
        var path = folder.resolve("expertless.gguf");
        RandomModel.tiny(RandomModel.Architecture.QWEN3MOE).writer().put("general.architecture", "rnd1").putU32("rnd1.block_count", 4)
                .putU32("rnd1.context_length", 512).putU32("rnd1.embedding_length", 64).write(path);
        var none = assertThrows(ModelLoadException.class, () -> Model.load(path));
        assertTrue(none.getMessage().contains("uses no experts (rnd1.expert_used_count)"), none.getMessage());
    }

    @Test
    void modelsThatRotateBySectionsHaveSome() {
        var path = folder.resolve("sections.gguf");
        var model = RandomModel.tiny(RandomModel.Architecture.QWEN35);
        model.writer().putU32s("qwen35.rope.dimension_sections", new int[4]).write(path);
        var zero = assertThrows(ModelLoadException.class, () -> Model.load(path));
        assertTrue(zero.getMessage().contains("has [0, 0, 0, 0] as qwen35.rope.dimension_sections"), zero.getMessage());
        model.writer().remove("qwen35.rope.dimension_sections").write(path);
        assertTrue(assertThrows(ModelLoadException.class,
                () -> Model.load(path)).getMessage().contains("has no qwen35.rope.dimension_sections"));
    }

    /** Upstream takes it as optional and uses it nevertheless. */
    @Test
    void aMatrixThatUpstreamForgetsToAskForIsMissedBeforeItIsUsed() {
        var path = folder.resolve("gap.gguf");
        var whole = folder.resolve("whole.gguf");
        RandomModel.tiny(RandomModel.Architecture.PHI3).write(whole);
        var file = GgufFile.read(whole);
        var writer = new GgufWriter().putAll(file.metadata());
        for (var tensor : file.tensors()) {
            if (!tensor.name().equals("blk.1.attn_qkv.weight")) {
                writer.tensor(tensor.name(), tensor.type(), tensor.shape(), out -> {
                    try (var arena = Arena.ofConfined()) {
                        out.write(file.map(tensor, arena));
                    }
                });
            }
        }
        writer.write(path);
        try (var model = Model.load(path)) {
            var failure = assertThrows(LlamaException.class, () -> Engine.open(model, EngineOptions.defaults().withContextSize(256)));
            assertTrue(failure.getMessage().contains("GGML_ASSERT"), failure.getMessage());
        }
    }

    @Test
    void modelsThatDivideByTheirHeadsHaveSome() {
        var path = folder.resolve("headless.gguf");
        var model = RandomModel.tiny(RandomModel.Architecture.OLMO2);
        model.writer().putU32("olmo2.attention.head_count", 0).write(path);
        var zero = assertThrows(ModelLoadException.class, () -> Model.load(path));
        assertTrue(zero.getMessage().contains("olmo2.attention.head_count"), zero.getMessage());
        model.writer().remove("olmo2.attention.head_count").write(path);
        assertThrows(ModelLoadException.class, () -> Model.load(path));
    }

    /** What the checks let pass, native code refuses with an error or loads; it never ends the process, or this test would end with it. */
    @ParameterizedTest
    @EnumSource(RandomModel.Architecture.class)
    void valuesMixedAtRandomAreRefusedOrLoaded(RandomModel.Architecture architecture) {
        long seed = System.nanoTime();
        System.out.println("seed " + seed);
        var random = new Random(seed);
        var path = folder.resolve("mixed.gguf");
        var model = RandomModel.tiny(architecture).withLayers(2).withVocabularySize(300);
        model.write(path);
        var keys = new ArrayList<>(GgufFile.read(path).metadata().keys());
        keys.removeIf(key -> key.startsWith("tokenizer.ggml.tokens") || key.startsWith("general"));
        long[] values = {0, 1, 2, 3, 5, 7, 16, 31, 64, 255, 513, 1 << 16, Integer.MAX_VALUE, 0x8000_0000L, 0xFFFF_FFFFL};
        int loaded = 0;
        for (int i = 0; i < 150; i++) {
            var writer = model.writer();
            for (int n = 1 + random.nextInt(2); n > 0; n--) {
                var key = keys.get(random.nextInt(keys.size()));
                switch (random.nextInt(6)) {
                    case 0 -> writer.remove(key);
                    case 1 -> writer.putF32(key, random.nextBoolean() ? Float.NaN : random.nextFloat() * 100 - 50);
                    case 2 -> writer.putU32s(key, new int[] {random.nextInt(4), random.nextInt(4)});
                    default -> writer.putU32(key, values[random.nextInt(values.length)]);
                }
            }
            writer.write(path);
            try {
                Model.load(path).close();
                loaded++;
            } catch (ModelLoadException | GgufException expected) {
                assertTrue(expected.getMessage().contains(path.toString()), expected.getMessage());
            }
        }
        assertTrue(loaded > 0, "some changes do no harm");
    }
}
