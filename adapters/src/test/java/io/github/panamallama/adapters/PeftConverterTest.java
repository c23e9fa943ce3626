package io.github.panamallama.adapters;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.json.JsonMapper;

/**
 * Converted adapters change the same weights by the same amounts as in PEFT. Expected changes are multiplied out here from what the
 * folder holds, and moved to GGUF's rows as llama.cpp's converter moves the rows of weights.
 */
class PeftConverterTest {
    /** Width 256, 4 heads and 2 for keys and values, feed-forward 512, 4096 tokens, head and embeddings shared. */
    private static final Path JAVA_TINY = Path.of("..", "models", "java-tiny-f16.gguf");
    private static final long SEED = 4;

    @TempDir
    Path folder;

    private PeftFolder peft;

    @BeforeEach
    void prepare() throws IOException {
        System.out.println("seed " + SEED);
        peft = new PeftFolder(folder.resolve("my-adapter"), SEED);
    }

    @Test
    void everyProjectionOfALlamaChangesAsInPeft() throws IOException {
        var expected = new TreeMap<String, double[][]>();
        for (int layer : new int[] {0, 7}) {
            var hf = "model.layers." + layer + ".";
            var gguf = "blk." + layer + ".";
            expected.put(gguf + "attn_q.weight", pairs(peft.linear(hf + "self_attn.q_proj", 4, 256, 256).delta(2), 4));
            expected.put(gguf + "attn_k.weight", pairs(peft.linear(hf + "self_attn.k_proj", 4, 256, 128).delta(2), 2));
            expected.put(gguf + "attn_v.weight", peft.linear(hf + "self_attn.v_proj", 4, 256, 128).delta(2));
            expected.put(gguf + "attn_output.weight", peft.linear(hf + "self_attn.o_proj", 4, 256, 256).delta(2));
            expected.put(gguf + "ffn_gate.weight", peft.linear(hf + "mlp.gate_proj", 4, 256, 512).delta(2));
            expected.put(gguf + "ffn_up.weight", peft.linear(hf + "mlp.up_proj", 4, 256, 512).delta(2));
            expected.put(gguf + "ffn_down.weight", peft.linear(hf + "mlp.down_proj", 4, 512, 256).delta(2));
        }
        var weights = convert(JAVA_TINY);
        assertDeltas(expected, weights);
        assertEquals("my-adapter", weights.name());
        assertEquals(8, weights.alpha());

        var out = folder.resolve("out.gguf");
        weights.write(out, GgmlType.F32);
        var file = AdapterFile.read(out);
        file.check(GgufFile.readParts(JAVA_TINY));
        assertDeltas(expected, LoraWeights.read(file));
        assertEquals("example/base", file.gguf().metadata().string("general.base_model.0.name").orElseThrow());
        assertEquals(8, file.gguf().metadata().integer("llama.block_count").orElseThrow());
        var e = assertThrows(AdapterException.class, () -> file.check(GgufFile.readParts(tiny(RandomModel.Architecture.LLAMA))));
        assertTrue(e.getMessage().contains("llama.block_count = 8"), e.getMessage());
    }

