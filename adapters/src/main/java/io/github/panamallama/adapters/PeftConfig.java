package io.github.panamallama.adapters;

import io.github.panamallama.runtime.AdapterException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;
import tools.jackson.databind.JsonNode;

/**
 * What an {@code adapter_config.json} of Hugging Face PEFT says about a LoRA. Every field is honoured, known to change nothing in the
 * saved weights, or refused by name unless it is null, false or empty: a field that this version doesn't know may change what the
 * weights mean.
 *
 * <p>Source: PEFT's documentation of LoraConfig.
 */
final class PeftConfig {
    /**
     * Fields that steer training or say where things come from. Those that choose modules and layers are among them: the file has
     * weights for exactly the chosen ones. {@code fan_in_fan_out} says that the base stores a weight transposed (GPT-2's Conv1D);
     * A and B have the same shapes then, and GGUF stores the weight the usual way round.
     */
    private static final Set<String> WITHOUT_EFFECT = Set.of("task_type", "inference_mode", "revision", "auto_mapping", "peft_version",
            "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out", "megatron_core",
            "loftq_config", "eva_config", "corda_config", "runtime_config", "qalora_group_size", "base_model_name_or_path");

    private static final Set<String> HONOURED = Set.of("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern",
            "bias", "init_lora_weights", "alora_invocation_tokens");

    /** Initialisations that leave the base model's weights as they are. */
    private static final Set<String> PLAIN_STARTS = Set.of("gaussian", "eva", "orthogonal");

    private static final String MERGE = "; merge it into the model with PEFT (merge_and_unload) and convert the model";

    private static final Map<String, String> REASONS = Map.ofEntries(
            Map.entry("use_dora", "DoRA scales each row of W + B*A to a learned length, which no low-rank addition expresses" + MERGE),
            Map.entry("modules_to_save", "whole modules were trained beside the adapter and can't be applied per request" + MERGE),
            Map.entry("lora_bias", "the adapter has biases, which can't be applied per request" + MERGE),
            Map.entry("trainable_token_indices", "rows of the embeddings were trained as a whole" + MERGE),
            Map.entry("target_parameters", "it adapts bare parameters (fused experts) whose layout isn't known here" + MERGE),
            Map.entry("layer_replication", "it is for a model with repeated layers, which the base isn't" + MERGE),
            Map.entry("use_qalora", "its A works on groups of inputs of a quantised base" + MERGE),
            Map.entry("megatron_config", "its weights are laid out for Megatron's parallel layers; export it for transformers first"),
            Map.entry("ensure_weight_tying", "embeddings and head share one adapter, which isn't possible here" + MERGE),
            Map.entry("invocation_string", "it has to be tokens; set alora_invocation_tokens to its ids and remove it"));

    private final Path path;
    private final JsonNode node;

    /** Read and checked; throws AdapterException. */
    PeftConfig(Path path) {
        this.path = path;
        this.node = JsonFiles.read(path);
        var type = node.path("peft_type").asString("");
        if (!type.equals("LORA")) {
            throw refused("peft_type is \"" + type + "\"; only LORA can be converted");
        }
        var bias = node.path("bias").asString("none");
        if (!bias.equals("none")) {
            throw refused("bias is \"" + bias + "\": biases of the model were trained, which can't be applied per request" + MERGE);
        }
        var start = node.path("init_lora_weights");
        if (start.isString() && !PLAIN_STARTS.contains(start.asString())) {
            throw refused("init_lora_weights is " + start
                    + ": that changes the base model's weights, so the adapter doesn't fit the original; "
                    + "save it with path_initial_model_for_weight_conversion");
        }
        for (var field : node.properties()) {
            var name = field.getKey();
            if (!HONOURED.contains(name) && !WITHOUT_EFFECT.contains(name) && !isUnset(field.getValue())) {
                throw refused(name + " is " + field.getValue() + ": " + REASONS.getOrDefault(name,
                        "this field isn't known here and may change what the weights mean; remove it if it doesn't"));
            }
        }
        rank("");
        scale("");
    }

