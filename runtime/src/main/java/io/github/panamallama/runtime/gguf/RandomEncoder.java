package io.github.panamallama.runtime.gguf;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/**
 * Models with an encoder and random weights, for tests of embeddings, reranking and encoder-decoders; {@link RandomModel} has the decoders.
 * The same values give the same file, byte for byte. The vocabulary is that of a random model.
 *
 * @param architecture   which of llama.cpp's architectures
 * @param layers         blocks of the encoder, and of a decoder where there is one
 * @param width          size of the embedding
 * @param heads          attention heads, a divisor of {@code width}
 * @param feedForward    inner size of the feed-forward blocks
 * @param vocabularySize tokens, at least {@value RandomModel#MIN_VOCABULARY}
 * @param contextLength  context the file claims to be trained on, in tokens
 * @param pooling        what {@code pooling_type} says: 0 none, 1 mean, 2 cls, 3 last, 4 rank; -1 leaves it out
 * @param classes        outputs of a classification head, 0 for none; only BERT can have one
 * @param seed           of all weights
 */
public record RandomEncoder(Architecture architecture, int layers, int width, int heads, int feedForward, int vocabularySize,
        int contextLength, int pooling, int classes, long seed) {

    /** How positions are told, and what follows the encoder. */
    public enum Architecture {
        /** Learned positions. */
        BERT("bert"),
        /** Rotated positions, gated feed-forward blocks. */
        NOMIC_BERT("nomic-bert"),
        /** Biases by distance (ALiBi), gated feed-forward blocks. */
        JINA_BERT_V2("jina-bert-v2"),
        /** Relative positions, and a decoder that attends to the encoder's output. */
        T5("t5"),
        /** The encoder of T5 alone. */
        T5_ENCODER("t5encoder");

        private final String key;

        Architecture(String key) {
            this.key = key;
        }

        /** What {@code general.architecture} says. */
        public String key() {
            return key;
        }

        private boolean isT5() {
            return this == T5 || this == T5_ENCODER;
        }
    }

    /** Distances that T5's relative positions tell from each other. */
    private static final int BUCKETS = 32;
    private static final double BIAS_DEVIATION = 0.1;

    public RandomEncoder {
        if (width % heads != 0 || width / heads % 2 != 0) {
            throw new IllegalArgumentException(heads + " heads do not share " + width + " elements in even parts");
        }
        if (vocabularySize < RandomModel.MIN_VOCABULARY) {
            throw new IllegalArgumentException("vocabularySize is " + vocabularySize + "; it must be at least "
                    + RandomModel.MIN_VOCABULARY);
        }
        if (classes > 0 && architecture != Architecture.BERT) {
            throw new IllegalArgumentException("a random " + architecture.key + " has no classification head");
        }
    }

    /** A model for tests: 3 layers of width 64, 512 tokens, a context of 256, vectors by the mean; about 1 MB. */
    public static RandomEncoder tiny(Architecture architecture) {
        return new RandomEncoder(architecture, 3, 64, 4, 96, 512, 256, architecture.isT5() ? -1 : 1, 0, 1);
    }

    public RandomEncoder withPooling(int pooling) {
        return new RandomEncoder(architecture, layers, width, heads, feedForward, vocabularySize, contextLength, pooling, classes, seed);
    }

    public RandomEncoder withClasses(int classes) {
        return new RandomEncoder(architecture, layers, width, heads, feedForward, vocabularySize, contextLength, pooling, classes, seed);
    }

    public RandomEncoder withSeed(long seed) {
        return new RandomEncoder(architecture, layers, width, heads, feedForward, vocabularySize, contextLength, pooling, classes, seed);
    }

    /** Writes the model, replacing a file that is there. */
    public void write(Path path) {
        writer().write(path);
    }

    /** A writer with this model's metadata and tensors, to which more can be added before it writes. */
    public GgufWriter writer() {
        var out = new GgufWriter();
        metadata(out);
        matrix(out, "token_embd.weight", width, vocabularySize, 1);
        if (architecture.isT5()) {
            t5(out);
        } else {
            bert(out);
        }
        return out;
    }

    private void metadata(GgufWriter out) {
        var key = architecture.key;
        out.put("general.architecture", key)
                .put("general.name", "random " + key + " " + layers + "x" + width)
                .putU32("general.file_type", 0)
                .putU32(key + ".vocab_size", vocabularySize)
                .putU32(key + ".context_length", contextLength)
                .putU32(key + ".embedding_length", width)
                .putU32(key + ".block_count", layers)
                .putU32(key + ".feed_forward_length", feedForward)
                .putU32(key + ".attention.head_count", heads)
                .putF32(key + ".attention.layer_norm" + (architecture.isT5() ? "_rms" : "") + "_epsilon", 1e-6f);
        if (architecture.isT5()) {
            out.putU32(key + ".attention.relative_buckets_count", BUCKETS)
                    .putU32(key + ".attention.key_length", width / heads)
                    .putU32(key + ".attention.value_length", width / heads);
            if (architecture == Architecture.T5) {
                out.putU32(key + ".decoder_start_token_id", 0);
            }
        } else {
            out.put(key + ".attention.causal", false);
        }
        if (pooling >= 0) {
            out.putU32(key + ".pooling_type", pooling);
        }
        if (classes > 1) {
            out.putStrings(key + ".classifier.output_labels",
                    IntStream.range(0, classes).mapToObj(i -> "label " + i).toList());
        }
        RandomVocabulary.write(vocabularySize, out);
        out.put("tokenizer.ggml.add_eos_token", true);
        if (!architecture.isT5()) {
            out.putU32("tokenizer.ggml.token_type_count", 2);
        }
    }

    private void bert(GgufWriter out) {
        matrix(out, "token_types.weight", width, 2, BIAS_DEVIATION);
        if (architecture == Architecture.BERT) {
            matrix(out, "position_embd.weight", width, contextLength, 1);
        }
        norm(out, "token_embd_norm");
        double scale = 1 / Math.sqrt(width);
        if (classes > 0) {
            matrix(out, "cls.weight", width, width, scale);
            vector(out, "cls.bias", width, BIAS_DEVIATION);
            matrix(out, "cls.output.weight", width, classes, scale);
            vector(out, "cls.output.bias", classes, BIAS_DEVIATION);
        }
        boolean gated = architecture != Architecture.BERT;
        boolean biases = architecture != Architecture.NOMIC_BERT;
        for (int i = 0; i < layers; i++) {
            var block = "blk." + i + ".";
            for (var part : List.of("attn_q", "attn_k", "attn_v", "attn_output")) {
                // sharper than a trained model's, so that attention is seen
                matrix(out, block + part + ".weight", width, width, part.equals("attn_q") ? 2 * scale : scale);
                if (biases) {
                    vector(out, block + part + ".bias", width, BIAS_DEVIATION);
                }
            }
            norm(out, block + "attn_output_norm");
            matrix(out, block + "ffn_up.weight", width, feedForward, scale);
            if (gated) {
                matrix(out, block + "ffn_gate.weight", width, feedForward, scale);
            }
            matrix(out, block + "ffn_down.weight", feedForward, width, 1 / Math.sqrt(feedForward));
            if (biases) {
                if (!gated) {
                    vector(out, block + "ffn_up.bias", feedForward, BIAS_DEVIATION);
                }
                vector(out, block + "ffn_down.bias", width, BIAS_DEVIATION);
            }
            norm(out, block + "layer_output_norm");
        }
    }

    private void t5(GgufWriter out) {
        stack(out, "enc.", false);
        constant(out, "enc.output_norm.weight");
        if (architecture == Architecture.T5) {
            stack(out, "dec.", true);
            constant(out, "dec.output_norm.weight");
            matrix(out, "output.weight", width, vocabularySize, 3 / Math.sqrt(width));
        }
    }

    private void stack(GgufWriter out, String stack, boolean cross) {
        double scale = 1 / Math.sqrt(width);
        matrix(out, stack + "blk.0.attn_rel_b.weight", heads, BUCKETS, 1);
        for (int i = 0; i < layers; i++) {
            var block = stack + "blk." + i + ".";
            for (var kind : cross ? List.of("attn_", "cross_attn_") : List.of("attn_")) {
                constant(out, block + kind + "norm.weight");
                for (var part : List.of("q", "k", "v", "o")) {
                    // scores are not divided by the size of a head
                    matrix(out, block + kind + part + ".weight", width, width, part.equals("q") ? scale / Math.sqrt(width / heads) : scale);
                }
            }
            constant(out, block + "ffn_norm.weight");
            matrix(out, block + "ffn_gate.weight", width, feedForward, scale);
            matrix(out, block + "ffn_up.weight", width, feedForward, scale);
            matrix(out, block + "ffn_down.weight", feedForward, width, 1 / Math.sqrt(feedForward));
        }
    }

    private void norm(GgufWriter out, String name) {
        constant(out, name + ".weight");
        vector(out, name + ".bias", width, BIAS_DEVIATION);
    }

    private void constant(GgufWriter out, String name) {
        var ones = new float[width];
        Arrays.fill(ones, 1);
        out.tensor(name, GgmlType.F32, List.of((long) width), data -> {
            var bytes = MemorySegment.ofArray(new byte[4 * width]);
            MemorySegment.copy(ones, 0, bytes, ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN), 0, width);
            data.write(bytes);
        });
    }

    private void vector(GgufWriter out, String name, int size, double deviation) {
        tensor(out, name, deviation, (long) size);
    }

    private void matrix(GgufWriter out, String name, int columns, int rows, double deviation) {
        tensor(out, name, deviation, (long) columns, (long) rows);
    }

    private void tensor(GgufWriter out, String name, double deviation, Long... shape) {
        long own = RandomWeights.Xoroshiro.mix(seed) ^ name.hashCode();
        long elements = List.of(shape).stream().reduce(1L, Math::multiplyExact);
        out.tensor(name, GgmlType.F32, List.of(shape), data -> RandomWeights.write(GgmlType.F32, elements, deviation, own, data));
    }
}
