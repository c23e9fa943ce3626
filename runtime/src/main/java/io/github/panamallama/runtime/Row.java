package io.github.panamallama.runtime;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * The logits of one position, shape {@code [n_vocab]}, in native memory that the caller owns and reuses.
 *
 * <p>The engine fills a row before the caller of {@code decode} wakes; after that nobody else touches it. The memory is freed
 * when the row becomes unreachable. Not safe for use by several threads at once.
 */
public final class Row {
    /** One cache line, so that vector loads never straddle two. */
    private static final long ALIGNMENT = 64;

    private final MemorySegment logits;
    private final int size;

    /**
     * A row of zeros.
     *
     * @param size number of tokens in the vocabulary, {@code n_vocab}
     */
    public Row(int size) {
        if (size <= 0) {
            throw new IllegalArgumentException("a row needs at least one token, got " + size);
        }
        this.size = size;
        this.logits = Arena.ofAuto().allocate(size * 4L, ALIGNMENT);
    }

    /** The number of logits, {@code n_vocab}. */
    public int size() {
        return size;
    }

    /** The logit of {@code token}. */
    public float get(int token) {
        return logits.getAtIndex(ValueLayout.JAVA_FLOAT, token);
    }

    /** Sets the logit of {@code token}. */
    public void set(int token, float logit) {
        logits.setAtIndex(ValueLayout.JAVA_FLOAT, token, logit);
    }

    /** The logits themselves, {@code n_vocab} native floats, as long as this row is reachable. */
    public MemorySegment segment() {
        return logits;
    }

    /** Copies the logits into {@code target}, which holds at least {@link #size} floats. */
    public void copyTo(float[] target) {
        MemorySegment.copy(logits, ValueLayout.JAVA_FLOAT, 0, target, 0, size);
    }

    /** Replaces the logits by the first {@link #size} floats of {@code source}. */
    public void copyFrom(float[] source) {
        MemorySegment.copy(source, 0, logits, ValueLayout.JAVA_FLOAT, 0, size);
    }

    /** A new array of the logits. */
    public float[] toArray() {
        return logits.toArray(ValueLayout.JAVA_FLOAT);
    }
}
