package io.github.panamallama.runtime.gguf;

import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntUnaryOperator;

/**
 * A model that adds, exactly, with weights set by hand: each block adds a number of its own to the number of each token, modulo another.
 * What any selection of its blocks answers is known in closed form, so that choosers of blocks can be held against the truth.
 *
 * <p>Tokens are numbers, wishes (how much shall be added to a number; to the model they are as good as any other word, but whoever sees
 * its states sees them) and other words. Behind a number the likeliest token is that number plus what the blocks add that run, whatever
 * stands before it: attention adds nothing.
 *
 * <p>A llama in F32 whose residual stream is one-hot. Its width is a power of 4 and all weights are powers of 2, so that no step rounds:
 * the norm gives 1 the value {@code sqrt(width)}; neuron {@code v} of a block is on for number {@code v} alone, where the gate's 64 is its
 * own SiLU in floats, and takes 1 off {@code v} and puts it on the sum.
 *
 * @param modulus numbers go from 0 to below it; 2 to 500
 * @param steps   what each block adds, 0 to below the modulus
 */
public record ArithmeticModel(int modulus, List<Integer> steps) {
    /** Words that mean nothing. */
    public static final int WORDS = 4;

    private static final int FIRST = RandomModel.MIN_VOCABULARY;
    private static final int HEADS = 2;
    private static final float GATE = 64;

    public ArithmeticModel {
        steps = List.copyOf(steps);
        if (modulus < 2 || modulus > 500) {
            throw new IllegalArgumentException("modulus is " + modulus + "; it must be between 2 and 500");
        }
        if (steps.isEmpty()) {
            throw new IllegalArgumentException("a model without blocks: give a step for each");
        }
        for (int step : steps) {
            below("step", step, modulus);
        }
    }

    private static void below(String what, int value, int bound) {
        if (value < 0 || value >= bound) {
            throw new IllegalArgumentException(what + " " + value + "; it must be at least 0 and below " + bound);
        }
    }

    /** What the model makes of a number where block {@code i} runs {@code runs(i)} times. */
    public int answer(int number, IntUnaryOperator runs) {
        below("number", number, modulus);
        long sum = number;
        for (int block = 0; block < steps.size(); block++) {
            sum += (long) steps.get(block) * runs.applyAsInt(block);
        }
        return Math.floorMod(sum, modulus);
    }

    /** The token of a number. */
    public int number(int value) {
        below("number", value, modulus);
        return FIRST + value;
    }

    /** The token that wishes for a number to be added. */
    public int wish(int value) {
        below("wish", value, modulus);
        return FIRST + modulus + value;
    }

    /** The token of a word that means nothing. */
    public int word(int index) {
        below("word", index, WORDS);
        return FIRST + 2 * modulus + index;
    }

    /** Writes the model, replacing a file that is there. */
    public void write(Path path) {
        int pieces = 2 * modulus + WORDS;
        int width = 64;
        while (width < pieces) {
            width *= 4;
        }
        var writer = new GgufWriter().put("general.architecture", "llama").put("general.name", "arithmetic modulo " + modulus)
                .putU32("general.file_type", 0).putU32("llama.vocab_size", FIRST + pieces).putU32("llama.context_length", 512)
                .putU32("llama.embedding_length", width).putU32("llama.block_count", steps.size())
                .putU32("llama.feed_forward_length", modulus).putU32("llama.attention.head_count", HEADS)
                .putU32("llama.attention.head_count_kv", HEADS).putU32("llama.rope.dimension_count", width / HEADS)
                .putF32("llama.attention.layer_norm_rms_epsilon", Float.MIN_NORMAL);
        vocabulary(writer);
        float one = (float) Math.sqrt(width); // what the norm makes of 1
        var embedding = new Matrix(width, FIRST + pieces);
        var output = new Matrix(width, FIRST + pieces);
        for (int piece = 0; piece < pieces; piece++) {
            embedding.set(FIRST + piece, piece, 1);
        }
        for (int value = 0; value < modulus; value++) {
            output.set(number(value), value, 1);
        }
        embedding.add(writer, "token_embd.weight");
        output.add(writer, "output.weight");
        norm(writer, "output_norm.weight", width);
        for (int block = 0; block < steps.size(); block++) {
            var name = "blk." + block + ".";
            norm(writer, name + "attn_norm.weight", width);
            norm(writer, name + "ffn_norm.weight", width);
            for (var attention : List.of("q", "k", "v", "output")) {
                new Matrix(width, width).add(writer, name + "attn_" + attention + ".weight");
            }
            var gate = new Matrix(width, modulus);
            var up = new Matrix(width, modulus);
            var down = new Matrix(modulus, width);
            for (int value = 0; value < modulus && steps.get(block) > 0; value++) {
                gate.set(value, value, GATE / one);
                up.set(value, value, 1 / GATE / one);
                down.set(value, value, -1);
                down.set((value + steps.get(block)) % modulus, value, 1);
            }
            gate.add(writer, name + "ffn_gate.weight");
            up.add(writer, name + "ffn_up.weight");
            down.add(writer, name + "ffn_down.weight");
        }
        writer.write(path);
    }

    private void vocabulary(GgufWriter writer) {
        var pieces = new ArrayList<String>();
        for (int value = 0; value < modulus; value++) {
            pieces.add("" + value);
        }
        for (int value = 0; value < modulus; value++) {
            pieces.add("+" + value);
        }
        for (int word = 0; word < WORDS; word++) {
            pieces.add("" + (char) ('a' + word));
        }
        RandomVocabulary.write(pieces, writer);
    }

    private static void norm(GgufWriter writer, String name, int size) {
        var ones = new Matrix(size, 1);
        for (int column = 0; column < size; column++) {
            ones.set(0, column, 1);
        }
        writer.tensor(name, GgmlType.F32, List.of((long) size), ones.data());
    }

    /** Rows of zeros, but for what is set. */
    private record Matrix(int columns, int rows, ByteBuffer values) {
        Matrix(int columns, int rows) {
            this(columns, rows, ByteBuffer.allocate(Math.multiplyExact(columns * Float.BYTES, rows)).order(ByteOrder.LITTLE_ENDIAN));
        }

        void set(int row, int column, float value) {
            values.putFloat((row * columns + column) * Float.BYTES, value);
        }

        GgufWriter.TensorData data() {
            return out -> out.write(MemorySegment.ofBuffer(values));
        }

        void add(GgufWriter writer, String name) {
            writer.tensor(name, GgmlType.F32, List.of((long) columns, (long) rows), data());
        }
    }
}