    @Test
    void rankStabilisedAdaptersScaleByTheRoot() throws IOException {
        peft.config.put("use_rslora", true);
        var expected = Map.of("blk.0.attn_v.weight", peft.linear("model.layers.0.self_attn.v_proj", 4, 256, 128).delta(8 / 2.0));
        var weights = convert(JAVA_TINY);
        assertDeltas(expected, weights);
        assertEquals(16, weights.alpha(), "no rounding goes into B where alpha alone can say it");
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void patternsGiveModulesTheirOwnRankAndAlpha(boolean rankStabilised) throws IOException {
        peft.config.put("use_rslora", rankStabilised);
        // first match counts; a pattern matches behind a point or as a whole, never inside a name
        var ranks = new LinkedHashMap<String, Integer>();
        ranks.put("layers.0.self_attn.v_proj", 2);
        ranks.put("v_proj", 16);
        ranks.put("proj", 99);
        peft.config.put("rank_pattern", ranks);
        peft.config.put("alpha_pattern", Map.of("model\\.layers\\.[12]\\.self_attn\\.(v|o)_proj", 3, "^model.layers.3.mlp.up_proj", 5.5));
        var expected = new TreeMap<String, double[][]>();
        var modules = new Object[][] {{0, "v", 2, 8.0, 128}, {1, "v", 16, 3.0, 128}, {2, "o", 4, 3.0, 256}, {3, "o", 4, 8.0, 256}};
        for (var module : modules) {
            int rank = (int) module[2];
            double scale = (double) module[3] / (rankStabilised ? Math.sqrt(rank) : rank);
            var factors = peft.linear("model.layers." + module[0] + ".self_attn." + module[1] + "_proj", rank, 256, (int) module[4]);
            expected.put("blk." + module[0] + (module[1].equals("v") ? ".attn_v.weight" : ".attn_output.weight"), factors.delta(scale));
        }
        expected.put("blk.3.ffn_up.weight", peft.linear("model.layers.3.mlp.up_proj", 4, 256, 512)
                .delta(rankStabilised ? 5.5 / 2 : 5.5 / 4));
        var weights = convert(JAVA_TINY);
        assertDeltas(expected, weights);
        assertEquals(List.of(2, 16, 4, 4, 4), weights.targets().stream().map(LoraWeights.Target::rank).toList());
    }

    @Test
    void embeddingsChangeRowByRow() throws IOException {
        var factors = peft.embedding("model.embed_tokens", 4, 4096, 256);
        var expected = Map.of("token_embd.weight", transposed(factors.delta(2)));
        var weights = convert(JAVA_TINY);
        assertDeltas(expected, weights);
        var out = folder.resolve("out.gguf");
        weights.write(out, GgmlType.F32);
        var file = AdapterFile.read(out);
        assertEquals(List.of(4L, 4096L), file.targets().getFirst().a().shape());
        assertEquals(List.of(4L, 256L), file.targets().getFirst().b().shape());
        file.check(GgufFile.readParts(JAVA_TINY));
        assertDeltas(expected, LoraWeights.read(file));
    }

    @Test
    void theNameOfTheAdapterMayBeLeftIn() throws IOException {
        var expected = Map.of("blk.1.attn_v.weight", peft.linear("model.layers.1.self_attn.v_proj", ".default", 4, 256, 128).delta(2));
        assertDeltas(expected, convert(JAVA_TINY));
        peft.linear("model.layers.2.self_attn.v_proj", ".other", 4, 256, 128);
        refused("several adapters: default, other");
    }

    @Test
    void aHeadOfItsOwnCanBeAdaptedAndASharedOneCannot() throws IOException {
        var expected = Map.of("output.weight", peft.linear("lm_head", 4, 64, 512).delta(2));
        assertDeltas(expected, convert(tiny(RandomModel.Architecture.LLAMA)));

        peft = new PeftFolder(folder.resolve("tied"), SEED);
        peft.linear("lm_head", 4, 256, 4096);
        refused("its head shares the embeddings");
    }

    @Test
    void otherArchitecturesKeepTheOrderOfQueriesAndKeys() throws IOException {
        var expected = Map.of(
                "blk.2.attn_q.weight", peft.linear("model.layers.2.self_attn.q_proj", 4, 64, 64).delta(2),
                "blk.2.attn_k.weight", peft.linear("model.layers.2.self_attn.k_proj", 4, 64, 32).delta(2));
        assertDeltas(expected, convert(tiny(RandomModel.Architecture.QWEN3)));
    }

    @Test
    void gemma3IsFoundInsideItsMultimodalModelAndDropsRowsWithoutTokens() throws IOException {
        var embedding = peft.embedding("model.language_model.embed_tokens", 4, 520, 64);
        var expected = Map.of(
                "token_embd.weight", Arrays.copyOf(transposed(embedding.delta(2)), 512),
                "blk.1.attn_q.weight", peft.linear("model.language_model.layers.1.self_attn.q_proj", 4, 64, 64).delta(2));
        assertDeltas(expected, convert(tiny(RandomModel.Architecture.GEMMA3)));
    }

    @Test
    void expertsWithoutAnAdapterAndOfLowerRankAreFilledWithZeros() throws IOException {
        var base = base("llama", Map.of("llama.attention.head_count", 4), Map.of("blk.0.ffn_gate_exps.weight", List.of(32L, 48L, 4L),
                "blk.0.ffn_down_exps.weight", List.of(48L, 32L, 4L), "blk.0.ffn_gate_inp.weight", List.of(32L, 4L)));
        peft.config.put("rank_pattern", Map.of("experts.3.w1", 2));
        var first = peft.linear("model.layers.0.block_sparse_moe.experts.1.w1", 4, 32, 48).delta(2);
        var second = peft.linear("model.layers.0.block_sparse_moe.experts.3.w1", 2, 32, 48).delta(4);
        var down = peft.linear("model.layers.0.block_sparse_moe.experts.0.w2", 4, 48, 32).delta(2);
        var router = peft.linear("model.layers.0.block_sparse_moe.gate", 4, 32, 4).delta(2);
        var weights = convert(base);
        var none = new double[48][32];
        var noneDown = new double[32][48];
        assertDeltas(Map.of("blk.0.ffn_gate_exps.weight", stacked(none, first, none, second),
                "blk.0.ffn_down_exps.weight", stacked(down, noneDown, noneDown, noneDown), "blk.0.ffn_gate_inp.weight", router), weights);
        var out = folder.resolve("out.gguf");
        weights.write(out, GgmlType.F32);
        AdapterFile.read(out).check(GgufFile.readParts(base));

        peft.linear("model.layers.0.block_sparse_moe.experts.4.w1", 4, 32, 48);
        refused(base, "is an expert that " + base + " has not: \"blk.0.ffn_gate_exps.weight\" has 4");
    }

    /** The converter of llama.cpp takes groups of queries, a key and a value apart. */
    @Test
    void falconsGroupsAreSorted() throws IOException {
        int heads = 6;
        int keyHeads = 2;
        int size = 8;
        var base = base("falcon", Map.of("falcon.attention.head_count", heads, "falcon.attention.head_count_kv", keyHeads),
                Map.of("blk.0.attn_qkv.weight", List.of(48L, 80L)));
        var delta = peft.linear("transformer.h.0.self_attention.query_key_value", 4, 48, (heads + 2 * keyHeads) * size).delta(2);
        var expected = new double[delta.length][];
        int perGroup = heads / keyHeads + 2;
        for (int row = 0; row < delta.length; row++) {
            int group = row / size / perGroup;
            int member = row / size % perGroup;
            int head = member < perGroup - 2 ? group * (perGroup - 2) + member
                    : member == perGroup - 2 ? heads + group : heads + keyHeads + group;
            expected[head * size + row % size] = delta[row];
        }
        assertDeltas(Map.of("blk.0.attn_qkv.weight", expected), convert(base));
    }

    /** A square and a flat matrix: B * A of a Conv1D has [outputs][inputs] like any other. */
    @Test
    void transposedWeightsOfGpt2NeedNoTransposition() throws IOException {
        var base = base("gpt2", Map.of(), Map.of("blk.0.attn_qkv.weight", List.of(32L, 96L), "blk.0.attn_output.weight",
                List.of(32L, 32L)));
        peft.config.put("fan_in_fan_out", true);
        assertDeltas(Map.of("blk.0.attn_qkv.weight", peft.linear("transformer.h.0.attn.c_attn", 4, 32, 96).delta(2),
                "blk.0.attn_output.weight", peft.linear("transformer.h.0.attn.c_proj", 4, 32, 32).delta(2)), convert(base));
    }

    @Test
    void headCountsMayDifferFromLayerToLayer() throws IOException {
        var base = folder.resolve("layers.gguf");
        var writer = new GgufWriter().put("general.architecture", "llama").putI32s("llama.attention.head_count", new int[] {8, 4})
                .putI32s("llama.attention.head_count_kv", new int[] {8, 2});
        zeros(writer, "blk.1.attn_k.weight", List.of(32L, 16L));
        writer.write(base);
        assertDeltas(Map.of("blk.1.attn_k.weight", pairs(peft.linear("model.layers.1.self_attn.k_proj", 4, 32, 16).delta(2), 2)),
                convert(base));
    }

    @ParameterizedTest
    @CsvSource({
        "phi3, model.layers.3.self_attn.qkv_proj, blk.3.attn_qkv.weight, SAME",
        "phi3, model.layers.3.mlp.gate_up_proj, blk.3.ffn_up.weight, SAME",
        "starcoder2, model.layers.12.mlp.c_fc, blk.12.ffn_up.weight, SAME",
        "starcoder2, model.layers.12.self_attn.q_proj, blk.12.attn_q.weight, SAME",
        "olmo2, model.layers.0.self_attn.k_proj, blk.0.attn_k.weight, SAME",
        "olmo, model.layers.0.self_attn.k_proj, blk.0.attn_k.weight, KEY_PAIRS",
        "granite, model.layers.0.self_attn.q_proj, blk.0.attn_q.weight, QUERY_PAIRS",
        "qwen2, model.layers.0.mlp.down_proj, blk.0.ffn_down.weight, SAME",
        "qwen3moe, model.layers.5.mlp.experts.7.up_proj, blk.5.ffn_up_exps.weight, SAME",
        "qwen2moe, model.layers.5.mlp.shared_expert.up_proj, blk.5.ffn_up_shexp.weight, SAME",
        "gemma, model.layers.0.self_attn.q_proj, blk.0.attn_q.weight, SAME",
        "gemma2, model.layers.0.self_attn.k_proj, blk.0.attn_k.weight, SAME",
        "gpt2, transformer.wte, token_embd.weight, SAME",
        "gpt2, transformer.h.1.mlp.c_proj, blk.1.ffn_down.weight, SAME",
        "falcon, transformer.word_embeddings, token_embd.weight, SAME",
        "falcon, transformer.h.1.mlp.dense_4h_to_h, blk.1.ffn_down.weight, SAME",
    })
    void modulesHaveTheirPlaces(String architecture, String module, String tensor, ModuleNames.Rows rows) {
        var place = new ModuleNames(architecture).place(module);
        assertEquals(tensor, place.tensor());
        assertEquals(rows, place.rows());
    }

    @Test
    void shardsAreReadThroughTheirIndex() throws IOException {
        var up = peft.linear("model.layers.0.mlp.up_proj", 4, 256, 512);
        peft.weights.write(peft.path().resolve("adapter_model-00001-of-00002.safetensors"));
        var second = new PeftFolder(folder.resolve("second"), SEED + 1);
        var down = second.linear("model.layers.0.mlp.down_proj", 4, 512, 256);
        second.weights.write(peft.path().resolve("adapter_model-00002-of-00002.safetensors"));
        peft.writeConfig();
        index(Map.of("up_proj.lora_A", 1, "up_proj.lora_B", 1, "down_proj.lora_A", 2, "down_proj.lora_B", 2));
        assertDeltas(Map.of("blk.0.ffn_up.weight", up.delta(2), "blk.0.ffn_down.weight", down.delta(2)),
                PeftConverter.convert(peft.path(), parts(JAVA_TINY)));

        index(Map.of("up_proj.lora_A", 1, "up_proj.lora_B", 1, "down_proj.lora_A", 2, "down_proj.lora_B", 1));
        refusedAsWritten("00002-of-00002.safetensors: has tensor \"base_model.model.model.layers.0.mlp.down_proj.lora_B.weight\", which "
                + "adapter_model.safetensors.index.json doesn't place there");
        index(Map.of("up_proj.lora_A", 1, "up_proj.lora_B", 1, "down_proj.lora_A", 2, "down_proj.lora_B", 2, "gate_proj.lora_A", 2));
        refusedAsWritten("tensor \"base_model.model.model.layers.0.mlp.gate_proj.lora_A.weight\" is missing");
        index(Map.of("up_proj.lora_A", 3));
        refusedAsWritten("00003-of-00002.safetensors: no such file");
        Files.writeString(peft.path().resolve("adapter_model.safetensors.index.json"),
                "{\"weight_map\":{\"x\":\"../../secret.safetensors\"}}");
        refusedAsWritten("\"../../secret.safetensors\" is no name of a file in this folder");
    }

    /** An index that places factors of the first feed-forward block in numbered shards. */
    private void index(Map<String, Integer> shards) throws IOException {
        var map = new TreeMap<String, String>();
        shards.forEach((factor, shard) -> map.put("base_model.model.model.layers.0.mlp." + factor + ".weight",
                "adapter_model-%05d-of-00002.safetensors".formatted(shard)));
        Files.writeString(peft.path().resolve("adapter_model.safetensors.index.json"),
                JsonMapper.shared().writeValueAsString(Map.of("weight_map", map)));
    }

    @Test
    void invocationTokensAreKept() throws IOException {
        peft.config.put("alora_invocation_tokens", new int[] {7, 8, 9});
        peft.linear("model.layers.0.mlp.up_proj", 4, 256, 512);
        var weights = convert(JAVA_TINY);
        assertArrayEquals(new int[] {7, 8, 9}, weights.invocationTokens());
        var out = folder.resolve("out.gguf");
        weights.write(out, GgmlType.F16);
        assertArrayEquals(new int[] {7, 8, 9}, AdapterFile.read(out).invocationTokens());
        peft.config.put("alora_invocation_tokens", List.of(-1));
        refused("alora_invocation_tokens is [-1]");
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "peft_type | \"IA3\" | peft_type is \"IA3\"",
        "use_dora | true | use_dora is true: DoRA scales each row",
        "modules_to_save | [\"lm_head\"] | modules_to_save is [\"lm_head\"]: whole modules were trained",
        "bias | \"all\" | bias is \"all\": biases of the model were trained",
        "lora_bias | true | lora_bias is true: the adapter has biases",
        "target_parameters | [\"mlp.experts.gate_up_proj\"] | is [\"mlp.experts.gate_up_proj\"]: it adapts bare parameters",
        "trainable_token_indices | [1,2] | trainable_token_indices is [1,2]: rows of the embeddings",
        "layer_replication | [[0,2],[1,3]] | layer_replication is [[0,2],[1,3]]",
        "use_qalora | true | use_qalora is true",
        "megatron_config | {\"a\":1} | megatron_config is {\"a\":1}",
        "some_new_field | 0.5 | some_new_field is 0.5: this field isn't known here",
        "init_lora_weights | \"pissa_niter_4\" | that changes the base model's weights",
        "invocation_string | \"now\" | set alora_invocation_tokens",
        "r | 0 | r is 0; a whole number of at least 1",
        "r | \"8\" | r is \"8\"",
        "lora_alpha | 0 | lora_alpha is 0; a positive number",
        "lora_alpha | \"8\" | lora_alpha is \"8\"; a positive number",
        "use_rslora | \"yes\" | use_rslora is \"yes\"",
        "rank_pattern | {\"up_(\":4} | \"up_(\" in rank_pattern is no regular expression",
        "rank_pattern | {\"up_proj\":0} | the rank of \"model.layers.0.mlp.up_proj\" is 0",
        "alpha_pattern | {\"up_proj\":-1} | alpha of \"model.layers.0.mlp.up_proj\" is -1",
        "rank_pattern | {\"up_proj\":8} | has rank 4 and its B 4, but adapter_config.json says 8",
    })
    void whatCannotBeHonouredIsRefusedByName(String field, String value, String message) throws IOException {
        peft.linear("model.layers.0.mlp.up_proj", 4, 256, 512);
        peft.config.put(field, JsonMapper.shared().readTree(value));
        refused(message);
    }

