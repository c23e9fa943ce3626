package io.github.panamallama.runtime.gguf;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** Builds files byte by byte, broken ones too, which {@link GgufWriter} refuses to. */
final class GgufBytes {
    private final ByteBuffer out = ByteBuffer.allocate(1 << 16).order(ByteOrder.LITTLE_ENDIAN);

    static GgufBytes header(long tensors, long pairs) {
        return new GgufBytes().u32(0x4655_4747).u32(3).u64(tensors).u64(pairs);
    }

    GgufBytes u8(int value) {
        out.put((byte) value);
        return this;
    }

    GgufBytes u32(int value) {
        out.putInt(value);
        return this;
    }

    GgufBytes u64(long value) {
        out.putLong(value);
        return this;
    }

    GgufBytes string(String text) {
        return string(text.getBytes(StandardCharsets.UTF_8));
    }

    GgufBytes string(byte[] bytes) {
        out.putLong(bytes.length).put(bytes);
        return this;
    }

    /** Key and value type; the value follows. */
    GgufBytes key(String key, GgufValueType type) {
        return string(key).u32(type.id());
    }

    GgufBytes tensor(String name, int type, long offset, long... shape) {
        string(name).u32(shape.length);
        for (long size : shape) {
            u64(size);
        }
        return u32(type).u64(offset);
    }

    GgufBytes pad(int alignment) {
        while (out.position() % alignment != 0) {
            out.put((byte) 0);
        }
        return this;
    }

    GgufBytes zeros(int count) {
        out.put(new byte[count]);
        return this;
    }

    byte[] bytes() {
        return Arrays.copyOf(out.array(), out.position());
    }

    Path write(Path file) throws IOException {
        return Files.write(file, bytes());
    }
}
