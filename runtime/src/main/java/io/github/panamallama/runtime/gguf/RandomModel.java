package io.github.panamallama.runtime.gguf;

import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Set;

/**
 * Models with random weights, of any shape and several architectures: as fast or slow as a trained model of that shape, which is
 * what benchmarks need, and small ones in milliseconds, which is what tests need. The same values give the same file, byte for byte.
 *
 * <p>Weights are scaled so that activations keep their size through the layers and logits have a standard deviation of about 3:
 * the next token is neither certain nor all the same. The vocabulary is SentencePiece-like with byte fallback, so any text can be
 * tokenised: ids 0 to 2 are {@code <unk>}, {@code <s>} and {@code </s>}, 3 to 258 are bytes, then come printable characters and
 * letter combinations, plain and with a leading blank.
 *
 * <pre>{@code
 * RandomModel.llama(16, 2048, 32, 8, 8192, 32000).withType(GgmlType.Q4_0).write(path);   // about 1B parameters
 * RandomModel.tiny(RandomModel.Architecture.MAMBA).write(path);                          // a recurrent one for tests
 * }</pre>
 *
 * @param architecture   which of llama.cpp's architectures
 * @param layers         number of blocks; a head for multi-token prediction is one more
 * @param width          size of the embedding, {@code n_embd}
 * @param heads          query heads; ignored by MAMBA
 * @param keyValueHeads  key and value heads, a divisor of {@code heads}
 * @param headSize       size of one head, even
 * @param feedForward    inner size of the feed-forward blocks
 * @param vocabularySize tokens, at least {@value #MIN_VOCABULARY}
 * @param contextLength  context the file claims to be trained on, in tokens
 * @param slidingWindow  tokens that every other layer of GEMMA3 sees; other architectures ignore it
 * @param type           type of the matrices: F32, F16, BF16, Q8_0, Q4_0, Q4_K or Q6_K. A matrix whose rows are no multiple of the
 *                       block size becomes F16; norms, biases and state-space constants are always F32
 * @param seed           of all weights
 */
