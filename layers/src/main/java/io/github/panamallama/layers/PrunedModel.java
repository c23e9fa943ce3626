package io.github.panamallama.layers;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.IntStream;

/**
 * Writes a model without the blocks that a plan leaves out: a smaller file that any llama.cpp loads, and that computes what the model
 * computes under the plan. Tensors are copied bit for bit, one at a time. Those of later blocks are renumbered, and metadata with one value
 * per block lose those of the blocks that are gone. Parts of a split model become one file.
 *
 * <p>Only for architectures whose blocks do the same at any place. Where llama.cpp tells blocks apart by their number, as in models
 * whose every n-th block attends to a sliding window, a renumbered block would become another one.
 */
public final class PrunedModel {
    /** Metadata of a pruned model: the plan, for the blocks of the model it came from. */
    public static final String PLAN = "general.layer_plan";

    /** As read in the pinned llama.cpp's src/models: neither these blocks' weights nor what they compute depends on their number. */
    private static final Set<String> UNIFORM = Set.of("llama", "qwen", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "gpt2", "gptneox", "phi2",
            "starcoder", "starcoder2", "stablelm", "internlm2", "olmo", "olmoe", "falcon", "mpt", "bloom", "orion", "xverse", "command-r",
            "nemotron", "seed_oss", "hunyuan-dense", "codeshell", "refact", "bitnet");

    /** Metadata of one architecture that may be one value for all blocks or an array of one per block ({@code get_key_or_arr}). */
    private static final List<String> PER_BLOCK = List.of("feed_forward_length", "expert_feed_forward_length", "expert_used_count",
            "attention.head_count", "attention.head_count_kv");

    private static final Pattern BLOCK = Pattern.compile("blk\\.(\\d+)\\.(.+)");

    private PrunedModel() {
    }

    /**
     * Writes {@code out}. It appears under its name only when it is complete.
     *
     * @param model a GGUF file; of a split model the first part
     * @param plan  that leaves out whole blocks, at least one, and keeps at least one
     * @throws io.github.panamallama.runtime.gguf.GgufException if the model is missing or broken, or {@code out} can't be written
     * @throws LayerPlanException if the plan is for another number of blocks, leaves out none or all, repeats blocks or runs some in part,
     *                            or the model's blocks aren't alike
     * @throws LlamaException     if {@code out} exists
     */
    public static void write(Path model, LayerPlan plan, Path out) {
        var parts = GgufFile.readParts(model);
        var metadata = parts.getFirst().metadata();
        var architecture = metadata.string("general.architecture").orElseThrow(() ->
                new LayerPlanException(model + ": general.architecture is missing; it is no model"));
        if (!UNIFORM.contains(architecture)) {
            throw new LayerPlanException(model + ": blocks of " + architecture
                    + " may depend on their number, which changes when others are removed; run the model under the plan instead");
        }
        var count = architecture + ".block_count";
        long blocks = metadata.integer(count).orElseThrow(() ->
                new LayerPlanException(model + ": " + count + " is missing; it is no model"));
        int[] kept = kept(model, plan, blocks);
        if (Files.exists(out)) {
            throw new LlamaException(out + " exists; name another file");
        }

        var writer = new GgufWriter();
        for (var key : metadata.keys()) {
            if (!key.startsWith("split.")) {
                writer.put(key, metadata);
            }
        }
        writer.putU32(count, kept.length).put(PLAN, plan.toString());
        for (var name : PER_BLOCK) {
            var key = architecture + "." + name;
            var length = metadata.arrayLength(key);
            if (length.isPresent()) {
                if (length.get() != blocks) {
                    throw new LayerPlanException(model + ": " + key + " has " + length.get() + " elements; the model has " + blocks
                            + " blocks");
                }
                writer.putElements(key, metadata, kept);
            }
        }
        for (var part : parts) {
            for (var tensor : part.tensors()) {
                var name = renamed(tensor.name(), kept);
                if (name != null) {
                    writer.tensor(name, tensor.type(), tensor.shape(), to -> copy(part, tensor, to));
                }
            }
        }
        writer.write(out);
    }

    private static int[] kept(Path model, LayerPlan plan, long blocks) {
        if (plan.blocks() != blocks) {
            throw new LayerPlanException("the plan is for " + plan.blocks() + " blocks; " + model + " has " + blocks);
        }
        for (int block = 0; block < blocks; block++) {
            boolean gone = !plan.attention(block) && !plan.feedForward(block) && !plan.cached(block);
            if (plan.runs(block) != 1 && !gone) {
                throw new LayerPlanException("block " + block + " of the plan " + plan + " is "
                        + (plan.runs(block) > 1 ? "repeated" : "run in part") + "; a file can only lack whole blocks");
            }
        }
        int[] kept = IntStream.range(0, plan.blocks()).filter(block -> plan.runs(block) == 1).toArray();
        if (kept.length == 0 || kept.length == blocks) {
            throw new LayerPlanException(kept.length == 0 ? "the plan keeps no block of " + model
                    : "the plan leaves out no block of " + model + "; there is nothing to remove");
        }
        return kept;
    }

    /** The name in the pruned file, null for a tensor that it lacks. */
    private static String renamed(String name, int[] kept) {
        var match = BLOCK.matcher(name);
        if (!match.matches()) {
            return name;
        }
        for (int i = 0; i < kept.length; i++) {
            if (match.group(1).equals(Integer.toString(kept[i]))) {
                return "blk." + i + "." + match.group(2);
            }
        }
        return null;
    }

    private static void copy(GgufFile part, GgufTensor tensor, GgufWriter.Output to) throws IOException {
        try (var arena = Arena.ofConfined()) {
            to.write(part.map(tensor, arena));
        }
    }
}
