package io.github.panamallama.runtime.gguf;

import java.nio.charset.StandardCharsets;
import java.util.AbstractList;
import java.util.Arrays;
import java.util.Objects;
import java.util.RandomAccess;

/**
 * A string array of a file, kept as the bytes that the file has and decoded element by element: vocabularies have 150,000 entries
 * and most readers want a few. Immutable.
 */
final class GgufStrings extends AbstractList<String> implements RandomAccess {
    private final byte[] bytes;
    /** Element i is {@code bytes[starts[i] .. starts[i + 1])}; one more entry than elements. */
    private final int[] starts;

    GgufStrings(byte[] bytes, int[] starts) {
        this.bytes = bytes;
        this.starts = starts;
    }

    @Override
    public String get(int index) {
        Objects.checkIndex(index, size());
        return new String(bytes, starts[index], starts[index + 1] - starts[index], StandardCharsets.UTF_8);
    }

    /** The element as the file has it; vocabularies hold pieces that aren't valid UTF-8. */
    byte[] bytes(int index) {
        Objects.checkIndex(index, size());
        return Arrays.copyOfRange(bytes, starts[index], starts[index + 1]);
    }

    int length(int index) {
        return starts[index + 1] - starts[index];
    }

    @Override
    public int size() {
        return starts.length - 1;
    }
}
