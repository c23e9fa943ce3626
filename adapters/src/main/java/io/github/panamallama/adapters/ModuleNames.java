package io.github.panamallama.adapters;

import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.gguf.AdapterFile;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Pattern;

/**
 * Where the modules of Hugging Face's models are in GGUF files: for each architecture the tensor's name, and in which order
 * llama.cpp's converter stored its rows.
 *
 * <p>Source: gguf-py/gguf/tensor_mapping.py and conversion/ of the pinned llama.cpp.
 */
final class ModuleNames {
    /** How rows of a weight in GGUF relate to those of Hugging Face's. */
    enum Rows {
        /** The same. */
        SAME,
        /** Of each query head, row j of the first half is followed by row j of the second: rotary embeddings then turn neighbours. */
        QUERY_PAIRS,
        /** The same for key heads. */
        KEY_PAIRS,
        /** Falcon's groups of queries, one key and one value, sorted to all queries, all keys, all values. */
        FALCON_GROUPS
    }

    /**
     * Where one module's weight is.
     *
     * @param tensor the GGUF tensor
     * @param layer  -1 outside layers
     * @param expert slice of the tensor; 0 where there are no experts
     */
    record Place(String tensor, int layer, int expert, Rows rows) {
    }

    /** What one architecture calls things. */
    private record Family(String embedding, Map<String, String> modules, boolean pairs) {
    }

    private static final Pattern OUTER = Pattern.compile("^(?:(?:model|language_model|transformer)\\.)*");
    private static final Pattern LAYER = Pattern.compile("(?:layers|h)\\.(\\d{1,6})\\.(.+)");
    private static final Pattern EXPERT = Pattern.compile("(.+\\.experts)\\.(\\d{1,6})\\.(.+)");

    private static final Map<String, String> GATED = Map.of(
            "self_attn.q_proj", "attn_q", "self_attn.k_proj", "attn_k", "self_attn.v_proj", "attn_v", "self_attn.o_proj", "attn_output",
            "mlp.gate_proj", "ffn_gate", "mlp.up_proj", "ffn_up", "mlp.down_proj", "ffn_down");

    private static final Map<String, String> MIXTRAL = Map.of(
            "block_sparse_moe.gate", "ffn_gate_inp", "block_sparse_moe.experts.#.w1", "ffn_gate_exps",
            "block_sparse_moe.experts.#.w2", "ffn_down_exps", "block_sparse_moe.experts.#.w3", "ffn_up_exps");

    private static final Map<String, String> EXPERTS = Map.of(
            "mlp.gate", "ffn_gate_inp", "mlp.experts.#.gate_proj", "ffn_gate_exps", "mlp.experts.#.up_proj", "ffn_up_exps",
            "mlp.experts.#.down_proj", "ffn_down_exps");

    private static final Map<String, String> SHARED_EXPERT = Map.of(
            "mlp.shared_expert.gate_proj", "ffn_gate_shexp", "mlp.shared_expert.up_proj", "ffn_up_shexp",
            "mlp.shared_expert.down_proj", "ffn_down_shexp");

    private static final Map<String, String> STARCODER2 = Map.of(
            "self_attn.q_proj", "attn_q", "self_attn.k_proj", "attn_k", "self_attn.v_proj", "attn_v", "self_attn.o_proj", "attn_output",
            "mlp.c_fc", "ffn_up", "mlp.c_proj", "ffn_down");

    /** Queries, keys and values in one matrix, gate and up in another, as in GGUF. */
    private static final Map<String, String> PHI3 = Map.of(
            "self_attn.qkv_proj", "attn_qkv", "self_attn.o_proj", "attn_output", "mlp.gate_up_proj", "ffn_up", "mlp.down_proj", "ffn_down");

    private static final Map<String, String> GPT2 = Map.of(
            "attn.c_attn", "attn_qkv", "attn.c_proj", "attn_output", "mlp.c_fc", "ffn_up", "mlp.c_proj", "ffn_down");

    private static final Map<String, String> FALCON = Map.of(
            "self_attention.query_key_value", "attn_qkv", "self_attention.dense", "attn_output",
            "mlp.dense_h_to_4h", "ffn_up", "mlp.dense_4h_to_h", "ffn_down");

    private static final Map<String, Family> FAMILIES = new TreeMap<>();

