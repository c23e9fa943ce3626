package io.github.panamallama.runtime.gguf;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;

/**
 * Parses the part of a file before its tensor data. Accepts at most what ggml/src/gguf.cpp accepts: what native code would refuse,
 * overflow on or abort at is refused here, with the place and the value. Memory stays below a small multiple of the header's own
 * size, because every count is checked against the bytes that are left before anything is allocated for it.
 */
final class GgufReader {
    static final int MAGIC = 0x4655_4747;
    static final int DEFAULT_ALIGNMENT = 32;
    /** Upstream keeps names in char[64], with the final zero. */
    static final int MAX_NAME_BYTES = 63;
    static final int MAX_KEY_BYTES = 65535;
    static final int MAX_DIMENSIONS = 4;
    /** Far above any file seen; keeps the padding arithmetic of every reader far from overflow. */
    static final int MAX_ALIGNMENT = 1 << 20;
    /** Upstream compares every name and key with all before it: more would keep it busy for minutes. */
    static final int MAX_ENTRIES = 65536;
    /** Vocabularies of 256k pieces with merges take 20 MB. */
    static final long MAX_HEADER_BYTES = 256L << 20;

    private static final int MIN_PAIR_BYTES = 8 + 1 + 4 + 1;
    private static final int MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8;

    private final Path path;
    /** Unlike a channel it stays open when the thread is interrupted. */
    private final RandomAccessFile in;
    private final long fileSize;
    private final ByteBuffer buffer = ByteBuffer.allocate(1 << 18).order(ByteOrder.LITTLE_ENDIAN).limit(0);
    /** File offset of the buffer's first byte. */
    private long bufferStart;

    private GgufReader(Path path, RandomAccessFile in) throws IOException {
        this.path = path;
        this.in = in;
        this.fileSize = in.length();
    }

    static GgufFile read(Path path, RandomAccessFile in) throws IOException {
        return new GgufReader(path, in).file();
    }

    private GgufFile file() throws IOException {
        if (fileSize == 0) {
            throw error(0, "the file is empty");
        }
        if (fileSize < 24) {
            throw error(0, "the file has " + fileSize + " bytes; a GGUF header has 24");
        }
        int magic = u32("magic");
        if (magic != MAGIC) {
            throw error(0, "magic is " + printable(magic) + ", not \"GGUF\": this is no GGUF file");
        }
        int version = u32("version");
        if (version != 0 && (version & 0xFFFF) == 0) {
            throw error(4, "version " + Integer.reverseBytes(version) + " is stored big-endian; convert the file to little-endian");
        }
        if (version != 2 && version != 3) {
            throw error(4, "version " + Integer.toUnsignedString(version) + " is not supported; versions 2 and 3 are"
                    + (version == 1 ? ", convert the model again" : ""));
        }
        long tensorCount = count("tensor count", MIN_TENSOR_BYTES);
        long pairCount = count("metadata count", MIN_PAIR_BYTES);

        var metadata = metadata((int) pairCount);
        int alignment = alignment(metadata);
        var tensors = tensors((int) tensorCount, alignment);

        long dataStart = tensors.isEmpty() ? position() : pad(position(), alignment);
        checkPlaces(tensors, dataStart, alignment);
        checkSparse(metadata, tensors);
        return new GgufFile(path, version, fileSize, alignment, dataStart, metadata, tensors);
    }

    /** Blocks of another version would be read without any error, as other weights. */
    private void checkSparse(GgufMetadata metadata, List<GgufTensor> tensors) {
        var key = GgmlType.S24_VERSION_KEY;
        var sparse = tensors.stream().filter(tensor -> tensor.type().isSparse()).findFirst();
        if (sparse.isEmpty() || !metadata.contains(key)) {
            return;
        }
        long version = metadata.integer(key).orElseThrow();
        if (version != GgmlType.S24_VERSION) {
            throw error(metadata.offset(key), "tensor \"" + sparse.get().name() + "\" is of type " + sparse.get().type().label()
                    + ", whose layout has version " + version + " here (" + key + "); this program reads version "
                    + GgmlType.S24_VERSION + ": update it, or make the file again");
        }
    }

