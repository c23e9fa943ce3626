package io.github.panamallama.runtime;

import io.github.panamallama.runtime.gguf.GgufFile;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * A llama in plain Java, token by token, from the F32 tensors of its file: what a plan means, written down a second time and without a
 * graph. Follows llama2.c's run.c; sums are in double.
 */
final class TinyLlama {
    private final Map<String, float[]> tensors = new HashMap<>();
    private final int blocks;
    private final int width;
    private final int heads;
    private final int keyValueHeads;
    private final int headSize;
    private final double base;
    private final double epsilon;

    TinyLlama(Path path) {
        var file = GgufFile.read(path);
        var metadata = file.metadata();
        blocks = (int) metadata.integer("llama.block_count").orElseThrow();
        width = (int) metadata.integer("llama.embedding_length").orElseThrow();
        heads = (int) metadata.integer("llama.attention.head_count").orElseThrow();
        keyValueHeads = (int) metadata.integer("llama.attention.head_count_kv").orElseThrow();
        headSize = (int) metadata.integer("llama.attention.key_length").orElseThrow();
        base = metadata.number("llama.rope.freq_base").orElseThrow();
        epsilon = metadata.number("llama.attention.layer_norm_rms_epsilon").orElseThrow();
        try (var arena = Arena.ofConfined()) {
            for (var tensor : file.tensors()) {
                tensors.put(tensor.name(), file.map(tensor, arena).toArray(ValueLayout.JAVA_FLOAT_UNALIGNED));
            }
        }
    }

    /** Nothing evaluated yet. */
    History start() {
        return new History();
    }

    /** What is kept of the tokens so far: keys and values by block, by run of the block and by position. */
    final class History {
        /** Of one run of one block; null at positions where it did not run. */
        private final class Kept {
            final List<double[]> keys = new ArrayList<>();
            final List<double[]> values = new ArrayList<>();
        }

        private final Map<List<Integer>, Kept> kept = new HashMap<>();
        private int length;

        /** The logits behind the last of {@code tokens}, all under one plan. */
        float[] append(LayerPlan plan, int... tokens) {
            float[] logits = null;
            for (int token : tokens) {
                logits = append(plan, token);
            }
            return logits;
        }

        private float[] append(LayerPlan plan, int token) {
            var x = new double[width];
            var embeddings = tensors.get("token_embd.weight");
            for (int i = 0; i < width; i++) {
                x[i] = embeddings[token * width + i];
            }
            for (int block = 0; block < blocks; block++) {
                int runs = Math.max(1, plan.runs(block));
                for (int run = 0; run < runs; run++) {
                    if (plan.cached(block)) {
                        keep(block, run, x);
                    }
                    if (plan.attention(block)) {
                        add(x, attention(block, run, x));
                    }
                    if (plan.feedForward(block)) {
                        add(x, feedForward(block, x));
                    }
                }
            }
            length++;
            var output = tensors.getOrDefault("output.weight", embeddings);
            var logits = times(output, norm("output_norm.weight", x));
            var row = new float[logits.length];
            for (int i = 0; i < row.length; i++) {
                row[i] = (float) logits[i];
            }
            return row;
        }

        private void keep(int block, int run, double[] x) {
            var normed = norm("blk." + block + ".attn_norm.weight", x);
            var mine = kept.computeIfAbsent(List.of(block, run), key -> new Kept());
            while (mine.keys.size() < length) {
                mine.keys.add(null);
                mine.values.add(null);
            }
            mine.keys.add(rotated(times(weights(block, "attn_k"), normed)));
            mine.values.add(times(weights(block, "attn_v"), normed));
        }

        private double[] attention(int block, int run, double[] x) {
            var queries = rotated(times(weights(block, "attn_q"), norm("blk." + block + ".attn_norm.weight", x)));
            var mine = kept.get(List.of(block, run));
            var mixed = new double[heads * headSize];
            for (int head = 0; head < heads; head++) {
                int from = head / (heads / keyValueHeads) * headSize;
                var scores = new double[length + 1];
                double largest = Double.NEGATIVE_INFINITY;
                for (int p = 0; p <= length; p++) {
                    scores[p] = Double.NEGATIVE_INFINITY;
                    if (mine.keys.get(p) != null) {
                        double dot = 0;
                        for (int i = 0; i < headSize; i++) {
                            dot += queries[head * headSize + i] * mine.keys.get(p)[from + i];
                        }
                        scores[p] = dot / Math.sqrt(headSize);
                    }
                    largest = Math.max(largest, scores[p]);
                }
                double sum = 0;
                for (int p = 0; p <= length; p++) {
                    scores[p] = Math.exp(scores[p] - largest);
                    sum += scores[p];
                }
                for (int p = 0; p <= length; p++) {
                    for (int i = 0; scores[p] > 0 && i < headSize; i++) {
                        mixed[head * headSize + i] += scores[p] / sum * mine.values.get(p)[from + i];
                    }
                }
            }
            return times(weights(block, "attn_output"), mixed);
        }

        /** Neighbours are pairs, each turned by an angle that grows with the position. */
        private double[] rotated(double[] vector) {
            for (int i = 0; i < vector.length; i += 2) {
                double angle = length * Math.pow(base, -(double) (i % headSize) / headSize);
                double a = vector[i];
                double b = vector[i + 1];
                vector[i] = a * Math.cos(angle) - b * Math.sin(angle);
                vector[i + 1] = a * Math.sin(angle) + b * Math.cos(angle);
            }
            return vector;
        }
    }

    private double[] feedForward(int block, double[] x) {
        var normed = norm("blk." + block + ".ffn_norm.weight", x);
        var gate = times(weights(block, "ffn_gate"), normed);
        var up = times(weights(block, "ffn_up"), normed);
        for (int i = 0; i < up.length; i++) {
            up[i] *= gate[i] / (1 + Math.exp(-gate[i]));
        }
        return times(weights(block, "ffn_down"), up);
    }

    private float[] weights(int block, String name) {
        return tensors.get("blk." + block + "." + name + ".weight");
    }

    private double[] norm(String weight, double[] x) {
        double squares = 0;
        for (double value : x) {
            squares += value * value;
        }
        double scale = 1 / Math.sqrt(squares / x.length + epsilon);
        var factors = tensors.get(weight);
        var normed = new double[x.length];
        for (int i = 0; i < x.length; i++) {
            normed[i] = x[i] * scale * factors[i];
        }
        return normed;
    }

    private static double[] times(float[] matrix, double[] x) {
        var product = new double[matrix.length / x.length];
        for (int row = 0; row < product.length; row++) {
            for (int i = 0; i < x.length; i++) {
                product[row] += matrix[row * x.length + i] * x[i];
            }
        }
        return product;
    }

    private static void add(double[] x, double[] y) {
        for (int i = 0; i < x.length; i++) {
            x[i] += y[i];
        }
    }
}
