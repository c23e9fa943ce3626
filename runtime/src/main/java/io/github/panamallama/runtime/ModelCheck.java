package io.github.panamallama.runtime;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufMetadata;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.GgufValueType;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * What a well-formed file must say to be a model that native code can load and evaluate. Checked are the values that upstream asserts,
 * divides by or indexes with (src/llama-model.cpp, load_hparams; src/llama-vocab.cpp, load); what it refuses with an exception of
 * its own is left to it, except where it would say too little.
 */
final class ModelCheck {
    /** LLAMA_MAX_LAYERS and LLAMA_MAX_EXPERTS. */
    private static final int MAX_LAYERS = 512;
    private static final int MAX_EXPERTS = 1024;
    /** Upstream's tries take a stack frame for each byte of a token; the longest known ones have 256. */
    private static final int MAX_TOKEN_BYTES = 1024;
    /** Upstream takes every part of every suffix of plamo2's tokens; the model's own vocabulary stays far below. */
    private static final long MAX_CUBES = 1L << 33;
    private static final int BYTE_TOKEN = 6;

    private static final Set<String> ROPE_SCALINGS = Set.of("none", "linear", "yarn", "longrope");
    /** Types that only graphs or indices use: kernels for weights don't know them, and look up null functions. */
    private static final Set<GgmlType> NO_WEIGHTS = EnumSet.of(
            GgmlType.I8, GgmlType.I16, GgmlType.I32, GgmlType.I64, GgmlType.F64, GgmlType.Q8_1, GgmlType.Q8_K);

    /** Architectures that divide by the number of heads before they look at anything else. */
    private static final Set<String> HEADS_NEEDED = Set.of("deepseek2", "gemma2", "gemma3", "olmo2", "phimoe");

    /** Architectures that divide by the number of experts used, and don't look at it before. */
    private static final Set<String> EXPERTS_NEEDED = Set.of(
            "glm4moe", "grovemoe", "llada-moe", "qwen35moe", "qwen3next", "qwen3vlmoe", "qwen4exp", "rnd1");

    /** Architectures that always rotate by sections (llama_model_rope_type: M-RoPE). */
    private static final Set<String> SECTIONS_NEEDED = Set.of(
            "paddleocr", "qwen2vl", "qwen35", "qwen35moe", "qwen3tts", "qwen3vl", "qwen3vlmoe", "qwen4exp");

    /** Tensors that kernels take as they are, value by value, whatever their shape. */
    private static final Pattern ELEMENTWISE = Pattern.compile(
            "\\.(ssm_conv1d|shortconv\\.conv|time_mix_(lerp|first|r_k)|channel_mix_lerp)|\\.(ssm_a|ssm_d|bias|scale|input_scale)$");
    private static final ValueLayout.OfInt ID = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private static final Set<GgmlType> INTEGERS = EnumSet.of(GgmlType.I8, GgmlType.I16, GgmlType.I32, GgmlType.I64);

    private final GgufFile file;
    private final GgufMetadata metadata;
    private String architecture;

    private ModelCheck(GgufFile file) {
        this.file = file;
        this.metadata = file.metadata();
    }

    /**
     * @param parts the files of the model, the first one with the metadata
     * @throws ModelLoadException naming file, key and value
     */
    static void check(List<GgufFile> parts, boolean vocabularyOnly) {
        new ModelCheck(parts.getFirst()).check();
        if (!vocabularyOnly) {
            var model = new ModelCheck(parts.getFirst());
            model.shape();
            model.relativePositions(parts);
            for (var part : parts) {
                part.tensors().forEach(tensor -> model.tensor(part, tensor));
            }
            if (parts.stream().allMatch(part -> part.tensors().isEmpty())) {
                throw new ModelLoadException(parts.getFirst().path()
                        + " has no weights, only a vocabulary; load it with ModelOptions.withVocabularyOnly(true)");
            }
        }
    }

    private void check() {
        architecture();
        vocabulary();
    }

