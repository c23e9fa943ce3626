package io.github.panamallama.runtime;

import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.regex.Pattern;

/**
 * Models some of whose parts add nothing: what a plan leaves out, done with weights. All blocks run in them, in their places and with their
 * cache, so that this holds for any architecture which adds its parts to a residual.
 */
final class Neutralised {
    private static final Pattern LAST = Pattern.compile(
            "blk\\.(\\d+)\\.(?:(attn_output|post_attention_norm)|ffn_down|ffn_down_exps|post_ffw_norm)\\.(?:weight|bias)");

    private Neutralised() {
    }

    /** Copies a model to {@code out} with zeros in what ends each part that {@code plan}, which repeats nothing, leaves out. */
    static void write(Path in, Path out, LayerPlan plan) {
        var file = GgufFile.read(in);
        var writer = new GgufWriter().putAll(file.metadata());
        try (var arena = Arena.ofConfined()) {
            for (var tensor : file.tensors()) {
                var name = LAST.matcher(tensor.name());
                boolean zero = false;
                if (name.matches()) {
                    int block = Integer.parseInt(name.group(1));
                    // a head for multi-token prediction stands behind the blocks
                    zero = block < plan.blocks() && !(name.group(2) == null ? plan.feedForward(block) : plan.attention(block));
                }
                var data = file.map(tensor, arena);
                var written = zero ? arena.allocate(data.byteSize()) : data;
                writer.tensor(tensor.name(), tensor.type(), tensor.shape(), output -> output.write(written));
            }
            writer.write(out);
        }
    }
}