    private GgufMetadata metadata(int count) throws IOException {
        var entries = new LinkedHashMap<String, GgufMetadata.Entry>(Math.min(count, 1024) * 2);
        for (int i = 0; i < count; i++) {
            long at = position();
            var key = name("key " + i, MAX_KEY_BYTES);
            if (entries.containsKey(key)) {
                throw error(at, "key \"" + key + "\" is there twice");
            }
            entries.put(key, value(key));
        }
        return new GgufMetadata(path, entries);
    }

    private GgufMetadata.Entry value(String key) throws IOException {
        long at = position();
        var type = valueType(key, u32(key));
        if (type == GgufValueType.STRING) {
            return new GgufMetadata.Entry(type, null, stringBytes(key), at);
        }
        if (type != GgufValueType.ARRAY) {
            return new GgufMetadata.Entry(type, null, scalar(key, type), at);
        }
        long elementAt = position();
        var element = valueType(key, u32(key));
        if (element == GgufValueType.ARRAY) {
            throw error(elementAt, key + " is an array of arrays, which llama.cpp can't read");
        }
        long countAt = position();
        long count = u64(key);
        int least = element == GgufValueType.STRING ? 8 : element.bytes();
        if (count < 0 || count > remaining() / least) {
            throw error(countAt, key + " claims " + Long.toUnsignedString(count) + " elements of type " + element.label() + ", but only "
                    + remaining() + " bytes follow");
        }
        checkHeaderSize(count * least);
        return new GgufMetadata.Entry(type, element, array(key, element, (int) count), at);
    }

    private GgufValueType valueType(String key, int id) {
        var type = GgufValueType.byId(id);
        if (type == null) {
            throw error(position() - 4, key + " has value type " + Integer.toUnsignedString(id) + "; 0 to 12 exist");
        }
        return type;
    }

    private Object scalar(String key, GgufValueType type) throws IOException {
        need(type.bytes(), key);
        return switch (type) {
            case UINT8, INT8 -> buffer.get();
            case UINT16, INT16 -> buffer.getShort();
            case UINT32, INT32 -> buffer.getInt();
            case UINT64, INT64 -> buffer.getLong();
            case FLOAT32 -> buffer.getFloat();
            case FLOAT64 -> buffer.getDouble();
            case BOOL -> bool(key, buffer.get());
            case STRING, ARRAY -> throw new AssertionError(type);
        };
    }

    private Object array(String key, GgufValueType element, int count) throws IOException {
        if (element == GgufValueType.STRING) {
            return strings(key, count);
        }
        var raw = ByteBuffer.wrap(bytes(count * (long) element.bytes(), key)).order(ByteOrder.LITTLE_ENDIAN);
        return switch (element) {
            case UINT8, INT8 -> raw.array();
            case UINT16, INT16 -> {
                var values = new short[count];
                raw.asShortBuffer().get(values);
                yield values;
            }
            case UINT32, INT32 -> {
                var values = new int[count];
                raw.asIntBuffer().get(values);
                yield values;
            }
            case UINT64, INT64 -> {
                var values = new long[count];
                raw.asLongBuffer().get(values);
                yield values;
            }
            case FLOAT32 -> {
                var values = new float[count];
                raw.asFloatBuffer().get(values);
                yield values;
            }
            case FLOAT64 -> {
                var values = new double[count];
                raw.asDoubleBuffer().get(values);
                yield values;
            }
            case BOOL -> {
                var values = new boolean[count];
                for (int i = 0; i < count; i++) {
                    values[i] = bool(key, raw.get());
                }
                yield values;
            }
            case STRING, ARRAY -> throw new AssertionError(element);
        };
    }

    private GgufStrings strings(String key, int count) throws IOException {
        var starts = new int[count + 1];
        var all = new byte[Math.max(64, (int) Math.min(count * 12L, remaining()))];
        int used = 0;
        for (int i = 0; i < count; i++) {
            int length = stringLength(key);
            if (length > all.length - used) {
                all = Arrays.copyOf(all, (int) Math.min(MAX_HEADER_BYTES, Math.max(all.length * 2L, used + (long) length)));
            }
            copy(all, used, length, key);
            used += length;
            starts[i + 1] = used;
        }
        return new GgufStrings(Arrays.copyOf(all, used), starts);
    }

    private boolean bool(String key, byte value) {
        if (value != 0 && value != 1) {
            throw error(position() - 1, key + " holds the boolean " + value + "; 0 and 1 are valid");
        }
        return value == 1;
    }