    @Test
    void aPatternNestedTooDeeplyIsRefused() throws IOException {
        peft.linear("model.layers.0.mlp.up_proj", 4, 256, 512);
        peft.config.put("rank_pattern", Map.of("(".repeat(20_000) + "x" + ")".repeat(20_000), 4));
        refused("(...\" in rank_pattern is no regular expression that can be used");
    }

    @Test
    void anAlphaBeyondAllNumbersIsRefused() throws IOException {
        peft.linear("model.layers.0.mlp.up_proj", 4, 256, 512);
        peft.write();
        var path = peft.path().resolve("adapter_config.json");
        Files.writeString(path, Files.readString(path).replace("\"lora_alpha\":8", "\"lora_alpha\":1e999"));
        refusedAsWritten("lora_alpha is ");
    }

    @Test
    void fieldsThatAreNullFalseOrEmptySayNothing() throws IOException {
        peft.config.put("bias", null);
        peft.config.put("some_new_field", false);
        peft.config.put("another", List.of());
        peft.config.put("a_third", null);
        peft.linear("model.layers.0.mlp.up_proj", 4, 256, 512);
        assertEquals(1, convert(JAVA_TINY).targets().size());
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector | DoRA scales each row",
        "base_model.model.model.layers.0.mlp.up_proj.lora_B.bias | the adapter has biases",
        "base_model.model.model.embed_tokens.weight | whole modules were trained",
        "base_model.model.lm_head.modules_to_save.weight | whole modules were trained",
        "base_model.model.model.layers.0.mlp.up_proj.lora_E | it isn't known what this part",
        "base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight | is there twice",
        "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight | has no counterpart",
        "base_model.model.model.layers.0.mlp.up_proj.lora_embedding_A | is there twice",
    })
    void unexpectedTensorsAreRefusedByName(String name, String message) throws IOException {
        peft.linear("model.layers.0.mlp.up_proj", 4, 256, 512);
        peft.weights.put(name, new float[] {1}, 1, 1);
        refused("tensor \"" + name + "\"");
        refused(message);
    }

    @Test
    void modulesOfAnotherModelAreRefused() throws IOException {
        peft.linear("model.layers.0.self_attn.rotary", 4, 256, 256);
        refused("module \"model.layers.0.self_attn.rotary\" is unknown for architecture \"llama\"; known are embed_tokens, lm_head "
                + "and, in layers, block_sparse_moe.experts.#.w1");
        peft = new PeftFolder(folder.resolve("layers"), SEED);
        peft.linear("model.layers.8.mlp.up_proj", 4, 256, 512);
        refused("is \"blk.8.ffn_up.weight\" in GGUF, which " + JAVA_TINY + " has not");
        peft = new PeftFolder(folder.resolve("width"), SEED);
        peft.linear("model.layers.0.mlp.up_proj", 4, 128, 512);
        refused("is adapted as a matrix of [128 x 512], but \"blk.0.ffn_up.weight\" of " + JAVA_TINY + " is [256, 512]");
        peft = new PeftFolder(folder.resolve("tokens"), SEED);
        peft.embedding("model.embed_tokens", 4, 4097, 256);
        refused("[256 x 4097]");
        peft = new PeftFolder(folder.resolve("kind"), SEED);
        peft.embedding("model.layers.0.mlp.up_proj", 4, 256, 512);
        refused("takes lora_A and lora_B, not these");
        peft = new PeftFolder(folder.resolve("none"), SEED);
        refused("has no LoRA weights");
        peft.linear("model.layers.0.mixer.in_proj", 4, 64, 64);
        refused(tiny(RandomModel.Architecture.MAMBA), "architecture \"mamba\" can't be converted; those for falcon, gemma,");
    }

    @Test
    void damagedWeightsAreRefused() throws IOException {
        peft.weights.put("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", new float[1024], 4, 256);
        var bad = new float[2048];
        bad[77] = Float.NaN;
        peft.weights.put("base_model.model.model.layers.0.mlp.up_proj.lora_B.weight", bad, 512, 4);
        refused("up_proj.lora_B.weight\": value 77 of 2048 is NaN");
        var file = peft.path().resolve("adapter_model.safetensors");
        Files.write(file, Arrays.copyOf(Files.readAllBytes(file), 5000));
        refusedAsWritten("is damaged or truncated");
        peft = new PeftFolder(folder.resolve("zero"), SEED);
        peft.weights.put("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", new float[0], 0, 256);
        peft.weights.put("base_model.model.model.layers.0.mlp.up_proj.lora_B.weight", new float[0], 512, 0);
        refused("has rank 0 and its B 0");
    }

    @Test
    void foldersThatAreNoAdaptersAreRefused() throws IOException {
        var e = assertThrows(AdapterException.class, () -> PeftConverter.convert(folder.resolve("nowhere"), parts(JAVA_TINY)));
        assertTrue(e.getMessage().contains("is no folder"), e.getMessage());
        refusedAsWritten("has no adapter_config.json");
        peft.writeConfig();
        refusedAsWritten("has neither adapter_model.safetensors nor");
        Files.write(peft.path().resolve("adapter_model.bin"), new byte[10]);
        refusedAsWritten("adapter_model.bin: is a pickle file");
        e = assertThrows(AdapterException.class, () -> PeftConverter.convert(peft.path().resolve("adapter_model.bin"), parts(JAVA_TINY)));
        assertTrue(e.getMessage().contains("is a pickle file"), e.getMessage());
        Files.writeString(peft.path().resolve("adapter_config.json"), "{\"r\": }");
        refusedAsWritten("adapter_config.json: broken JSON");
        Files.writeString(peft.path().resolve("adapter_config.json"), "{\"r\": 4, \"r\": 8}");
        refusedAsWritten("broken JSON: Duplicate");
    }

    private LoraWeights convert(Path base) throws IOException {
        return PeftConverter.convert(peft.write(), parts(base));
    }

    private void refused(String message) throws IOException {
        refused(JAVA_TINY, message);
    }

    private void refused(Path base, String message) throws IOException {
        peft.write();
        refusedAsWritten(base, message);
    }

    private void refusedAsWritten(String message) {
        refusedAsWritten(JAVA_TINY, message);
    }

    private void refusedAsWritten(Path base, String message) {
        var e = assertThrows(AdapterException.class, () -> PeftConverter.convert(peft.path(), parts(base)));
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }

    private static List<GgufFile> parts(Path base) {
        return GgufFile.readParts(base);
    }

    private Path tiny(RandomModel.Architecture architecture) {
        var path = folder.resolve(architecture.key() + ".gguf");
        RandomModel.tiny(architecture).write(path);
        return path;
    }

    /** A file with what a conversion looks at. */
    private Path base(String architecture, Map<String, Integer> counts, Map<String, List<Long>> tensors) {
        var writer = new GgufWriter().put("general.architecture", architecture);
        counts.forEach(writer::putU32);
        new TreeMap<>(tensors).forEach((name, shape) -> zeros(writer, name, shape));
        var path = folder.resolve(architecture + "-base.gguf");
        writer.write(path);
        return path;
    }

    private static void zeros(GgufWriter writer, String name, List<Long> shape) {
        long elements = shape.stream().reduce(1L, Math::multiplyExact);
        writer.tensor(name, GgmlType.F32, shape, out -> out.write(MemorySegment.ofArray(new byte[(int) (4 * elements)])));
    }

    /** Rows as LlamaModel.permute of llama.cpp's converter moves them: [heads, 2, half] becomes [heads, half, 2]. */
    private static double[][] pairs(double[][] rows, int heads) {
        var moved = new double[rows.length][];
        int half = rows.length / heads / 2;
        int source = 0;
        for (int head = 0; head < heads; head++) {
            for (int side = 0; side < 2; side++) {
                for (int i = 0; i < half; i++) {
                    moved[(head * half + i) * 2 + side] = rows[source++];
                }
            }
        }
        return moved;
    }

    private static double[][] transposed(double[][] rows) {
        var turned = new double[rows[0].length][rows.length];
        for (int i = 0; i < rows.length; i++) {
            for (int j = 0; j < rows[0].length; j++) {
                turned[j][i] = rows[i][j];
            }
        }
        return turned;
    }

    private static double[][] stacked(double[][]... slices) {
        return Arrays.stream(slices).flatMap(Arrays::stream).toArray(double[][]::new);
    }

    /** What an adapter adds to each matrix; slices of experts one below the other. */
    private static Map<String, double[][]> deltas(LoraWeights weights) {
        var all = new TreeMap<String, double[][]>();
        for (var target : weights.targets()) {
            var delta = new double[target.experts() * target.outputs()][target.inputs()];
            double scale = target.scale(weights.alpha());
            for (int row = 0; row < delta.length; row++) {
                int expert = row / target.outputs();
                for (int i = 0; i < target.inputs(); i++) {
                    for (int k = 0; k < target.rank(); k++) {
                        float b = target.b()[row * target.rank() + k];
                        delta[row][i] += scale * b * target.a()[(expert * target.rank() + k) * target.inputs() + i];
                    }
                }
            }
            all.put(target.name(), delta);
        }
        return all;
    }

    private static void assertDeltas(Map<String, double[][]> expected, LoraWeights weights) {
        var actual = deltas(weights);
        assertEquals(new TreeMap<>(expected).keySet(), actual.keySet());
        expected.forEach((name, rows) -> {
            assertEquals(rows.length, actual.get(name).length, name);
            for (int i = 0; i < rows.length; i++) {
                // sums of some dozen products of about 1, with factors rounded to floats
                assertArrayEquals(rows[i], actual.get(name)[i], 2e-5, name + " row " + i);
            }
        });
    }
}
