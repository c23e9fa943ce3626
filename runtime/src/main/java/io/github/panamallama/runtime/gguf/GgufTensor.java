package io.github.panamallama.runtime.gguf;

import java.util.List;

/**
 * What a file says about one tensor.
 *
 * @param name     at most 63 bytes
 * @param type     element type
 * @param shape    1 to 4 dimensions, the fastest-varying one (the row length) first, each at least 1
 * @param offset   bytes from the start of the data section, a multiple of the file's alignment
 * @param byteSize bytes of data, without padding
 */
public record GgufTensor(String name, GgmlType type, List<Long> shape, long offset, long byteSize) {
    public GgufTensor {
        shape = List.copyOf(shape);
    }

    /** The number of elements. */
    public long elementCount() {
        return shape.stream().reduce(1L, Math::multiplyExact);
    }
}
