package io.github.panamallama.runtime;

import io.github.panamallama.runtime.gguf.GgufFile;
import java.util.List;
import java.util.Set;

/** Which files carry heads for multi-token prediction (MTP) that the pinned llama.cpp can evaluate. */
final class MtpHeads {
    /** Architectures with a graph for LLM_GRAPH_TYPE_DECODER_MTP (src/models); others keep such layers and never use them. */
    static final Set<String> ARCHITECTURES = Set.of("bailingmoe3", "cohere2moe", "deepseek2", "deepseek32", "deepseek4", "glm-dsa",
            "glm4moe", "hy_v3", "mimo2", "nemotron_h_moe", "qwen35", "qwen35moe", "qwen3next", "step35");

    private MtpHeads() {
    }

    /** How many a model has; 0 also for those that can't be evaluated. */
    static int count(List<GgufFile> parts) {
        return missing(parts) == null ? declared(parts.getFirst()) : 0;
    }

    /** Refuses a model without such a head. */
    static void require(List<GgufFile> parts) {
        var missing = missing(parts);
        if (missing != null) {
            throw new ModelLoadException(parts.getFirst().path() + " has no head for multi-token prediction (MTP): " + missing
                    + "; load it without ModelOptions.withMtp and draft with a small model");
        }
    }

    /** What is missing, null if nothing is. */
    private static String missing(List<GgufFile> parts) {
        var metadata = parts.getFirst().metadata();
        var architecture = metadata.string("general.architecture").orElse("");
        int heads = declared(parts.getFirst());
        if (heads <= 0) {
            return architecture + ".nextn_predict_layers says 0 or nothing";
        }
        if (!ARCHITECTURES.contains(architecture)) {
            return "llama.cpp doesn't evaluate those of the architecture " + architecture;
        }
        long first = metadata.integer(architecture + ".block_count").orElse(0) - heads;
        var projection = "blk." + first + ".nextn.eh_proj.weight";
        if (parts.stream().allMatch(part -> part.tensor(projection).isEmpty())) {
            return "the tensor " + projection + " was left out of the file";
        }
        return null;
    }

    private static int declared(GgufFile file) {
        var metadata = file.metadata();
        return (int) Math.clamp(
                metadata.integer(metadata.string("general.architecture").orElse("") + ".nextn_predict_layers").orElse(0), 0, 512);
    }
}
