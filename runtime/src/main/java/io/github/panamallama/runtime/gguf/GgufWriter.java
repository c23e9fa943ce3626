package io.github.panamallama.runtime.gguf;

import io.github.panamallama.runtime.LlamaException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.reflect.Array;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Writes GGUF files, version 3, little-endian. Metadata and tensors are declared first, in the order that the file shall have;
 * {@link #write} then streams the data, tensor by tensor, so that a file may be larger than memory. The file appears under its name
 * only when it is complete.
 *
 * <pre>{@code
 * new GgufWriter()
 *         .put("general.architecture", "llama")
 *         .tensor("output_norm.weight", GgmlType.F32, List.of(64L), out -> out.write(segment))
 *         .write(path);
 * }</pre>
 *
 * Not safe for use by several threads at once.
 */
public final class GgufWriter {
    /** Writes the bytes of one tensor, exactly as many as it has, in any number of pieces. */
    @FunctionalInterface
    public interface TensorData {
        void writeTo(Output out) throws IOException;
    }

    /** Where tensor data goes. */
    @FunctionalInterface
    public interface Output {
        void write(MemorySegment bytes) throws IOException;
    }

    private record Tensor(GgufTensor info, TensorData data) {
    }

    private static final int BUFFER_BYTES = 1 << 18;
    private static final AtomicLong UNFINISHED = new AtomicLong();

    private final Map<String, GgufMetadata.Entry> metadata = new LinkedHashMap<>();
    private final Map<String, Tensor> tensors = new LinkedHashMap<>();

    /** A writer with the metadata and tensors of {@code source}; data is taken from that file when this one is written. */
    public static GgufWriter copyOf(GgufFile source) {
        var writer = new GgufWriter();
        writer.putAll(source.metadata());
        for (var tensor : source.tensors()) {
            writer.tensor(tensor.name(), tensor.type(), tensor.shape(), out -> {
                try (var arena = Arena.ofConfined()) {
                    out.write(source.map(tensor, arena));
                }
            });
        }
        return writer;
    }

    public GgufWriter put(String key, String value) {
        return put(key, GgufValueType.STRING, null, value.getBytes(StandardCharsets.UTF_8));
    }

    public GgufWriter put(String key, boolean value) {
        return put(key, GgufValueType.BOOL, null, value);
    }

    /** An unsigned 32-bit integer, the type that llama.cpp wants for counts and token ids. */
    public GgufWriter putU32(String key, long value) {
        if (value < 0 || value > 0xFFFF_FFFFL) {
            throw new IllegalArgumentException(key + " is " + value + ", which no unsigned 32-bit integer holds");
        }
        return put(key, GgufValueType.UINT32, null, (int) value);
    }

    public GgufWriter putU16(String key, int value) {
        if (value < 0 || value > 0xFFFF) {
            throw new IllegalArgumentException(key + " is " + value + ", which no unsigned 16-bit integer holds");
        }
        return put(key, GgufValueType.UINT16, null, (short) value);
    }

    public GgufWriter putI32(String key, int value) {
        return put(key, GgufValueType.INT32, null, value);
    }

    public GgufWriter putU64(String key, long bits) {
        return put(key, GgufValueType.UINT64, null, bits);
    }

    public GgufWriter putF32(String key, float value) {
        return put(key, GgufValueType.FLOAT32, null, value);
    }

    public GgufWriter putStrings(String key, List<String> values) {
        return putBytes(key, values.stream().map(value -> value.getBytes(StandardCharsets.UTF_8)).toList());
    }

    /** An array of strings given as bytes, which need not be UTF-8. */
    public GgufWriter putBytes(String key, List<byte[]> values) {
        var starts = new int[values.size() + 1];
        for (int i = 0; i < values.size(); i++) {
            starts[i + 1] = Math.addExact(starts[i], values.get(i).length);
        }
        var all = ByteBuffer.allocate(starts[values.size()]);
        values.forEach(all::put);
        return put(key, GgufValueType.ARRAY, GgufValueType.STRING, new GgufStrings(all.array(), starts));
    }

    public GgufWriter putI32s(String key, int[] values) {
        return put(key, GgufValueType.ARRAY, GgufValueType.INT32, values.clone());
    }

    public GgufWriter putU32s(String key, int[] values) {
        return put(key, GgufValueType.ARRAY, GgufValueType.UINT32, values.clone());
    }

    public GgufWriter putF32s(String key, float[] values) {
        return put(key, GgufValueType.ARRAY, GgufValueType.FLOAT32, values.clone());
    }

    public GgufWriter putBools(String key, boolean[] values) {
        return put(key, GgufValueType.ARRAY, GgufValueType.BOOL, values.clone());
    }

    /** One pair of another file, whatever its type. */
    public GgufWriter put(String key, GgufMetadata source) {
        var entry = source.entry(key);
        if (entry == null) {
            throw new IllegalArgumentException("there is no key " + key + " to copy");
        }
        return put(key, entry.type(), entry.element(), entry.value());
    }

    /** One array of another file, of any type, but only the elements at the given places, in the order given. */
    public GgufWriter putElements(String key, GgufMetadata source, int... places) {
        var entry = source.entry(key);
        if (entry == null || entry.element() == null) {
            throw new IllegalArgumentException("there is no array " + key + " to copy");
        }
        if (entry.value() instanceof GgufStrings strings) {
            return putBytes(key, Arrays.stream(places).mapToObj(strings::bytes).toList());
        }
        var copy = Array.newInstance(entry.value().getClass().getComponentType(), places.length);
        for (int i = 0; i < places.length; i++) {
            System.arraycopy(entry.value(), places[i], copy, i, 1);
        }
        return put(key, entry.type(), entry.element(), copy);
    }

    /** All pairs of another file, in its order. */
    public GgufWriter putAll(GgufMetadata source) {
        source.keys().forEach(key -> put(key, source));
        return this;
    }

    /** Leaves a pair out. */
    public GgufWriter remove(String key) {
        metadata.remove(key);
        return this;
    }

    /** The alignment of tensor data in bytes, 32 unless told otherwise. */
    public GgufWriter alignment(int bytes) {
        if (Integer.bitCount(bytes) != 1 || bytes < 8 || bytes > GgufReader.MAX_ALIGNMENT) {
            throw new IllegalArgumentException("alignment is " + bytes + "; it must be a power of two between 8 and "
                    + GgufReader.MAX_ALIGNMENT);
        }
        return putU32("general.alignment", bytes);
    }

    private GgufWriter put(String key, GgufValueType type, GgufValueType element, Object value) {
        int length = key.getBytes(StandardCharsets.UTF_8).length;
        if (length < 1 || length > GgufReader.MAX_KEY_BYTES || key.indexOf('\0') >= 0) {
            throw new IllegalArgumentException("the key \"" + key + "\" must have 1 to " + GgufReader.MAX_KEY_BYTES
                    + " bytes and no zero byte");
        }
        if (key.equals("general.alignment") && type != GgufValueType.UINT32) {
            throw new IllegalArgumentException("general.alignment must be u32");
        }
        metadata.put(key, new GgufMetadata.Entry(type, element, value, -1));
        return this;
    }

    /**
     * Declares a tensor.
     *
     * @param shape 1 to 4 dimensions, the row length first
     * @param data  called once by each {@link #write}
     */
    public GgufWriter tensor(String name, GgmlType type, List<Long> shape, TensorData data) {
        int length = name.getBytes(StandardCharsets.UTF_8).length;
        if (length < 1 || length > GgufReader.MAX_NAME_BYTES || name.indexOf('\0') >= 0) {
            throw new IllegalArgumentException("the tensor name \"" + name + "\" must have 1 to " + GgufReader.MAX_NAME_BYTES
                    + " bytes and no zero byte");
        }
        if (shape.isEmpty() || shape.size() > GgufReader.MAX_DIMENSIONS || shape.stream().anyMatch(size -> size < 1)) {
            throw new IllegalArgumentException("tensor \"" + name + "\" has shape " + shape + "; 1 to 4 positive dimensions are needed");
        }
        if (shape.getFirst() % type.blockSize() != 0) {
            throw new IllegalArgumentException("tensor \"" + name + "\" has rows of " + shape.getFirst() + " elements; type " + type.label()
                    + " needs a multiple of " + type.blockSize());
        }
        long bytes = type.bytes(shape.stream().reduce(1L, Math::multiplyExact));
        if (tensors.putIfAbsent(name, new Tensor(new GgufTensor(name, type, shape, 0, bytes), data)) != null) {
            throw new IllegalArgumentException("tensor \"" + name + "\" is there already");
        }
        return this;
    }

    /** The bytes that the file will have. */
    public long fileSize() {
        long size = GgufReader.pad(header().remaining(), alignment());
        for (var tensor : tensors.values()) {
            size += GgufReader.pad(tensor.info.byteSize(), alignment());
        }
        return size;
    }

    /**
     * Writes the file, replacing one that is there.
     *
     * @throws GgufException if it can't be written, or a tensor's data has another size than declared; nothing is left behind then
     */
    public void write(Path path) {
        var unfinished = path.resolveSibling("." + path.getFileName() + "." + ProcessHandle.current().pid() + "."
                + UNFINISHED.incrementAndGet() + ".part");
        try {
            try (var channel = FileChannel.open(unfinished, StandardOpenOption.WRITE, StandardOpenOption.CREATE_NEW)) {
                writeTo(channel, path);
            }
            Files.move(unfinished, path, StandardCopyOption.REPLACE_EXISTING);
        } catch (IOException e) {
            throw new GgufException(path, -1, "can't be written: " + LlamaException.reason(e), e);
        } finally {
            try {
                Files.deleteIfExists(unfinished);
            } catch (IOException e) {
                // only left-overs of a failure that is on its way to the caller
            }
        }
    }

    private void writeTo(FileChannel channel, Path path) throws IOException {
        int alignment = alignment();
        var header = header();
        long position = header.remaining();
        writeFully(channel, header);
        position += padding(channel, position, alignment);
        for (var tensor : tensors.values()) {
            var sink = new Sink(channel, path, tensor.info);
            tensor.data.writeTo(sink);
            if (sink.written != tensor.info.byteSize()) {
                throw new GgufException(path, position, "tensor \"" + tensor.info.name() + "\" got " + sink.written + " bytes of data; "
                        + tensor.info.byteSize() + " were declared");
            }
            position += sink.written;
            position += padding(channel, position, alignment);
        }
    }

    private int alignment() {
        var entry = metadata.get("general.alignment");
        return entry == null ? GgufReader.DEFAULT_ALIGNMENT : (Integer) entry.value();
    }

    private ByteBuffer header() {
        var out = new Growing();
        out.room(24).putInt(GgufReader.MAGIC).putInt(3).putLong(tensors.size()).putLong(metadata.size());
        metadata.forEach((key, entry) -> {
            out.string(key.getBytes(StandardCharsets.UTF_8));
            out.room(4).putInt(entry.type().id());
            if (entry.element() == null) {
                out.scalar(entry.value());
            } else {
                out.array(entry.element(), entry.value());
            }
        });
        long offset = 0;
        for (var tensor : tensors.values()) {
            out.string(tensor.info.name().getBytes(StandardCharsets.UTF_8));
            var shape = tensor.info.shape();
            out.room(4).putInt(shape.size());
            shape.forEach(size -> out.room(8).putLong(size));
            out.room(12).putInt(tensor.info.type().id()).putLong(offset);
            offset = Math.addExact(offset, GgufReader.pad(tensor.info.byteSize(), alignment()));
        }
        return out.buffer.flip();
    }

    private static int padding(FileChannel channel, long position, int alignment) throws IOException {
        int count = (int) (GgufReader.pad(position, alignment) - position);
        writeFully(channel, ByteBuffer.allocate(count));
        return count;
    }

    private static void writeFully(FileChannel channel, ByteBuffer bytes) throws IOException {
        while (bytes.hasRemaining()) {
            channel.write(bytes);
        }
    }

    /** Counts what a tensor writes and hands it on in pieces that a ByteBuffer can name. */
    private static final class Sink implements Output {
        private final FileChannel channel;
        private final Path path;
        private final GgufTensor tensor;
        private long written;

        Sink(FileChannel channel, Path path, GgufTensor tensor) {
            this.channel = channel;
            this.path = path;
            this.tensor = tensor;
        }

        @Override
        public void write(MemorySegment bytes) throws IOException {
            if (bytes.byteSize() > tensor.byteSize() - written) {
                throw new GgufException(path, -1, "tensor \"" + tensor.name() + "\" got more than the " + tensor.byteSize()
                        + " bytes of data that were declared");
            }
            // only native memory and byte arrays can be seen as a ByteBuffer
            boolean direct = bytes.isNative() || bytes.heapBase().orElse(null) instanceof byte[];
            long step = direct ? 1 << 30 : BUFFER_BYTES;
            for (long at = 0; at < bytes.byteSize(); at += step) {
                var piece = bytes.asSlice(at, Math.min(step, bytes.byteSize() - at));
                writeFully(channel, direct ? piece.asByteBuffer() : ByteBuffer.wrap(piece.toArray(ValueLayout.JAVA_BYTE)));
            }
            written += bytes.byteSize();
        }
    }

    private static final class Growing {
        private ByteBuffer buffer = ByteBuffer.allocate(BUFFER_BYTES).order(ByteOrder.LITTLE_ENDIAN);

        ByteBuffer room(int bytes) {
            if (buffer.remaining() < bytes) {
                int capacity = (int) Math.min(Integer.MAX_VALUE - 8L, Math.max(buffer.capacity() * 2L, buffer.position() + (long) bytes));
                buffer = ByteBuffer.allocate(capacity).order(ByteOrder.LITTLE_ENDIAN).put(buffer.flip());
            }
            return buffer;
        }

        void string(byte[] bytes) {
            room(8 + bytes.length).putLong(bytes.length).put(bytes);
        }

        void scalar(Object value) {
            switch (value) {
                case Byte v -> room(1).put(v);
                case Boolean v -> room(1).put((byte) (v ? 1 : 0));
                case Short v -> room(2).putShort(v);
                case Integer v -> room(4).putInt(v);
                case Float v -> room(4).putFloat(v);
                case Long v -> room(8).putLong(v);
                case Double v -> room(8).putDouble(v);
                case byte[] v -> string(v);
                default -> throw new AssertionError(value.getClass());
            }
        }

        void array(GgufValueType element, Object values) {
            int count = GgufMetadata.length(values);
            room(12).putInt(element.id()).putLong(count);
            switch (values) {
                case GgufStrings strings -> {
                    for (int i = 0; i < count; i++) {
                        string(strings.bytes(i));
                    }
                }
                case byte[] v -> room(count).put(v);
                case boolean[] v -> {
                    room(count);
                    for (boolean b : v) {
                        buffer.put((byte) (b ? 1 : 0));
                    }
                }
                case short[] v -> bulk(2L * count).asShortBuffer().put(v);
                case int[] v -> bulk(4L * count).asIntBuffer().put(v);
                case float[] v -> bulk(4L * count).asFloatBuffer().put(v);
                case long[] v -> bulk(8L * count).asLongBuffer().put(v);
                case double[] v -> bulk(8L * count).asDoubleBuffer().put(v);
                default -> throw new AssertionError(values.getClass());
            }
        }

        private ByteBuffer bulk(long bytes) {
            room(Math.toIntExact(bytes));
            var slice = buffer.slice(buffer.position(), (int) bytes).order(ByteOrder.LITTLE_ENDIAN);
            buffer.position(buffer.position() + (int) bytes);
            return slice;
        }
    }
}
