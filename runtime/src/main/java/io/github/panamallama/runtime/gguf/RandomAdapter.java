package io.github.panamallama.runtime.gguf;

import java.nio.file.Path;
import java.util.List;
import java.util.regex.Pattern;

/**
 * LoRA adapters with random weights for any model: as large and as fast as trained ones of their rank, which is what benchmarks need,
 * and strong enough to change what is written, which is what tests need. The same values for the same model give the same file, byte
 * for byte.
 *
 * <p>Adapted are all projections of the attention, feed-forward and state-space blocks.
 *
 * @param rank     of every matrix, at least 1
 * @param strength standard deviation of what is added to an output, for inputs of standard deviation 1; finite, above 0
 * @param type     F32, F16 or BF16
 * @param seed     of all weights
 */
public record RandomAdapter(int rank, double strength, GgmlType type, long seed) {
    private static final Pattern PROJECTION =
            Pattern.compile("blk\\.\\d+\\.(attn_(q|k|v|output)|ffn_(gate|up|down)(_exps)?|ssm_(in|out))\\.weight");

    public RandomAdapter {
        if (rank < 1) {
            throw new IllegalArgumentException("rank is " + rank + "; it must be at least 1");
        }
        if (!(strength > 0) || !Double.isFinite(strength)) {
            throw new IllegalArgumentException("strength is " + strength + "; it must be finite and above 0");
        }
        if (type != GgmlType.F32 && type != GgmlType.F16 && type != GgmlType.BF16) {
            throw new IllegalArgumentException("no random adapters of type " + type.label() + "; F32, F16 and BF16 are possible");
        }
    }

    /** Rank 8, F32, and about as strong as a random model's own matrices, so that it is seen in any text. */
    public static RandomAdapter of(long seed) {
        return new RandomAdapter(8, 1, GgmlType.F32, seed);
    }

    /**
     * Writes the adapter, named after its file.
     *
     * @param base header of the model that is adapted
     * @return {@code path}
     * @throws IllegalArgumentException if the model has none of the projections
     * @throws GgufException            if the file can't be written
     */
    public Path write(GgufFile base, Path path) {
        var architecture = base.metadata().string("general.architecture").orElseThrow();
        var name = path.getFileName().toString();
        var writer = new GgufWriter()
                .put("general.architecture", architecture)
                .put("general.type", "adapter")
                .put("general.name", name.endsWith(".gguf") ? name.substring(0, name.length() - 5) : name)
                .put("adapter.type", "lora")
                .putF32("adapter.lora.alpha", rank);
        int adapted = 0;
        for (var tensor : base.tensors()) {
            if (PROJECTION.matcher(tensor.name()).matches()) {
                long experts = tensor.shape().size() > 2 ? tensor.shape().get(2) : 1;
                long inputs = tensor.shape().get(0);
                half(writer, tensor.name() + ".lora_a", inputs, rank, experts, 1 / Math.sqrt(inputs));
                half(writer, tensor.name() + ".lora_b", rank, tensor.shape().get(1), experts, strength / Math.sqrt(rank));
                adapted++;
            }
        }
        if (adapted == 0) {
            throw new IllegalArgumentException(base.path() + " (" + architecture + ") has no projections to adapt");
        }
        writer.write(path);
        return path;
    }

    private void half(GgufWriter writer, String name, long columns, long rows, long experts, double deviation) {
        var shape = experts == 1 ? List.of(columns, rows) : List.of(columns, rows, experts);
        long own = seed ^ name.hashCode();
        writer.tensor(name, type, shape, out -> RandomWeights.write(type, columns * rows * experts, deviation, own, out));
    }
}