public record RandomModel(
        Architecture architecture,
        int layers,
        int width,
        int heads,
        int keyValueHeads,
        int headSize,
        int feedForward,
        int vocabularySize,
        int contextLength,
        int slidingWindow,
        GgmlType type,
        long seed) {

    /** The architectures that can be made: each kind of memory that an engine has to deal with, and each way to wire a block. */
    public enum Architecture {
        /** Attention in every layer, the plainest one; also what Mistral's models are loaded as. */
        LLAMA("llama"),
        /** As LLAMA, with biases of queries, keys and values. */
        QWEN2("qwen2", Trait.QKV_BIASES, Trait.SQUARE),
        /** As LLAMA, with normalised queries and keys. */
        QWEN3("qwen3", Trait.QUERY_KEY_NORMS),
        /** As QWEN3, with a mixture of {@value #EXPERTS} experts in every layer, two for each token. */
        QWEN3MOE("qwen3moe", Trait.QUERY_KEY_NORMS, Trait.EXPERTS),
        /** As LLAMA, with queries, keys and values in one matrix, and gate and up in one. */
        PHI3("phi3", Trait.FUSED_QKV, Trait.FUSED_GATE, Trait.SQUARE),
        /** As LLAMA, with factors at the embedding, the attention, both residuals and the logits. */
        GRANITE("granite", Trait.FACTORS),
        /** Norms behind attention and feed-forward part in place of those before them. */
        OLMO2("olmo2", Trait.POST_NORMS, Trait.NO_NORMS, Trait.WIDE_QUERY_KEY_NORMS, Trait.SQUARE),
        /** Norms that take off the mean, biases everywhere, and no gate. */
        STARCODER2("starcoder2", Trait.LAYER_NORMS, Trait.QKV_BIASES, Trait.BIASES, Trait.NO_GATE, Trait.SQUARE),
        /** As STARCODER2, with learned positions. */
        GPT2("gpt2", Trait.LAYER_NORMS, Trait.QKV_BIASES, Trait.BIASES, Trait.FUSED_QKV, Trait.NO_GATE, Trait.POSITIONS, Trait.SQUARE),
        /** As STARCODER2, with attention and feed-forward part beside each other. */
        GPTNEOX("gptneox", Trait.LAYER_NORMS, Trait.QKV_BIASES, Trait.BIASES, Trait.FUSED_QKV, Trait.NO_GATE, Trait.SQUARE),
        /** Attention and feed-forward part beside each other behind one norm; the embedding is the output matrix too. */
        COMMAND_R("command-r", Trait.LAYER_NORMS, Trait.ONE_NORM, Trait.TIED, Trait.SQUARE),
        /** Every other layer attends to a sliding window only; norms before and behind both parts. */
        GEMMA3("gemma3", Trait.QUERY_KEY_NORMS, Trait.POST_NORMS),
        /** Recurrent: a state of fixed size and no KV cache. */
        MAMBA("mamba"),
        /** Hybrid: even layers attend, odd ones are recurrent. */
        JAMBA("jamba"),
        /** As QWEN3, with a head for multi-token prediction (MTP). */
        HY_V3("hy_v3", Trait.QUERY_KEY_NORMS, Trait.MTP),
        /** Hybrid: even layers are recurrent, odd ones attend; with a head for multi-token prediction (MTP). */
        QWEN35("qwen35", Trait.QUERY_KEY_NORMS, Trait.MTP);

        private final String key;
        private final Set<Trait> traits;

        Architecture(String key, Trait... traits) {
            this.key = key;
            this.traits = Set.of(traits);
        }

        /** What {@code general.architecture} says. */
        public String key() {
            return key;
        }

        private boolean has(Trait trait) {
            return traits.contains(trait);
        }
    }

    /** What a block or its model has that LLAMA's has not, or the other way round. */
    private enum Trait {
        QUERY_KEY_NORMS,
        /** As wide as all heads together. */
        WIDE_QUERY_KEY_NORMS,
        POST_NORMS,
        NO_NORMS,
        /** One before both parts. */
        ONE_NORM,
        /** With mean, not RMS. */
        LAYER_NORMS,
        QKV_BIASES,
        /** Of norms, output and feed-forward matrices. */
        BIASES,
        FUSED_QKV,
        FUSED_GATE,
        NO_GATE,
        EXPERTS,
        FACTORS,
        POSITIONS,
        TIED,
        MTP,
        /** Heads are together as wide as the embedding. */
        SQUARE
    }

    /** Three special tokens and 256 bytes. */
    public static final int MIN_VOCABULARY = 259;

    private static final double LOGIT_DEVIATION = 3;
    private static final int CONVOLUTION = 4;
    private static final int STATE = 16;
    private static final int EXPERTS = 4;
    private static final double BIAS_DEVIATION = 0.1;
    // granite's
    private static final float EMBEDDING_FACTOR = 4;
    private static final float RESIDUAL_FACTOR = 0.5f;
    private static final float LOGIT_DIVISOR = 2;

    public RandomModel {
        atLeast("layers", layers, 1);
        atLeast("width", width, 8);
        atLeast("heads", heads, 1);
        atLeast("keyValueHeads", keyValueHeads, 1);
        atLeast("headSize", headSize, 2);
        atLeast("feedForward", feedForward, 1);
        atLeast("vocabularySize", vocabularySize, MIN_VOCABULARY);
        atLeast("contextLength", contextLength, 1);
        atLeast("slidingWindow", slidingWindow, 1);
        if (layers > 512) {
            throw new IllegalArgumentException("layers is " + layers + "; llama.cpp allows 512");
        }
        if (architecture == Architecture.QWEN35) {
            atLeast("layers", layers, 2);
        }
        if (heads % keyValueHeads != 0 || headSize % 2 != 0) {
            throw new IllegalArgumentException(
                    heads + " heads must be a multiple of " + keyValueHeads + " key-value heads, and the head size " + headSize + " even");
        }
        if (!RandomWeights.TYPES.contains(type)) {
            throw new IllegalArgumentException("no random weights of type " + type.label() + "; possible are " + RandomWeights.TYPES);
        }
    }

    /** A llama of this shape, F16, context 4096, seed 1. */
    public static RandomModel llama(int layers, int width, int heads, int keyValueHeads, int feedForward, int vocabularySize) {
        return new RandomModel(Architecture.LLAMA, layers, width, heads, keyValueHeads, width / heads, feedForward, vocabularySize,
                4096, 1024, GgmlType.F16, 1);
    }

    /** A model for tests: 4 layers of width 64, 512 tokens, F32, a context of 512, a window of 32; about 1 MB. */
    public static RandomModel tiny(Architecture architecture) {
        return new RandomModel(architecture, 4, 64, 4, 2, 16, 128, 512, 512, 32, GgmlType.F32, 1);
    }

    public RandomModel withArchitecture(Architecture architecture) {
        return new RandomModel(architecture, layers, width, heads, keyValueHeads, headSize, feedForward, vocabularySize, contextLength,
                slidingWindow, type, seed);
    }

    public RandomModel withLayers(int layers) {
        return new RandomModel(architecture, layers, width, heads, keyValueHeads, headSize, feedForward, vocabularySize, contextLength,
                slidingWindow, type, seed);
    }

    public RandomModel withWidth(int width) {
        return new RandomModel(architecture, layers, width, heads, keyValueHeads, headSize, feedForward, vocabularySize, contextLength,
                slidingWindow, type, seed);
    }

    public RandomModel withHeads(int heads, int keyValueHeads, int headSize) {
        return new RandomModel(architecture, layers, width, heads, keyValueHeads, headSize, feedForward, vocabularySize, contextLength,
                slidingWindow, type, seed);
    }

    public RandomModel withFeedForward(int feedForward) {
        return new RandomModel(architecture, layers, width, heads, keyValueHeads, headSize, feedForward, vocabularySize, contextLength,
                slidingWindow, type, seed);
    }

    public RandomModel withVocabularySize(int vocabularySize) {
        return new RandomModel(architecture, layers, width, heads, keyValueHeads, headSize, feedForward, vocabularySize, contextLength,
                slidingWindow, type, seed);
    }

    public RandomModel withContextLength(int contextLength) {
        return new RandomModel(architecture, layers, width, heads, keyValueHeads, headSize, feedForward, vocabularySize, contextLength,
                slidingWindow, type, seed);
    }

    public RandomModel withSlidingWindow(int slidingWindow) {
        return new RandomModel(architecture, layers, width, heads, keyValueHeads, headSize, feedForward, vocabularySize, contextLength,
                slidingWindow, type, seed);
    }

    public RandomModel withType(GgmlType type) {
        return new RandomModel(architecture, layers, width, heads, keyValueHeads, headSize, feedForward, vocabularySize, contextLength,
                slidingWindow, type, seed);
    }

    public RandomModel withSeed(long seed) {
        return new RandomModel(architecture, layers, width, heads, keyValueHeads, headSize, feedForward, vocabularySize, contextLength,
                slidingWindow, type, seed);
    }

    /** Writes the model, replacing a file that is there. */
    public void write(Path path) {
        writer().write(path);
    }

    /** The number of weights, norms included. */
    public long parameterCount() {
        var count = new long[1];
        declare((name, type, shape, data) -> count[0] += shape.stream().reduce(1L, Math::multiplyExact));
        return count[0];
    }

    /** The size of the file, in bytes. */
    public long fileSize() {
        return writer().fileSize();
    }

    /** A writer with this model's metadata and tensors, to which more can be added before it writes. */
    public GgufWriter writer() {
        if (architecture.has(Trait.SQUARE) && heads * headSize != width) {
            throw new IllegalArgumentException("the heads of " + architecture.key + " are together as wide as the embedding: " + heads
                    + " of " + headSize + " are not " + width);
        }
        var writer = new GgufWriter();
        metadata(writer);
        declare(writer::tensor);
        return writer;
    }

    private void metadata(GgufWriter writer) {
        var key = architecture.key;
        // what is called phi3 gets special tokens that only its own vocabulary has (llama-vocab.cpp)
        var name = architecture == Architecture.PHI3 ? "phi 3" : key;
        writer.put("general.architecture", key)
                .put("general.name", "random " + name + " " + layers + "x" + width)
                .putU32("general.file_type", fileType())
                .putU32(key + ".vocab_size", vocabularySize)
                .putU32(key + ".context_length", contextLength)
                .putU32(key + ".embedding_length", width)
                .putU32(key + ".block_count", layers + (architecture.has(Trait.MTP) ? 1 : 0))
                .putF32(key + ".attention.layer_norm" + (architecture.has(Trait.LAYER_NORMS) ? "" : "_rms") + "_epsilon", 1e-5f);
        if (architecture == Architecture.MAMBA) {
            writer.putU32(key + ".feed_forward_length", 0).putU32(key + ".attention.head_count", 0);
        } else {
            writer.putU32(key + ".feed_forward_length", feedForward).putU32(key + ".attention.head_count", heads);
        }
        if (architecture == Architecture.JAMBA) {
            var perLayer = new int[layers];
            for (int i = 0; i < layers; i++) {
                perLayer[i] = isRecurrent(i) ? 0 : keyValueHeads;
            }
            writer.putU32s(key + ".attention.head_count_kv", perLayer);
        } else if (architecture != Architecture.MAMBA) {
            writer.putU32(key + ".attention.head_count_kv", keyValueHeads)
                    .putU32(key + ".attention.key_length", headSize)
                    .putU32(key + ".attention.value_length", headSize)
                    .putU32(key + ".rope.dimension_count", headSize)
                    .putF32(key + ".rope.freq_base", 10000f);
        }
        if (architecture.has(Trait.MTP)) {
            writer.putU32(key + ".nextn_predict_layers", 1);
        }
        if (architecture.has(Trait.EXPERTS)) {
            writer.putU32(key + ".expert_count", EXPERTS).putU32(key + ".expert_used_count", 2);
        }
        if (architecture.has(Trait.FACTORS)) {
            writer.putF32(key + ".embedding_scale", EMBEDDING_FACTOR)
                    .putF32(key + ".residual_scale", RESIDUAL_FACTOR)
                    .putF32(key + ".attention.scale", (float) (0.5 / Math.sqrt(headSize)))
                    .putF32(key + ".logit_scale", LOGIT_DIVISOR);
        }
        if (architecture == Architecture.GPTNEOX) {
            writer.put(key + ".use_parallel_residual", true);
        }
        if (architecture == Architecture.COMMAND_R) {
            writer.putF32(key + ".logit_scale", (float) (LOGIT_DEVIATION / Math.sqrt(width)));
        }
        if (architecture == Architecture.HY_V3 || architecture.has(Trait.EXPERTS)) {
            writer.putU32(key + ".expert_feed_forward_length", feedForward);
        }
        if (architecture == Architecture.QWEN35) {
            // every other layer attends; keys and values of the recurrent ones have heads of STATE each
            writer.putU32s(key + ".rope.dimension_sections", new int[] {headSize / 2, 0, 0, 0})
                    .putU32(key + ".full_attention_interval", 2)
                    .putU32(key + ".ssm.conv_kernel", CONVOLUTION)
                    .putU32(key + ".ssm.inner_size", 2 * heads * STATE)
                    .putU32(key + ".ssm.state_size", STATE)
                    .putU32(key + ".ssm.time_step_rank", 2 * heads)
                    .putU32(key + ".ssm.group_count", heads);
        }
        if (architecture == Architecture.GEMMA3) {
            writer.putU32(key + ".attention.sliding_window", slidingWindow).putU32(key + ".attention.sliding_window_pattern", 2);
        }
        if (architecture == Architecture.MAMBA || architecture == Architecture.JAMBA) {
            writer.putU32(key + ".ssm.conv_kernel", CONVOLUTION)
                    .putU32(key + ".ssm.inner_size", inner())
                    .putU32(key + ".ssm.state_size", STATE)
                    .putU32(key + ".ssm.time_step_rank", timeStepRank());
        }
        RandomVocabulary.write(vocabularySize, writer);
    }

    private int fileType() {
        // enum llama_ftype
        return switch (type) {
            case F32 -> 0;
            case F16 -> 1;
            case Q4_0 -> 2;
            case Q8_0 -> 7;
            case Q2_K -> 10;
            case Q3_K -> 12;
            case Q4_K -> 15;
            case Q6_K -> 18;
            case IQ3_S -> 26;
            case TQ2_0 -> 37;
            case S24_Q4, S24_Q8, S24_T -> type.id();
            case BF16 -> 32;
            default -> throw new AssertionError(type);
        };
    }

    @FunctionalInterface
    private interface TensorSink {
        void tensor(String name, GgmlType type, List<Long> shape, GgufWriter.TensorData data);
    }

    private void declare(TensorSink out) {
        double scale = 1 / Math.sqrt(width);
        matrix(out, "token_embd.weight", width, vocabularySize, switch (architecture) {
            case GEMMA3 -> scale; // it multiplies embeddings by sqrt(width)
            case GRANITE -> 1 / EMBEDDING_FACTOR;
            default -> 1;
        });
        if (architecture.has(Trait.POSITIONS)) {
            plain(out, "position_embd.weight", width, contextLength, 1);
        }
        norm(out, "output_norm", width);
        if (!architecture.has(Trait.TIED)) {
            double divisor = architecture.has(Trait.FACTORS) ? LOGIT_DIVISOR : 1;
            matrix(out, "output.weight", width, vocabularySize, LOGIT_DEVIATION * scale * divisor);
        }
        for (int i = 0; i < layers; i++) {
            block(out, i);
        }
        if (architecture.has(Trait.MTP)) {
            head(out);
        }
    }

    private void block(TensorSink out, int i) {
        var block = "blk." + i + ".";
        if (!architecture.has(Trait.NO_NORMS)) {
            norm(out, block + "attn_norm", width);
        }
        if (!isRecurrent(i)) {
            attention(out, block);
        } else if (architecture == Architecture.QWEN35) {
            deltaNet(out, block);
        } else {
            recurrent(out, block);
        }
        if (architecture != Architecture.MAMBA) {
            if (!architecture.has(Trait.NO_NORMS) && !architecture.has(Trait.ONE_NORM)) {
                norm(out, block + (architecture == Architecture.QWEN35 ? "post_attention_norm" : "ffn_norm"), width);
            }
            feedForward(out, block);
        }
        if (architecture.has(Trait.POST_NORMS)) {
            constant(out, block + "post_attention_norm.weight", (float) residual(), width);
            constant(out, block + "post_ffw_norm.weight", (float) residual(), width);
        }
    }

    private void feedForward(TensorSink out, String block) {
        double scale = 1 / Math.sqrt(width);
        // silu(gate) * up of unit normals has deviation 0.6, and gelu(up) of them nearly the same
        double down = residual() / Math.sqrt(feedForward) / 0.6;
        if (architecture.has(Trait.EXPERTS)) {
            plain(out, block + "ffn_gate_inp.weight", width, EXPERTS, scale);
            experts(out, block + "ffn_gate_exps.weight", width, feedForward, scale);
            experts(out, block + "ffn_up_exps.weight", width, feedForward, scale);
            experts(out, block + "ffn_down_exps.weight", feedForward, width, down);
            return;
        }
        if (!architecture.has(Trait.NO_GATE) && !architecture.has(Trait.FUSED_GATE)) {
            matrix(out, block + "ffn_gate.weight", width, feedForward, scale);
        }
        matrix(out, block + "ffn_up.weight", width, architecture.has(Trait.FUSED_GATE) ? 2 * feedForward : feedForward, scale);
        matrix(out, block + "ffn_down.weight", feedForward, width, down);
        if (architecture.has(Trait.BIASES)) {
            bias(out, block + "ffn_up.bias", feedForward, BIAS_DEVIATION);
            bias(out, block + "ffn_down.bias", width, BIAS_DEVIATION * residual());
        }
    }

    /** A block behind the others, whose input is mostly the token, so that it sometimes agrees with the model. */
    private void head(TensorSink out) {
        block(out, layers);
        var block = "blk." + layers + ".nextn.";
        constant(out, block + "enorm.weight", 1, width);
        constant(out, block + "hnorm.weight", 1, width);
        constant(out, block + "shared_head_norm.weight", 1, width);
        var projection = new float[2 * width * width]; // each row: the token's part, then that of the hidden state
        for (int i = 0; i < width; i++) {
            projection[2 * width * i + i] = 1;
            projection[2 * width * i + width + i] = 0.1f;
        }
        out.tensor(block + "eh_proj.weight", GgmlType.F32, List.of(2L * width, (long) width), floats(projection));
    }

    private void attention(TensorSink out, String block) {
        double scale = 1 / Math.sqrt(width);
        // qwen35's has a gate beside each query
        int queries = heads * headSize * (architecture == Architecture.QWEN35 ? 2 : 1);
        int keys = keyValueHeads * headSize;
        if (architecture.has(Trait.FUSED_QKV)) {
            projection(out, block + "attn_qkv", queries + 2 * keys, scale);
        } else {
            projection(out, block + "attn_q", queries, scale);
            projection(out, block + "attn_k", keys, scale);
            projection(out, block + "attn_v", keys, scale);
        }
        matrix(out, block + "attn_output.weight", heads * headSize, width, residual() / Math.sqrt(heads * headSize));
        if (architecture.has(Trait.BIASES)) {
            bias(out, block + "attn_output.bias", width, BIAS_DEVIATION * residual());
        }
        if (architecture.has(Trait.QUERY_KEY_NORMS)) {
            constant(out, block + "attn_q_norm.weight", 1, headSize);
            constant(out, block + "attn_k_norm.weight", 1, headSize);
        } else if (architecture.has(Trait.WIDE_QUERY_KEY_NORMS)) {
            constant(out, block + "attn_q_norm.weight", 1, queries);
            constant(out, block + "attn_k_norm.weight", 1, keys);
        }
    }

    private void projection(TensorSink out, String name, int size, double deviation) {
        matrix(out, name + ".weight", width, size, deviation);
        if (architecture.has(Trait.QKV_BIASES)) {
            bias(out, name + ".bias", size, BIAS_DEVIATION);
        }
    }

    /** A gated delta net of {@code heads} key heads and twice as many value heads, all of size {@value #STATE}. */
    private void deltaNet(TensorSink out, String block) {
        int keys = heads * STATE;
        int values = 2 * keys;
        double scale = 1 / Math.sqrt(width);
        matrix(out, block + "attn_qkv.weight", width, 2 * keys + values, scale);
        matrix(out, block + "attn_gate.weight", width, values, scale);
        plain(out, block + "ssm_conv1d.weight", CONVOLUTION, 2 * keys + values, 1 / Math.sqrt(CONVOLUTION));
        // softplus(-3) is a decay of 0.05
        constant(out, block + "ssm_dt.bias", -3, 2 * heads);
        constant(out, block + "ssm_a", -1, 2 * heads);
        matrix(out, block + "ssm_beta.weight", width, 2 * heads, scale);
        matrix(out, block + "ssm_alpha.weight", width, 2 * heads, scale);
        constant(out, block + "ssm_norm.weight", 1, STATE);
        matrix(out, block + "ssm_out.weight", values, width, residual() / Math.sqrt(values) / 0.6);
    }

    private void recurrent(TensorSink out, String block) {
        int inner = inner();
        int rank = timeStepRank();
        matrix(out, block + "ssm_in.weight", width, 2 * inner, 1 / Math.sqrt(width));
        plain(out, block + "ssm_conv1d.weight", CONVOLUTION, inner, 1 / Math.sqrt(CONVOLUTION));
        constant(out, block + "ssm_conv1d.bias", 0, inner);
        matrix(out, block + "ssm_x.weight", inner, rank + 2 * STATE, 1 / Math.sqrt(inner) / 0.6);
        plain(out, block + "ssm_dt.weight", rank, inner, 1 / Math.sqrt(rank));
        // softplus(-3) is a time step of 0.05
        constant(out, block + "ssm_dt.bias", -3, inner);
        var decay = new float[STATE * inner];
        for (int i = 0; i < decay.length; i++) {
            decay[i] = -(1 + i % STATE);
        }
        out.tensor(block + "ssm_a", GgmlType.F32, List.of((long) STATE, (long) inner), floats(decay));
        constant(out, block + "ssm_d", 1, inner);
        matrix(out, block + "ssm_out.weight", inner, width, residual() / Math.sqrt(inner) / 0.6);
        if (architecture == Architecture.JAMBA) {
            constant(out, block + "ssm_dt_norm.weight", 1, rank);
            constant(out, block + "ssm_b_norm.weight", 1, STATE);
            constant(out, block + "ssm_c_norm.weight", 1, STATE);
        }
    }

    private void matrix(TensorSink out, String name, int columns, int rows, double deviation) {
        tensor(out, name, columns % type.blockSize() == 0 ? type : GgmlType.F16, deviation, (long) columns, (long) rows);
    }

    private void experts(TensorSink out, String name, int columns, int rows, double deviation) {
        tensor(out, name, columns % type.blockSize() == 0 ? type : GgmlType.F16, deviation, (long) columns, (long) rows, (long) EXPERTS);
    }

    private void norm(TensorSink out, String name, int size) {
        constant(out, name + ".weight", 1, size);
        if (architecture.has(Trait.BIASES)) {
            bias(out, name + ".bias", size, BIAS_DEVIATION);
        }
    }

    private void bias(TensorSink out, String name, int size, double deviation) {
        tensor(out, name, GgmlType.F32, deviation, (long) size);
    }

    private void plain(TensorSink out, String name, int columns, int rows, double deviation) {
        tensor(out, name, GgmlType.F32, deviation, (long) columns, (long) rows);
    }

    private void tensor(TensorSink out, String name, GgmlType type, double deviation, Long... shape) {
        long own = RandomWeights.Xoroshiro.mix(seed) ^ hash(name);
        long elements = List.of(shape).stream().reduce(1L, Math::multiplyExact);
        out.tensor(name, type, List.of(shape), data -> RandomWeights.write(type, elements, deviation, own, data));
    }

    private static void constant(TensorSink out, String name, float value, int size) {
        var values = new float[size];
        Arrays.fill(values, value);
        out.tensor(name, GgmlType.F32, List.of((long) size), floats(values));
    }

    private static GgufWriter.TensorData floats(float[] values) {
        return out -> {
            var bytes = ByteBuffer.allocate(values.length * 4).order(ByteOrder.LITTLE_ENDIAN);
            bytes.asFloatBuffer().put(values);
            out.write(MemorySegment.ofBuffer(bytes));
        };
    }

    private boolean isRecurrent(int layer) {
        return switch (architecture) {
            case MAMBA -> true;
            case JAMBA -> layer % 2 == 1;
            case QWEN35 -> layer % 2 == 0 && layer < layers;
            default -> false;
        };
    }

    /** Two additions per layer shall not make the residual stream grow. */
    private double residual() {
        return 1 / Math.sqrt(2.0 * layers) / (architecture.has(Trait.FACTORS) ? RESIDUAL_FACTOR : 1);
    }

    private int inner() {
        return 2 * width;
    }

    private int timeStepRank() {
        return Math.ceilDiv(width, 16);
    }

    private static long hash(String name) {
        long hash = 0xCBF2_9CE4_8422_2325L;
        for (byte b : name.getBytes(StandardCharsets.UTF_8)) {
            hash = (hash ^ b) * 0x100_0000_01B3L;
        }
        return hash;
    }

    private static void atLeast(String name, int value, int least) {
        if (value < least) {
            throw new IllegalArgumentException(name + " is " + value + "; it must be at least " + least);
        }
    }
}