    static {
        // Mistral and Mixtral are of architecture llama in GGUF
        family("llama", true, GATED, MIXTRAL);
        family("granite", true, GATED);
        family("smollm3", true, GATED);
        family("olmo", true, GATED);
        family("olmo2", false, GATED);
        family("olmoe", false, GATED, EXPERTS);
        family("qwen2", false, GATED);
        family("qwen2moe", false, GATED, EXPERTS, SHARED_EXPERT);
        family("qwen3", false, GATED);
        family("qwen3moe", false, GATED, EXPERTS);
        family("gemma", false, GATED);
        family("gemma2", false, GATED);
        family("gemma3", false, GATED);
        family("phi3", false, PHI3);
        family("starcoder2", false, STARCODER2);
        FAMILIES.put("gpt2", new Family("wte", GPT2, false));
        FAMILIES.put("falcon", new Family("word_embeddings", FALCON, false));
    }

    private final String architecture;
    private final Family family;

    /** @throws AdapterException if the architecture isn't known here */
    ModuleNames(String architecture) {
        this.architecture = architecture;
        this.family = FAMILIES.get(architecture);
        if (family == null) {
            throw new AdapterException("PEFT adapters for architecture \"" + architecture + "\" can't be converted; those for "
                    + String.join(", ", FAMILIES.keySet()) + " can");
        }
    }

    @SafeVarargs
    private static void family(String architecture, boolean pairs, Map<String, String>... modules) {
        var all = new HashMap<String, String>();
        for (var some : modules) {
            all.putAll(some);
        }
        FAMILIES.put(architecture, new Family("embed_tokens", all, pairs));
    }

    /**
     * Where the weight of a module is.
     *
     * @param module its path in Hugging Face's model, for instance {@code model.layers.0.self_attn.q_proj}
     * @throws AdapterException if the architecture has no such module, or it can't be adapted
     */
    Place place(String module) {
        var inner = OUTER.matcher(module).replaceFirst("");
        if (inner.equals(family.embedding)) {
            return new Place(AdapterFile.EMBEDDING, -1, 0, Rows.SAME);
        }
        if (inner.equals("lm_head")) {
            return new Place("output.weight", -1, 0, Rows.SAME);
        }
        var layer = LAYER.matcher(inner);
        if (!layer.matches()) {
            throw unknown(module);
        }
        int number = Integer.parseInt(layer.group(1));
        var rest = layer.group(2);
        int slice = 0;
        var expert = EXPERT.matcher(rest);
        if (expert.matches()) {
            rest = expert.group(1) + ".#." + expert.group(3);
            slice = Integer.parseInt(expert.group(2));
        }
        var name = family.modules.get(rest);
        if (name == null) {
            throw unknown(module);
        }
        var rows = switch (name) {
            case "attn_q" -> family.pairs ? Rows.QUERY_PAIRS : Rows.SAME;
            case "attn_k" -> family.pairs ? Rows.KEY_PAIRS : Rows.SAME;
            case "attn_qkv" -> architecture.equals("falcon") ? Rows.FALCON_GROUPS : Rows.SAME;
            default -> Rows.SAME;
        };
        return new Place("blk." + number + "." + name + ".weight", number, slice, rows);
    }

    private AdapterException unknown(String module) {
        return new AdapterException("module \"" + module + "\" is unknown for architecture \"" + architecture + "\"; known are "
                + family.embedding + ", lm_head and, in layers, " + String.join(", ", new TreeSet<>(family.modules.keySet())));
    }

    /**
     * The row of Hugging Face's weight that is row {@code row} of GGUF's.
     *
     * @param count    rows
     * @param heads    query heads of the layer
     * @param keyHeads key and value heads of the layer
     */
    static int sourceRow(Rows rows, int row, int count, int heads, int keyHeads) {
        return switch (rows) {
            case SAME -> row;
            case QUERY_PAIRS -> paired(row, count / heads);
            case KEY_PAIRS -> paired(row, count / keyHeads);
            case FALCON_GROUPS -> {
                int size = count / (heads + 2 * keyHeads);
                int head = row / size;
                int queries = heads / keyHeads;     // per group
                int source = head < heads ? head / queries * (queries + 2) + head % queries
                        : head < heads + keyHeads ? (head - heads) * (queries + 2) + queries
                        : (head - heads - keyHeads) * (queries + 2) + queries + 1;
                yield source * size + row % size;
            }
        };
    }

    /** Rows 2j and 2j + 1 of a head come from j of its first and j of its second half. */
    private static int paired(int row, int headSize) {
        int inHead = row % headSize;
        return row - inHead + inHead % 2 * (headSize / 2) + inHead / 2;
    }

    /** Into how many equal parts rows must fall for {@link #sourceRow}. */
    static int divisor(Rows rows, int heads, int keyHeads) {
        return switch (rows) {
            case SAME -> 1;
            case QUERY_PAIRS -> 2 * heads;
            case KEY_PAIRS -> 2 * keyHeads;
            case FALCON_GROUPS -> heads + 2 * keyHeads;
        };
    }
}
