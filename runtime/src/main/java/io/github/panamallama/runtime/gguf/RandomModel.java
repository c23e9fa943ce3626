package io.github.panamallama.runtime.gguf;

import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

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

    /** The architectures that can be made, one for each kind of memory that an engine has to deal with. */
    public enum Architecture {
        /** Attention in every layer, the plainest one. */
        LLAMA("llama"),
        /** As LLAMA, with normalised queries and keys. */
        QWEN3("qwen3"),
        /** Every other layer attends to a sliding window only. */
        GEMMA3("gemma3"),
        /** Recurrent: a state of fixed size and no KV cache. */
        MAMBA("mamba"),
        /** Hybrid: even layers attend, odd ones are recurrent. */
        JAMBA("jamba"),
        /** As QWEN3, with a head for multi-token prediction (MTP). */
        HY_V3("hy_v3"),
        /** Hybrid: even layers are recurrent, odd ones attend; with a head for multi-token prediction (MTP). */
        QWEN35("qwen35");

        private final String key;

        Architecture(String key) {
            this.key = key;
        }

        /** What {@code general.architecture} says. */
        public String key() {
            return key;
        }

        private boolean predictsMoreTokens() {
            return this == HY_V3 || this == QWEN35;
        }
    }

    /** Three special tokens and 256 bytes. */
    public static final int MIN_VOCABULARY = 259;

    private static final double LOGIT_DEVIATION = 3;
    private static final int CONVOLUTION = 4;
    private static final int STATE = 16;
    private static final String MARK = "▁";

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
        var writer = new GgufWriter();
        metadata(writer);
        declare(writer::tensor);
        return writer;
    }

    private void metadata(GgufWriter writer) {
        var key = architecture.key;
        writer.put("general.architecture", key)
                .put("general.name", "random " + key + " " + layers + "x" + width)
                .putU32("general.file_type", fileType())
                .putU32(key + ".vocab_size", vocabularySize)
                .putU32(key + ".context_length", contextLength)
                .putU32(key + ".embedding_length", width)
                .putU32(key + ".block_count", layers + (architecture.predictsMoreTokens() ? 1 : 0))
                .putF32(key + ".attention.layer_norm_rms_epsilon", 1e-5f);
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
        if (architecture.predictsMoreTokens()) {
            writer.putU32(key + ".nextn_predict_layers", 1);
        }
        if (architecture == Architecture.HY_V3) {
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
        vocabulary(writer);
    }

    private int fileType() {
        // enum llama_ftype
        return switch (type) {
            case F32 -> 0;
            case F16 -> 1;
            case Q4_0 -> 2;
            case Q8_0 -> 7;
            case Q4_K -> 15;
            case Q6_K -> 18;
            case BF16 -> 32;
            default -> throw new AssertionError(type);
        };
    }

    private void vocabulary(GgufWriter writer) {
        var pieces = new ArrayList<byte[]>(vocabularySize);
        var scores = new float[vocabularySize];
        var kinds = new int[vocabularySize];
        // kinds: 1 normal, 2 unknown, 3 control, 6 byte
        for (var special : List.of("<unk>", "<s>", "</s>")) {
            kinds[pieces.size()] = pieces.isEmpty() ? 2 : 3;
            pieces.add(utf8(special));
        }
        for (int b = 0; b < 256; b++) {
            kinds[pieces.size()] = 6;
            pieces.add(utf8("<0x%02X>".formatted(b)));
        }
        for (int i = 0; pieces.size() < vocabularySize; i++) {
            kinds[pieces.size()] = 1;
            // merges prefer high scores: earlier and so shorter pieces first
            scores[pieces.size()] = -i;
            pieces.add(utf8(piece(i)));
        }
        writer.put("tokenizer.ggml.model", "llama")
                .put("tokenizer.ggml.pre", "default")
                .putBytes("tokenizer.ggml.tokens", pieces)
                .putF32s("tokenizer.ggml.scores", scores)
                .putI32s("tokenizer.ggml.token_type", kinds)
                .putU32("tokenizer.ggml.bos_token_id", 1)
                .putU32("tokenizer.ggml.eos_token_id", 2)
                .putU32("tokenizer.ggml.unknown_token_id", 0)
                .put("tokenizer.ggml.add_bos_token", true)
                .put("tokenizer.ggml.add_eos_token", false)
                .put("tokenizer.ggml.add_space_prefix", false);
    }

    /** All different: the blank, printable ASCII without lower-case letters, then letter runs, each plain and after a blank. */
    private static String piece(int index) {
        if (index == 0) {
            return MARK;
        }
        int others = 94 - 26;
        if (index <= others) {
            int c = 0x20 + index;
            return String.valueOf((char) (c < 'a' ? c : c + 26));
        }
        int k = index - others - 1;
        var letters = new StringBuilder();
        for (int rest = k / 2; rest >= 0; rest = rest / 26 - 1) {
            letters.append((char) ('a' + rest % 26));
        }
        return (k % 2 == 0 ? "" : MARK) + letters.reverse();
    }

    @FunctionalInterface
    private interface TensorSink {
        void tensor(String name, GgmlType type, List<Long> shape, GgufWriter.TensorData data);
    }

    private void declare(TensorSink out) {
        double scale = 1 / Math.sqrt(width);
        // gemma multiplies embeddings by sqrt(width)
        matrix(out, "token_embd.weight", width, vocabularySize, architecture == Architecture.GEMMA3 ? scale : 1);
        constant(out, "output_norm.weight", 1, width);
        matrix(out, "output.weight", width, vocabularySize, LOGIT_DEVIATION * scale);
        for (int i = 0; i < layers; i++) {
            block(out, i);
        }
        if (architecture.predictsMoreTokens()) {
            head(out);
        }
    }

    private void block(TensorSink out, int i) {
        double scale = 1 / Math.sqrt(width);
        var block = "blk." + i + ".";
        constant(out, block + "attn_norm.weight", 1, width);
        if (!isRecurrent(i)) {
            attention(out, block);
        } else if (architecture == Architecture.QWEN35) {
            deltaNet(out, block);
        } else {
            recurrent(out, block);
        }
        if (architecture != Architecture.MAMBA) {
            constant(out, block + (architecture == Architecture.QWEN35 ? "post_attention_norm.weight" : "ffn_norm.weight"), 1, width);
            matrix(out, block + "ffn_gate.weight", width, feedForward, scale);
            matrix(out, block + "ffn_up.weight", width, feedForward, scale);
            // silu(gate) * up of unit normals has deviation 0.6
            matrix(out, block + "ffn_down.weight", feedForward, width, residual() / Math.sqrt(feedForward) / 0.6);
        }
        if (architecture == Architecture.GEMMA3) {
            constant(out, block + "post_attention_norm.weight", (float) residual(), width);
            constant(out, block + "post_ffw_norm.weight", (float) residual(), width);
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
        matrix(out, block + "attn_q.weight", width, heads * headSize * (architecture == Architecture.QWEN35 ? 2 : 1), scale);
        matrix(out, block + "attn_k.weight", width, keyValueHeads * headSize, scale);
        matrix(out, block + "attn_v.weight", width, keyValueHeads * headSize, scale);
        matrix(out, block + "attn_output.weight", heads * headSize, width, residual() / Math.sqrt(heads * headSize));
        if (architecture == Architecture.QWEN3 || architecture == Architecture.GEMMA3 || architecture.predictsMoreTokens()) {
            constant(out, block + "attn_q_norm.weight", 1, headSize);
            constant(out, block + "attn_k_norm.weight", 1, headSize);
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
        tensor(out, name, columns % type.blockSize() == 0 ? type : GgmlType.F16, columns, rows, deviation);
    }

    private void plain(TensorSink out, String name, int columns, int rows, double deviation) {
        tensor(out, name, GgmlType.F32, columns, rows, deviation);
    }

    private void tensor(TensorSink out, String name, GgmlType type, int columns, int rows, double deviation) {
        long own = RandomWeights.Xoroshiro.mix(seed) ^ hash(name);
        out.tensor(name, type, List.of((long) columns, (long) rows),
                data -> RandomWeights.write(type, (long) columns * rows, deviation, own, data));
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
        return 1 / Math.sqrt(2.0 * layers);
    }

    private int inner() {
        return 2 * width;
    }

    private int timeStepRank() {
        return Math.ceilDiv(width, 16);
    }

    private static long hash(String name) {
        long hash = 0xCBF2_9CE4_8422_2325L;
        for (byte b : utf8(name)) {
            hash = (hash ^ b) * 0x100_0000_01B3L;
        }
        return hash;
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void atLeast(String name, int value, int least) {
        if (value < least) {
            throw new IllegalArgumentException(name + " is " + value + "; it must be at least " + least);
        }
    }
}
