package io.github.panamallama.runtime;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/**
 * The hidden states of a sequence's tokens, {@code width} floats for each position, which a model's MTP head starts from. Forks share
 * them; who writes into a shared block copies it first. Belongs to whoever leads the {@link DecodeLoop}.
 */
final class HiddenStates {
    /** Positions of one block: what a fork copies at most when it goes on. */
    private static final int BLOCK = 64;

    private static final class Block {
        final float[] values;
        boolean shared;

        Block(float[] values) {
            this.values = values;
        }
    }

    private final int width;
    private Block[] blocks;

    HiddenStates(int width) {
        this(width, new Block[4]);
    }

    private HiddenStates(int width, Block[] blocks) {
        this.width = width;
        this.blocks = blocks;
    }

    /** Sets the state of one position; those before it are known. */
    void set(int position, float[] source, int offset) {
        System.arraycopy(source, offset, writable(position), position % BLOCK * width, width);
    }

    /** Sets the state of one position to row {@code index} of {@code rows}. */
    void set(int position, MemorySegment rows, int index) {
        MemorySegment.copy(rows, ValueLayout.JAVA_FLOAT, (long) index * width * Float.BYTES, writable(position), position % BLOCK * width,
                width);
    }

    /** Copies the state of one position to row {@code index} of {@code rows}. */
    void get(int position, MemorySegment rows, int index) {
        MemorySegment.copy(blocks[position / BLOCK].values, position % BLOCK * width, rows, ValueLayout.JAVA_FLOAT,
                (long) index * width * Float.BYTES, width);
    }

    /** The states of the first {@code length} positions, for another sequence. */
    HiddenStates share(int length) {
        int count = Math.ceilDiv(length, BLOCK);
        var common = new Block[Math.max(count, 4)];
        for (int i = 0; i < count; i++) {
            blocks[i].shared = true;
            common[i] = blocks[i];
        }
        return new HiddenStates(width, common);
    }

    private float[] writable(int position) {
        int i = position / BLOCK;
        if (i >= blocks.length) {
            blocks = Arrays.copyOf(blocks, Math.max(i + 1, 2 * blocks.length));
        }
        if (blocks[i] == null) {
            blocks[i] = new Block(new float[BLOCK * width]);
        } else if (blocks[i].shared) {
            blocks[i] = new Block(blocks[i].values.clone());
        }
        return blocks[i].values;
    }
}