    private int alignment(GgufMetadata metadata) {
        var entry = metadata.entry("general.alignment");
        if (entry == null) {
            return DEFAULT_ALIGNMENT;
        }
        if (entry.type() != GgufValueType.UINT32) {
            throw error(entry.offset(), "general.alignment is of type " + entry.typeLabel() + "; it must be u32");
        }
        int alignment = (Integer) entry.value();
        if (Integer.bitCount(alignment) != 1 || alignment < 8 || alignment > MAX_ALIGNMENT) {
            throw error(entry.offset(), "general.alignment is " + Integer.toUnsignedString(alignment)
                    + "; it must be a power of two between 8 and " + MAX_ALIGNMENT);
        }
        return alignment;
    }

    private List<GgufTensor> tensors(int count, int alignment) throws IOException {
        var tensors = new ArrayList<GgufTensor>(Math.min(count, 4096));
        var names = new HashSet<String>();
        for (int i = 0; i < count; i++) {
            long at = position();
            var name = name("name of tensor " + i, MAX_NAME_BYTES);
            if (!names.add(name)) {
                throw error(at, "tensor \"" + name + "\" is there twice");
            }
            tensors.add(tensor(name, alignment));
        }
        return List.copyOf(tensors);
    }

    private GgufTensor tensor(String name, int alignment) throws IOException {
        long at = position();
        int dimensions = u32(name);
        if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
            throw error(at, "tensor \"" + name + "\" has " + Integer.toUnsignedString(dimensions) + " dimensions; 1 to "
                    + MAX_DIMENSIONS + " are valid");
        }
        var shape = new ArrayList<Long>(dimensions);
        long elements = 1;
        for (int d = 0; d < dimensions; d++) {
            long size = u64(name);
            if (size <= 0) {
                throw error(position() - 8, "dimension " + d + " of tensor \"" + name + "\" is " + size + "; it must be at least 1");
            }
            if (Math.multiplyHigh(elements, size) != 0 || elements * size < 0) {
                throw error(position() - 8, "tensor \"" + name + "\" has more elements than 64 bits hold: " + shape + " times " + size);
            }
            elements *= size;
            shape.add(size);
        }
        long typeAt = position();
        int typeId = u32(name);
        var type = GgmlType.byId(typeId).orElseThrow(
                () -> error(typeAt, "tensor \"" + name + "\": " + GgmlType.describeUnknown(typeId)));
        if (shape.getFirst() % type.blockSize() != 0) {
            throw error(typeAt, "tensor \"" + name + "\" has rows of " + shape.getFirst() + " elements; type " + type.label()
                    + " needs a multiple of " + type.blockSize());
        }
        long blocks = elements / type.blockSize();
        // native code also multiplies element counts by 8 (strides, F64 work buffers): keep that within 63 bits too
        if (Math.multiplyHigh(blocks, type.blockBytes()) != 0 || blocks * type.blockBytes() < 0 || elements > Long.MAX_VALUE / 8) {
            throw error(typeAt, "tensor \"" + name + "\" of shape " + shape + " and type " + type.label()
                    + " has more bytes than 64 bits hold");
        }
        long bytes = blocks * type.blockBytes();
        if (bytes > fileSize) {
            throw error(typeAt, "tensor \"" + name + "\" of shape " + shape + " and type " + type.label() + " takes " + bytes
                    + " bytes; the whole file has " + fileSize);
        }
        long offset = u64(name);
        if (offset < 0 || offset % alignment != 0) {
            throw error(position() - 8, "tensor \"" + name + "\" has data offset " + Long.toUnsignedString(offset)
                    + ", no multiple of the alignment " + alignment);
        }
        return new GgufTensor(name, type, shape, offset, bytes);
    }

    /** Upstream wants the data in the order of the infos, without gaps but padding: overlaps are impossible then. */
    private void checkPlaces(List<GgufTensor> tensors, long dataStart, int alignment) {
        if (!tensors.isEmpty() && dataStart > fileSize) {
            throw error(fileSize, "the data section would start at byte " + dataStart + ", but the file ends at " + fileSize);
        }
        long expected = 0;
        for (var tensor : tensors) {
            if (tensor.offset() != expected) {
                throw error(-1, "tensor \"" + tensor.name() + "\" has data offset " + tensor.offset() + " where " + expected
                        + " follows the tensor before it");
            }
            if (tensor.byteSize() > fileSize - dataStart - tensor.offset()) {
                throw error(fileSize, "the data of tensor \"" + tensor.name() + "\" would end at byte "
                        + (dataStart + tensor.offset() + tensor.byteSize()) + ", but the file ends at " + fileSize
                        + ": it is truncated or a download was interrupted");
            }
            expected = pad(tensor.offset() + tensor.byteSize(), alignment);
            if (expected > fileSize - dataStart && tensor != tensors.getLast()) {
                throw error(fileSize, "the file ends at " + fileSize + ", before the data of the tensor after \"" + tensor.name() + "\"");
            }
        }
    }

    private long count(String field, int leastBytes) throws IOException {
        long at = position();
        long count = u64(field);
        if (count < 0 || count > (fileSize - position()) / leastBytes) {
            throw error(at, field + " is " + Long.toUnsignedString(count) + ", more than a file of " + fileSize + " bytes can hold");
        }
        if (count > MAX_ENTRIES) {
            throw error(at, field + " is " + count + "; at most " + MAX_ENTRIES + " are accepted");
        }
        return count;
    }

    private String name(String field, int most) throws IOException {
        long at = position();
        long length = u64(field);
        if (length < 1 || length > most) {
            throw error(at, field + " has a length of " + Long.toUnsignedString(length) + " bytes; 1 to " + most + " are valid");
        }
        var bytes = bytes(length, field);
        for (byte b : bytes) {
            if (b == 0) {
                throw error(at, field + " contains a zero byte");
            }
        }
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
        } catch (CharacterCodingException e) {
            throw error(at, field + " is not valid UTF-8");
        }
    }

    private byte[] stringBytes(String field) throws IOException {
        return bytes(stringLength(field), field);
    }

    private int stringLength(String field) throws IOException {
        long length = u64(field);
        if (length < 0 || length > remaining()) {
            throw error(position() - 8, field + " has a string of " + Long.toUnsignedString(length) + " bytes, but only " + remaining()
                    + " bytes follow");
        }
        checkHeaderSize(length);
        return (int) length;
    }

    private void checkHeaderSize(long more) {
        if (position() + more > MAX_HEADER_BYTES) {
            throw error(position(), "metadata and tensor infos take more than " + (MAX_HEADER_BYTES >> 20) + " MiB");
        }
    }

    private int u32(String field) throws IOException {
        need(4, field);
        return buffer.getInt();
    }

    private long u64(String field) throws IOException {
        need(8, field);
        return buffer.getLong();
    }

    private byte[] bytes(long length, String field) throws IOException {
        if (length > remaining()) {
            throw truncated(field, length);
        }
        checkHeaderSize(length);
        var bytes = new byte[(int) length];
        copy(bytes, 0, bytes.length, field);
        return bytes;
    }

    private void copy(byte[] target, int start, int length, String field) throws IOException {
        int done = 0;
        while (done < length) {
            if (!buffer.hasRemaining()) {
                need(1, field);
            }
            int step = Math.min(length - done, buffer.remaining());
            buffer.get(target, start + done, step);
            done += step;
        }
    }

    /** Makes at least {@code count} bytes, at most 8, available in the buffer. */
    private void need(int count, String field) throws IOException {
        if (buffer.remaining() >= count) {
            return;
        }
        if (count > remaining()) {
            throw truncated(field, count);
        }
        bufferStart += buffer.position();
        buffer.compact();
        while (buffer.position() < count) {
            int read = in.read(buffer.array(), buffer.position(), buffer.remaining());
            if (read < 0) {
                buffer.flip();
                throw error(bufferStart + buffer.limit(), "the file became shorter while it was read");
            }
            buffer.position(buffer.position() + read);
        }
        buffer.flip();
    }

    private GgufException truncated(String field, long count) {
        return error(position(), "the file ends within " + field + ": " + count + " bytes are needed, " + remaining() + " are left");
    }

    private long position() {
        return bufferStart + buffer.position();
    }

    private long remaining() {
        return fileSize - position();
    }

    private GgufException error(long offset, String message) {
        return new GgufException(path, offset, message);
    }

    private static String printable(int magic) {
        var text = new StringBuilder("\"");
        for (int i = 0; i < 4; i++) {
            int c = magic >>> (8 * i) & 0xFF;
            text.append(c >= 0x20 && c < 0x7F ? String.valueOf((char) c) : "\\x%02x".formatted(c));
        }
        return text.append('"').toString();
    }

    static long pad(long size, long alignment) {
        return (size + alignment - 1) & -alignment;
    }
}