    private void architecture() {
        var kind = metadata.contains("general.type") ? metadata.string("general.type").orElse("") : "";
        if (kind.equals("adapter")) {
            throw error("is a LoRA adapter (general.type), not a model");
        }
        architecture = metadata.string("general.architecture").orElseThrow(() -> error("has no general.architecture: it is no model"));
        if (architecture.equals("clip")) {
            throw error("is a projector for images or sound (general.architecture is clip), not a language model");
        }
        if (architecture.isEmpty() || architecture.length() > 64) {
            throw error("has the general.architecture \"" + architecture + "\"");
        }
    }

    private void vocabulary() {
        var model = metadata.string("tokenizer.ggml.model").orElseThrow(
                () -> error("has no vocabulary (tokenizer.ggml.model is missing); convert the model again with its tokenizer"));
        if (model.equals("none") || model.equals("no_vocab")) {
            return;
        }
        var key = "tokenizer.ggml.tokens";
        int count = metadata.arrayLength(key).orElseThrow(() -> error("has no vocabulary (" + key + " is missing or no array)"));
        if (metadata.elementType(key).get() != GgufValueType.STRING) {
            throw error("has " + key + " as an array of " + metadata.elementType(key).get().label() + "; strings are needed");
        }
        if (count < 1) {
            throw error("has an empty vocabulary (" + key + ")");
        }
        arrayOf("tokenizer.ggml.scores", count, GgufValueType.FLOAT32, GgufValueType.INT32);
        arrayOf("tokenizer.ggml.token_type", count, GgufValueType.INT32, GgufValueType.INT32);
        var types = metadata.integers("tokenizer.ggml.token_type").orElse(new long[0]);
        var seen = HashMap.<String, Integer>newHashMap(count);
        boolean suffixes = model.equals("plamo2");
        long cubes = 0;
        for (int i = 0; i < count; i++) {
            // every byte a char, so that pieces that aren't UTF-8 stay different
            var text = new String(metadata.stringBytes(key, i).get(), StandardCharsets.ISO_8859_1);
            if (text.length() > MAX_TOKEN_BYTES) {
                throw error("has a token of " + text.length() + " bytes, " + key + "[" + i + "]");
            }
            if (suffixes) {
                cubes += (long) text.length() * text.length() * text.length();
                if (cubes > MAX_CUBES) {
                    throw error("has tokens too long for a plamo2 vocabulary, up to " + key + "[" + i + "]");
                }
                unicode(key, i);
            }
            // upstream gives tokens without text this name
            var other = seen.put(text.isEmpty() ? "[EMPTY_" + i + "]" : text, i);
            if (other != null) {
                throw error("has the token \"" + metadata.strings(key).get().get(i) + "\" twice, " + key + "[" + other + "] and [" + i
                        + "]");
            }
            if (types.length > 0 && types[i] == BYTE_TOKEN) {
                byteToken(model, text, i);
            }
        }
        var tokenTypes = metadata.integer("tokenizer.ggml.token_type_count");
        if (tokenTypes.isPresent() && tokenTypes.getAsLong() > 1 << 16) {
            throw error("has tokenizer.ggml.token_type_count " + tokenTypes.getAsLong());
        }
    }

