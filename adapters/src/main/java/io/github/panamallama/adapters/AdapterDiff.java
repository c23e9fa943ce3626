package io.github.panamallama.adapters;

import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.Dequantizer;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.TreeMap;
import java.util.regex.Pattern;
import java.util.stream.LongStream;

/**
 * How much an adapter changes each matrix of a model: the Frobenius norm of its update, {@code scale * (alpha / rank) * B A}, and, where
 * the model is at hand, that norm relative to the norm of the matrix itself.
 *
 * @param adapter  the adapter's name
 * @param scale    how often the adapter counts
 * @param matrices in the adapter's order
 */
public record AdapterDiff(String adapter, float scale, List<Matrix> matrices) {
    /**
     * One adapted matrix, or one expert matrix of several slices.
     *
     * @param name     for instance {@code blk.3.attn_q.weight}
     * @param rank     of the update
     * @param norm     Frobenius norm of the update
     * @param baseNorm Frobenius norm of the matrix, empty without a model
     */
    public record Matrix(String name, int rank, double norm, OptionalDouble baseNorm) {
        private static final Pattern NAME = Pattern.compile("blk\\.(\\d{1,9})\\.(.+)");

        /** The block that the matrix is of; empty for embeddings and the output. */
        public OptionalInt layer() {
            var parts = NAME.matcher(name);
            return parts.matches() ? OptionalInt.of(Integer.parseInt(parts.group(1))) : OptionalInt.empty();
        }

        /** What the matrix is for, the same in every layer: for instance {@code attn_q}. */
        public String kind() {
            var parts = NAME.matcher(name);
            var kind = parts.matches() ? parts.group(2) : name;
            return kind.endsWith(".weight") ? kind.substring(0, kind.length() - ".weight".length()) : kind;
        }

        /** {@code norm / baseNorm}; empty without a model or for a matrix of zeros. */
        public OptionalDouble relative() {
            return AdapterDiff.relative(norm, baseNorm);
        }
    }

    /**
     * The adapted matrices of one block together.
     *
     * @param layer    empty for matrices outside of the blocks
     * @param matrices how many
     * @param norm     root of the sum of squares of their updates' norms
     * @param baseNorm likewise of the matrices, empty without a model
     */
    public record Layer(OptionalInt layer, int matrices, double norm, OptionalDouble baseNorm) {
        /** {@code norm / baseNorm}; empty without a model or for matrices of zeros. */
        public OptionalDouble relative() {
            return AdapterDiff.relative(norm, baseNorm);
        }
    }

    /** Elements that are converted at once. */
    private static final int CHUNK = 1 << 16;

    public AdapterDiff {
        matrices = List.copyOf(matrices);
    }

    /**
     * The norms of an adapter's updates.
     *
     * @throws AdapterException if the scale isn't finite
     */
    public static AdapterDiff of(LoraWeights adapter, float scale) {
        return of(adapter, scale, List.of());
    }

    /**
     * The norms of an adapter's updates, beside those of the matrices of a model, which are read once.
     *
     * @param base the parts of the model, as {@link GgufFile#readParts} gives them
     * @throws AdapterException if the scale isn't finite, the adapter isn't for this model, or a matrix is of a type that can't be
     *                          converted
     */
    public static AdapterDiff of(LoraWeights adapter, float scale, List<GgufFile> base) {
        if (!Float.isFinite(scale)) {
            throw new AdapterException("the scale of \"" + adapter.name() + "\" is " + scale + "; it must be finite");
        }
        if (!base.isEmpty()) {
            adapter.check(base);
        }
        var matrices = new ArrayList<Matrix>();
        for (var target : adapter.targets()) {
            double norm = LoraArithmetic.norm(target, (double) scale * target.scale(adapter.alpha()));
            var baseNorm = base.stream().flatMap(part -> part.tensor(target.name()).stream().map(tensor -> norm(part, tensor)))
                    .mapToDouble(value -> value).findFirst();
            matrices.add(new Matrix(target.name(), target.rank(), norm, baseNorm));
        }
        return new AdapterDiff(adapter.name(), scale, matrices);
    }

    /** The layers in order, and last what is outside of them. */
    public List<Layer> layers() {
        var byLayer = new TreeMap<Integer, List<Matrix>>();
        matrices.forEach(matrix -> byLayer.computeIfAbsent(matrix.layer().orElse(Integer.MAX_VALUE), layer -> new ArrayList<>())
                .add(matrix));
        return byLayer.values().stream().map(AdapterDiff::together).toList();
    }

    /** All adapted matrices together. */
    public Layer total() {
        var sum = together(matrices);
        return new Layer(OptionalInt.empty(), sum.matrices, sum.norm, sum.baseNorm);
    }

    private static Layer together(List<Matrix> matrices) {
        double norm = Math.sqrt(matrices.stream().mapToDouble(matrix -> matrix.norm * matrix.norm).sum());
        boolean known = matrices.stream().allMatch(matrix -> matrix.baseNorm.isPresent());
        double base = Math.sqrt(matrices.stream().mapToDouble(matrix -> Math.pow(matrix.baseNorm.orElse(0), 2)).sum());
        return new Layer(matrices.getFirst().layer(), matrices.size(), norm, known ? OptionalDouble.of(base) : OptionalDouble.empty());
    }

    private static OptionalDouble relative(double norm, OptionalDouble base) {
        return base.isPresent() && base.getAsDouble() > 0 ? OptionalDouble.of(norm / base.getAsDouble()) : OptionalDouble.empty();
    }

    private static double norm(GgufFile file, GgufTensor tensor) {
        var type = tensor.type();
        if (!Dequantizer.supports(type)) {
            throw new AdapterException("\"" + tensor.name() + "\" in " + file.path() + " is of type " + type.label()
                    + ", which can't be converted to floats; compare with a model in f16 or another type");
        }
        long count = tensor.elementCount();
        try (var arena = Arena.ofShared()) {
            var data = file.map(tensor, arena);
            // every block size divides CHUNK; a parallel sum of doubles may differ in its last bits from run to run
            return Math.sqrt(LongStream.range(0, Math.ceilDiv(count, CHUNK)).parallel().mapToDouble(chunk -> {
                var values = new float[(int) Math.min(CHUNK, count - chunk * CHUNK)];
                Dequantizer.toFloats(type, data.asSlice(type.bytes(chunk * CHUNK)), values, values.length);
                double squares = 0;
                for (float value : values) {
                    squares += (double) value * value;
                }
                return squares;
            }).sum());
        }
    }
}