    private static boolean isUnset(JsonNode value) {
        return value.isNull() || value.isBoolean() && !value.asBoolean() || value.isContainer() && value.isEmpty()
                || value.isString() && value.asString().isEmpty();
    }

    /** The rank of the module of this path. */
    int rank(String module) {
        var value = forModule("rank_pattern", "r", module);
        if (!value.isInt() || value.asInt() < 1) {
            throw refused((module.isEmpty() ? "r" : "the rank of \"" + module + "\"") + " is " + shown(value)
                    + "; a whole number of at least 1 is needed");
        }
        return value.asInt();
    }

    /** What PEFT multiplies B * A of this module with. */
    double scale(String module) {
        var value = forModule("alpha_pattern", "lora_alpha", module);
        double alpha = value.isNumber() ? value.asDouble() : Double.NaN;
        if (!Double.isFinite(alpha) || alpha <= 0) {
            throw refused((module.isEmpty() ? "lora_alpha" : "alpha of \"" + module + "\"") + " is " + shown(value)
                    + "; a positive number is needed, or the adapter would do nothing");
        }
        int rank = rank(module);
        return usesRankStabilisation() ? alpha / Math.sqrt(rank) : alpha / rank;
    }

    /** The alpha with which {@code alpha / rank} is the scale of modules without patterns. */
    float alpha() {
        return (float) (scale("") * rank(""));
    }

    private boolean usesRankStabilisation() {
        var value = node.path("use_rslora");
        if (!value.isMissingNode() && !value.isNull() && !value.isBoolean()) {
            throw refused("use_rslora is " + value + "; it must be true or false");
        }
        return value.asBoolean(false);
    }

    /** Tokens from which on an activated LoRA acts; empty for others. */
    int[] invocationTokens() {
        var value = node.path("alora_invocation_tokens");
        if (value.isMissingNode() || value.isNull()) {
            return new int[0];
        }
        var tokens = new int[value.size()];
        for (int i = 0; i < tokens.length; i++) {
            if (!value.isArray() || !value.get(i).isInt() || value.get(i).asInt() < 0) {
                throw refused("alora_invocation_tokens is " + value + "; a list of token ids is needed");
            }
            tokens[i] = value.get(i).asInt();
        }
        return tokens;
    }

    /** Metadata that says where the adapter comes from. */
    Map<String, Object> origin() {
        var metadata = new LinkedHashMap<String, Object>();
        var base = node.path("base_model_name_or_path").asString("");
        if (!base.isEmpty()) {
            metadata.put("general.base_model.count", 1L);
            metadata.put("general.base_model.0.name", base);
        }
        return metadata;
    }

    /** The value of the first pattern that matches the whole module path or what follows one of its points. */
    private JsonNode forModule(String patterns, String otherwise, String module) {
        if (!module.isEmpty()) {
            for (var entry : node.path(patterns).properties()) {
                try {
                    if (Pattern.compile("(?:.*\\.)?(?:" + entry.getKey() + ")").matcher(module).matches()) {
                        return entry.getValue();
                    }
                } catch (PatternSyntaxException | StackOverflowError e) {    // java.util.regex recurses over pattern and text
                    var pattern = entry.getKey().length() <= 100 ? entry.getKey() : entry.getKey().substring(0, 100) + "...";
                    throw new AdapterException(path + ": \"" + pattern + "\" in " + patterns
                            + " is no regular expression that can be used", e);
                }
            }
        }
        return node.path(otherwise);
    }

    private static String shown(JsonNode value) {
        return value.isMissingNode() ? "missing" : value.toString();
    }

    private AdapterException refused(String message) {
        return new AdapterException(path + ": " + message);
    }

    /** Why an adapter with this field set is refused. */
    static String reason(String field) {
        return REASONS.get(field);
    }
}