    /** Upstream numbers suffixes as they are and as they are written again: where both differ, it reads behind the end of a text. */
    private void unicode(String key, int index) {
        try {
            StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(metadata.stringBytes(key, index).get()));
        } catch (CharacterCodingException e) {
            throw error("has a token that is not UTF-8, " + key + "[" + index + "], in a plamo2 vocabulary");
        }
    }

    /** Upstream cuts the digits out of {@code <0x0A>} without looking, and aborts where the tokenizer knows no byte tokens. */
    private void byteToken(String model, String text, int id) {
        if (model.equals("bert")) {
            throw error("marks token " + id + " as a byte, which a bert vocabulary can't have");
        }
        if (!model.equals("rwkv") && !text.matches("<0x[0-9A-Fa-f]{2}>")) {
            throw error("marks token " + id + " as a byte, but its text is \"" + text + "\", not like <0x0A>");
        }
    }

    private void arrayOf(String key, int least, GgufValueType type, GgufValueType other) {
        if (!metadata.contains(key)) {
            return;
        }
        var element = metadata.elementType(key).orElseThrow(() -> error("has " + key + " as a single value; an array is needed"));
        if (element != type && element != other) {
            throw error("has " + key + " as an array of " + element.label() + "; " + type.label() + " is needed");
        }
        int length = metadata.arrayLength(key).get();
        if (length < least) {
            throw error("has " + length + " elements in " + key + " for " + least + " tokens");
        }
    }

    private void shape() {
        architecture();
        long layers = required("block_count", 1, MAX_LAYERS);
        required("context_length", 1, Integer.MAX_VALUE);
        long width = required("embedding_length", 1, Integer.MAX_VALUE);
        // heads alone, without a block of the model itself, predict nothing
        optional("nextn_predict_layers", 0, layers - 1);
        optional("vocab_size", 1, Integer.MAX_VALUE);
        optional("pooling_type", 0, 4);
        experts(layers);

        var heads = perLayer("attention.head_count", layers);
        var keyValueHeads = perLayer("attention.head_count_kv", layers);
        for (int i = 0; i < layers; i++) {
            long h = heads == null ? 0 : heads[i];
            long kv = keyValueHeads == null ? h : keyValueHeads[i];
            if (h < 0 || kv < 0 || h > 1 << 16 || kv > 1 << 16 || kv > 0 && h % kv != 0) {
                throw error("has " + h + " attention heads over " + kv + " key-value heads in layer " + i
                        + "; the first must be a multiple");
            }
        }
        if (HEADS_NEEDED.contains(architecture) && (heads == null || heads[0] == 0)) {
            throw error("has no attention heads (" + architecture + ".attention.head_count)");
        }
        if (heads != null && heads[0] > 0) {
            long keys = headSize("attention.key_length", width / heads[0]);
            headSize("attention.value_length", width / heads[0]);
            if (metadata.contains(architecture + ".attention.key_length_mla")) {
                rotation("rope.dimension_count", required("attention.key_length_mla", 2, 1 << 16));
            } else {
                rotation("rope.dimension_count", keys);
                if (metadata.contains(architecture + ".attention.key_length_swa")) {
                    keys = headSize("attention.key_length_swa", keys);
                }
                rotation("rope.dimension_count_swa", keys);
                sections(keys);
            }
        }
        epsilon("attention.layer_norm_rms_epsilon");
        epsilon("attention.layer_norm_epsilon");
        epsilon("attention.group_norm_epsilon");
        finite("rope.freq_base");
        finite("rope.scaling.factor");
        var scaling = text("rope.scaling.type");
        if (scaling != null && !ROPE_SCALINGS.contains(scaling)) {
            throw error("has " + architecture + ".rope.scaling.type \"" + scaling + "\"; known are "
                    + ROPE_SCALINGS.stream().sorted().toList());
        }
        // upstream divides by these
        optional("full_attention_interval", 1, Integer.MAX_VALUE);
        optional("attention.output_group_count", 1, 1 << 16);
        optional("wkv.head_size", 1, width);
        if (!architecture.equals("llama4")) { // 0 is a dense one there
            optional("interleave_moe_layer_step", 1, Integer.MAX_VALUE);
        }
        if (metadata.contains(architecture + ".ssm.inner_size")) {
            long inner = required("ssm.inner_size", 1, Integer.MAX_VALUE);
            optional("ssm.conv_kernel", 1, 1 << 16);
            optional("ssm.state_size", 1, 1 << 20);
            optional("ssm.time_step_rank", 1, inner);
            long groups = optional("ssm.group_count", architecture.equals("plamo2") ? 0 : 1, inner);
            if (groups > 0 && inner % groups != 0) {
                throw error("has " + inner + " as ssm.inner_size for " + groups + " groups");
            }
        }
    }

    /** Blocks without a table of relative positions read the first one's, which upstream takes for granted. */
    private void relativePositions(List<GgufFile> parts) {
        var needed = switch (architecture) {
            case "t5" -> List.of("enc.blk.0.attn_rel_b.weight", "dec.blk.0.attn_rel_b.weight");
            case "t5encoder" -> List.of("enc.blk.0.attn_rel_b.weight");
            default -> List.<String>of();
        };
        for (var name : needed) {
            if (parts.stream().noneMatch(part -> part.tensor(name).isPresent())) {
                throw error("has no \"" + name + "\", which " + architecture + " needs");
            }
        }
    }

    private void experts(long layers) {
        long experts = optional("expert_count", 0, MAX_EXPERTS);
        var usedKey = architecture + ".expert_used_count";
        optional("experts_per_group", 1, Math.max(1, experts));
        long used = 0;
        if (metadata.elementType(usedKey).isPresent()) {
            for (long value : metadata.integers(usedKey).get()) {
                used = Math.max(used, value);
            }
        } else {
            used = optional("expert_used_count", 0, MAX_EXPERTS);
        }
        boolean merges = architecture.startsWith("hunyuan") && experts <= 1;
        if (!merges && (used > experts || experts > 0 && used == 0)) {
            throw error("uses " + used + " of " + experts + " experts (expert_used_count, expert_count)");
        }
        var each = perLayer("expert_used_count", layers);
        if (EXPERTS_NEEDED.contains(architecture) && (experts == 0 || each == null || each[0] == 0)) {
            throw error("uses no experts (" + usedKey + ")");
        }
        long groups = optional("expert_group_count", 0, MAX_EXPERTS);
        long groupsUsed = optional("expert_group_used_count", 0, MAX_EXPERTS);
        if (groups > 0 && (groups >= experts || experts % groups != 0) || groups > 1 && (groupsUsed == 0 || groupsUsed >= groups)) {
            throw error("has " + groups + " groups of " + experts + " experts and uses " + groupsUsed + " groups");
        }
    }

    private long headSize(String key, long fallback) {
        long size = metadata.contains(architecture + "." + key) ? required(key, 1, 1 << 16) : fallback;
        if (size < 1) {
            throw error("has more attention heads than elements in an embedding");
        }
        return size;
    }

    /**
     * The rotated part of a key, the whole key where the file says nothing. The kernel asserts that it is made of pairs, and never ends
     * where it is nothing (ggml-cpu/ops.cpp, rope_flt).
     */
    private void rotation(String key, long keys) {
        long size = metadata.contains(architecture + "." + key) ? required(key, 1, keys) : keys;
        if (size % 2 != 0) {
            throw error("rotates " + size + " elements of a key (" + architecture + "." + key + "); an even number is needed");
        }
    }

    /** The kernel divides by the sum of the sections, and asserts what is checked here on a thread that nothing can be thrown on. */
    private void sections(long keys) {
        var key = "rope.dimension_sections";
        var sections = perLayer(key, 4);
        if (sections == null) {
            if (SECTIONS_NEEDED.contains(architecture)) {
                throw error("has no " + architecture + "." + key);
            }
            return;
        }
        long sum = 0;
        for (long section : sections) {
            if (section < 0 || section > keys) {
                throw error("has a section of " + section + " in " + architecture + "." + key + "; 0 to " + keys + " is valid");
            }
            sum += section;
        }
        if (sum > keys || SECTIONS_NEEDED.contains(architecture) && sum == sections[3]) {
            throw error("has " + Arrays.toString(sections) + " as " + architecture + "." + key + " of keys of " + keys + " elements");
        }
    }

    private void tensor(GgufFile part, GgufTensor tensor) {
        var name = tensor.name();
        // norms, biases, factors: kernels take them as they are. Lookup tables of integers are no operands
        boolean vector = tensor.shape().size() == 1 && (!INTEGERS.contains(tensor.type()) || name.endsWith(".weight")
                || name.endsWith(".bias"));
        if ((vector || ELEMENTWISE.matcher(name).find()) && tensor.type() != GgmlType.F32) {
            throw new ModelLoadException(part.path() + " has \"" + name + "\" as " + tensor.type().label()
                    + "; vectors and what is not multiplied as a matrix must be f32");
        }
        if (name.contains("tid2eid")) {
            experts(part, tensor);
        }
        if (name.endsWith(".weight") && tensor.shape().size() > 1 && NO_WEIGHTS.contains(tensor.type()) && !name.contains("tid2eid")) {
            throw new ModelLoadException(part.path() + " has \"" + name + "\" as " + tensor.type().label()
                    + ", which is no type for weights");
        }
    }

    /** Experts by token, which the kernel takes as indices and asserts on a thread that nothing can be thrown on. */
    private void experts(GgufFile part, GgufTensor tensor) {
        if (tensor.type() != GgmlType.I32) {
            throw new ModelLoadException(part.path() + " has \"" + tensor.name() + "\" as " + tensor.type().label() + "; i32 is needed");
        }
        long experts = optional("expert_count", 0, MAX_EXPERTS);
        try (var arena = Arena.ofConfined()) {
            var ids = part.map(tensor, arena);
            for (long at = 0; at < ids.byteSize(); at += Integer.BYTES) {
                int id = ids.get(ID, at);
                if (id < 0 || id >= experts) {
                    throw new ModelLoadException(part.path() + " has expert " + id + " of " + experts + " in \"" + tensor.name() + "\"");
                }
            }
        }
    }

    private long required(String key, long least, long most) {
        if (!metadata.contains(architecture + "." + key)) {
            throw error("has no " + architecture + "." + key);
        }
        return within(key, least, most);
    }

    /** The value, 0 where the key is absent or has a value for each layer. */
    private long optional(String key, long least, long most) {
        var full = architecture + "." + key;
        return metadata.contains(full) && metadata.elementType(full).isEmpty() ? within(key, least, most) : 0;
    }

    private long within(String key, long least, long most) {
        var full = architecture + "." + key;
        long value = metadata.integer(full).getAsLong();
        if (value < least || value > most) {
            throw error("has " + full + " " + value + "; " + least + " to " + most + " is valid");
        }
        return value;
    }

    /** A single value stands for all layers; null where the key is absent. */
    private long[] perLayer(String key, long layers) {
        var full = architecture + "." + key;
        if (!metadata.contains(full)) {
            return null;
        }
        var values = new long[(int) layers];
        if (metadata.elementType(full).isEmpty()) {
            Arrays.fill(values, metadata.integer(full).getAsLong());
            return values;
        }
        var array = metadata.integers(full).get();
        if (array.length < layers) {
            throw error("has " + array.length + " elements in " + full + "; " + layers + " are needed");
        }
        System.arraycopy(array, 0, values, 0, values.length);
        return values;
    }

    private void epsilon(String key) {
        var value = metadata.number(architecture + "." + key);
        if (value.isPresent() && !(value.getAsDouble() >= 0 && value.getAsDouble() < 1)) {
            throw error("has " + architecture + "." + key + " " + value.getAsDouble() + "; a small positive number is needed");
        }
    }

    private void finite(String key) {
        var value = metadata.number(architecture + "." + key);
        if (value.isPresent() && !(Double.isFinite(value.getAsDouble()) && value.getAsDouble() >= 0)) {
            throw error("has " + architecture + "." + key + " " + value.getAsDouble() + "; a positive number is needed");
        }
    }

    private String text(String key) {
        return metadata.string(architecture + "." + key).orElse(null);
    }

    private ModelLoadException error(String message) {
        return new ModelLoadException(file.path() + " " + message);
    }
}
