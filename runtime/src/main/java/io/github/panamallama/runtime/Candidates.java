package io.github.panamallama.runtime;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Tokens picked from a {@link Row}, each with a value (its logit or probability, as the function that fills it says), in native
 * memory that the caller owns and reuses. The memory is freed when the object becomes unreachable. Not safe for use by several
 * threads at once.
 */
public final class Candidates {
    private final MemorySegment tokens;
    private final MemorySegment values;
    private final int capacity;
    private int size;

    /**
     * An empty set.
     *
     * @param capacity the largest number of tokens that it can hold
     */
    public Candidates(int capacity) {
        if (capacity <= 0) {
            throw new IllegalArgumentException("candidates need a capacity of at least 1, got " + capacity);
        }
        this.capacity = capacity;
        var memory = Arena.ofAuto().allocate(capacity * 8L, 64);
        this.tokens = memory.asSlice(0, capacity * 4L);
        this.values = memory.asSlice(capacity * 4L);
    }

    /** A copy, with room for no more. */
    public Candidates(Candidates other) {
        this(Math.max(1, other.size));
        copyFrom(other);
    }

    /** Replaces what is held by what another set holds, as far as there is room for it. */
    public void copyFrom(Candidates other) {
        size = Math.min(capacity, other.size);
        MemorySegment.copy(other.tokens, 0, tokens, 0, 4L * size);
        MemorySegment.copy(other.values, 0, values, 0, 4L * size);
    }

    /** Where a token is, in a set by ascending id; negative where it is not. */
    public int indexOf(int token) {
        int low = 0;
        int high = size - 1;
        while (low <= high) {
            int middle = (low + high) >>> 1;
            int found = token(middle);
            if (found == token) {
                return middle;
            }
            if (found < token) {
                low = middle + 1;
            } else {
                high = middle - 1;
            }
        }
        return -1;
    }

    public int capacity() {
        return capacity;
    }

    /** The number of tokens held. */
    public int size() {
        return size;
    }

    /** The token at {@code index}. */
    public int token(int index) {
        return tokens.getAtIndex(ValueLayout.JAVA_INT, check(index));
    }

    /** The value of the token at {@code index}. */
    public float value(int index) {
        return values.getAtIndex(ValueLayout.JAVA_FLOAT, check(index));
    }

    private int check(int index) {
        if (index < 0 || index >= size) {
            throw new IndexOutOfBoundsException("candidate " + index + " of " + size);
        }
        return index;
    }

    MemorySegment tokens() {
        return tokens;
    }

    MemorySegment values() {
        return values;
    }

    void size(int size) {
        this.size = size;
    }
}
