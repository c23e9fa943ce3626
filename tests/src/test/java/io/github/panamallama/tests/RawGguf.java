package io.github.panamallama.tests;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * A GGUF file taken apart so that every field can be set to anything and put together again, whether or not it makes sense: what
 * a {@link GgufMutator} works on. Only well-formed files can be taken apart.
 */
final class RawGguf {
    static final int STRING = 8;
    static final int ARRAY = 9;
    /** Bytes of a value, by the number of its type; strings and arrays have none of their own. */
    private static final int[] BYTES = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

    /** A key with its value: a scalar in {@code body}, a string or the elements of an array in {@code elements}. */
    static final class Pair {
        String key;
        int type;
        int element;
        List<byte[]> elements = new ArrayList<>();
        /** What the file says; null for the number there is. */
        Long count;

        Pair(String key, int type, byte[]... elements) {
            this.key = key;
            this.type = type;
            this.elements.addAll(List.of(elements));
        }

        boolean isArray() {
            return type == ARRAY;
        }

        Pair copy() {
            var copy = new Pair(key, type, elements.toArray(byte[][]::new));
            copy.element = element;
            copy.count = count;
            return copy;
        }
    }

    static final class Tensor {
        String name;
        long[] shape;
        int type;
        long offset;
        byte[] data;

        Tensor(String name, long[] shape, int type, byte[] data) {
            this.name = name;
            this.shape = shape;
            this.type = type;
            this.data = data;
        }

        Tensor copy() {
            var copy = new Tensor(name, shape.clone(), type, data);
            copy.offset = offset;
            return copy;
        }
    }

    int version = 3;
    final List<Pair> pairs = new ArrayList<>();
    final List<Tensor> tensors = new ArrayList<>();
    /** What the header says; null for the numbers there are. */
    Long pairCount;
    Long tensorCount;
    int alignment = 32;
    boolean tensorsFirst;

    /** Takes a well-formed file with the usual alignment apart. */
    static RawGguf of(byte[] file) {
        var in = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN);
        in.getInt();
        var raw = new RawGguf();
        raw.version = in.getInt();
        long tensors = in.getLong();
        long pairs = in.getLong();
        for (long i = 0; i < pairs; i++) {
            var pair = new Pair(new String(bytes(in), StandardCharsets.UTF_8), in.getInt());
            long count = 1;
            int type = pair.type;
            if (pair.isArray()) {
                type = pair.element = in.getInt();
                count = in.getLong();
            }
            for (long k = 0; k < count; k++) {
                if (type == STRING) {
                    pair.elements.add(bytes(in));
                } else {
                    var value = new byte[BYTES[type]];
                    in.get(value);
                    pair.elements.add(value);
                }
            }
            raw.pairs.add(pair);
        }
        for (long i = 0; i < tensors; i++) {
            var name = new String(bytes(in), StandardCharsets.UTF_8);
            var shape = new long[in.getInt()];
            for (int d = 0; d < shape.length; d++) {
                shape[d] = in.getLong();
            }
            var tensor = new Tensor(name, shape, in.getInt(), null);
            tensor.offset = in.getLong();
            raw.tensors.add(tensor);
        }
        int start = (in.position() + raw.alignment - 1) & -raw.alignment;
        for (int i = 0; i < raw.tensors.size(); i++) {
            var tensor = raw.tensors.get(i);
            int end = i + 1 < raw.tensors.size() ? start + (int) raw.tensors.get(i + 1).offset : file.length;
            tensor.data = Arrays.copyOfRange(file, start + (int) tensor.offset, end);
        }
        return raw;
    }

    private static byte[] bytes(ByteBuffer in) {
        var bytes = new byte[(int) in.getLong()];
        in.get(bytes);
        return bytes;
    }

    RawGguf copy() {
        var copy = new RawGguf();
        pairs.forEach(pair -> copy.pairs.add(pair.copy()));
        tensors.forEach(tensor -> copy.tensors.add(tensor.copy()));
        return copy;
    }

    Pair pair(String key) {
        return pairs.stream().filter(pair -> pair.key.equals(key)).findFirst().orElse(null);
    }

    /** Data one behind the other, as readers want it. */
    void layOut() {
        long offset = 0;
        for (var tensor : tensors) {
            tensor.offset = offset;
            offset += (tensor.data.length + alignment - 1L) & -alignment;
        }
    }

    byte[] bytes() {
        var out = new Out();
        out.u32(0x4655_4747).u32(version).u64(tensorCount == null ? tensors.size() : tensorCount)
                .u64(pairCount == null ? pairs.size() : pairCount);
        if (tensorsFirst) {
            infos(out);
        }
        for (var pair : pairs) {
            out.string(pair.key.getBytes(StandardCharsets.UTF_8)).u32(pair.type);
            int type = pair.type;
            if (pair.isArray()) {
                type = pair.element;
                out.u32(type).u64(pair.count == null ? pair.elements.size() : pair.count);
            }
            for (var element : pair.elements) {
                if (type == STRING) {
                    out.string(element);
                } else {
                    out.raw(element);
                }
            }
        }
        if (!tensorsFirst) {
            infos(out);
        }
        for (var tensor : tensors) {
            out.pad(alignment).raw(tensor.data);
        }
        return out.pad(alignment).bytes();
    }

    private void infos(Out out) {
        for (var tensor : tensors) {
            out.string(tensor.name.getBytes(StandardCharsets.UTF_8)).u32(tensor.shape.length);
            for (long size : tensor.shape) {
                out.u64(size);
            }
            out.u32(tensor.type).u64(tensor.offset);
        }
    }

    /** A value in as many bytes as its type takes. */
    static byte[] number(int type, double value, long bits) {
        var buffer = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN);
        switch (type) {
            case 6 -> buffer.putFloat(0, (float) value);
            case 12 -> buffer.putDouble(0, value);
            default -> buffer.putLong(0, bits);
        }
        return Arrays.copyOf(buffer.array(), type < BYTES.length ? BYTES[type] : 4);
    }

    private static final class Out {
        private final ByteArrayOutputStream out = new ByteArrayOutputStream(1 << 16);

        Out u32(int value) {
            return number(4, value);
        }

        Out u64(long value) {
            return number(8, value);
        }

        private Out number(int bytes, long value) {
            for (int i = 0; i < bytes; i++) {
                out.write((int) (value >>> 8 * i));
            }
            return this;
        }

        Out string(byte[] bytes) {
            return u64(bytes.length).raw(bytes);
        }

        Out raw(byte[] bytes) {
            out.writeBytes(bytes);
            return this;
        }

        Out pad(int alignment) {
            while (out.size() % alignment != 0) {
                out.write(0);
            }
            return this;
        }

        byte[] bytes() {
            return out.toByteArray();
        }
    }
}
