package io.github.panamallama.adapters;

import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.LlamaException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import tools.jackson.databind.JsonNode;

/**
 * A file of Hugging Face's safetensors format: an 8-byte length, a header of JSON, tensor data. The header is checked as a whole when
 * it is read: the data of the tensors must fill the file behind it without overlap or gap. Values are read on demand. Immutable; holds
 * no open file.
 *
 * <p>Source: the format's description in the safetensors repository's README. Pickle files, which run code when they are loaded, are
 * refused by name and by content.
 */
final class SafeTensors {
    /** Element types with their bytes; sub-byte types are not known. */
    private enum Type {
        BOOL(1), U8(1), I8(1), F8_E4M3(1), F8_E5M2(1), I16(2), U16(2), F16(2), BF16(2), I32(4), U32(4), F32(4), I64(8), U64(8), F64(8);

        private final int bytes;

        Type(int bytes) {
            this.bytes = bytes;
        }
    }

    /**
     * What the header says about one tensor.
     *
     * @param shape row-major, the row length last
     * @param start of its data in the file, in bytes
     */
    record Tensor(String name, Type type, List<Long> shape, long start, long bytes) {
        long elements() {
            return bytes / type.bytes;
        }
    }

    /** The limit of the reference implementation. */
    private static final long MAX_HEADER_BYTES = 100_000_000;

    private static final int LENGTH_BYTES = 8;
    private static final ValueLayout.OfDouble DOUBLE = ValueLayout.JAVA_DOUBLE_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private final Path path;
    private final Map<String, Tensor> tensors;

    private SafeTensors(Path path, Map<String, Tensor> tensors) {
        this.path = path;
        this.tensors = Collections.unmodifiableMap(tensors);
    }

    /**
     * Reads and checks the header.
     *
     * @throws AdapterException if there is no such file, or it breaks a rule of the format
     */
    static SafeTensors read(Path path) {
        refusePickle(path);
        if (!Files.isRegularFile(path)) {
            throw new AdapterException(path + ": no such file");
        }
        try (var channel = FileChannel.open(path, StandardOpenOption.READ)) {
            long size = channel.size();
            if (size < LENGTH_BYTES) {
                throw new AdapterException(path + ": has " + size + " bytes, which is no safetensors file");
            }
            var start = read(channel, 0, LENGTH_BYTES);
            refusePickleContent(path, start);
            long length = start.getLong(0);
            // the length is unsigned, and a huge one would be negative here
            if (length < 0 || length > size - LENGTH_BYTES) {
                throw new AdapterException(path + ": the header is said to have " + Long.toUnsignedString(length)
                        + " bytes, but the file has only "
                        + (size - LENGTH_BYTES) + " after the length; it is no safetensors file, or truncated");
            }
            if (length > MAX_HEADER_BYTES) {
                throw new AdapterException(path + ": the header has " + length + " bytes; at most " + MAX_HEADER_BYTES + " are allowed");
            }
            String header;
            try {
                header = StandardCharsets.UTF_8.newDecoder().decode(read(channel, LENGTH_BYTES, (int) length)).toString();
            } catch (CharacterCodingException e) {
                throw new AdapterException(path + ": the header is no UTF-8", e);
            }
            return new SafeTensors(path, tensors(path, JsonFiles.object(path + ": header", header), LENGTH_BYTES + length, size));
        } catch (IOException e) {
            throw new AdapterException(path + ": can't be read: " + LlamaException.reason(e), e);
        }
    }

    /** @throws AdapterException if the name is that of a pickle file */
    static void refusePickle(Path path) {
        var name = path.getFileName().toString().toLowerCase(Locale.ROOT);
        for (var ending : List.of(".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")) {
            if (name.endsWith(ending)) {
                throw pickle(path);
            }
        }
    }

    private static void refusePickleContent(Path path, ByteBuffer start) {
        boolean zip = start.get(0) == 'P' && start.get(1) == 'K' && start.get(2) == 3 && start.get(3) == 4;
        // a pickle begins with opcode PROTO and the protocol's number; as a length it would be beyond the limit of headers
        boolean pickle = (start.get(0) & 0xFF) == 0x80 && start.get(1) >= 2 && start.get(1) <= 5 && start.get(7) != 0;
        if (zip || pickle) {
            throw pickle(path);
        }
    }

    private static AdapterException pickle(Path path) {
        return new AdapterException(path
                + ": is a pickle file, and loading one runs whatever code is in it; save the adapter as safetensors "
                + "(PEFT's save_pretrained does by default)");
    }

    private static ByteBuffer read(FileChannel channel, long position, int count) throws IOException {
        var bytes = ByteBuffer.allocate(count).order(ByteOrder.LITTLE_ENDIAN);
        while (bytes.hasRemaining()) {
            if (channel.read(bytes, position + bytes.position()) < 0) {
                throw new IOException("the file became shorter while it was read");
            }
        }
        return bytes.flip();
    }

    private static Map<String, Tensor> tensors(Path path, JsonNode header, long dataStart, long fileSize) {
        var tensors = new LinkedHashMap<String, Tensor>();
        for (var entry : header.properties()) {
            if (!entry.getKey().equals("__metadata__")) {
                tensors.put(entry.getKey(), tensor(path, entry.getKey(), entry.getValue(), dataStart, fileSize));
            }
        }
        var byPlace = new ArrayList<>(tensors.values());
        // empty tensors may share their place with the next one
        byPlace.sort(Comparator.comparingLong(Tensor::start).thenComparingLong(Tensor::bytes));
        long end = dataStart;
        String before = null;
        for (var tensor : byPlace) {
            if (tensor.start < end) {
                throw new AdapterException(path + ": the data of \"" + tensor.name + "\" and \"" + before + "\" overlap at byte "
                        + tensor.start);
            }
            if (tensor.start > end) {
                throw new AdapterException(path + ": bytes " + end + " to " + tensor.start + " before \"" + tensor.name
                        + "\" belong to no tensor");
            }
            end = tensor.start + tensor.bytes;
            before = tensor.name;
        }
        if (end != fileSize) {
            throw new AdapterException(path + ": the last tensor ends at byte " + end + ", but the file has " + fileSize);
        }
        return tensors;
    }

    private static Tensor tensor(Path path, String name, JsonNode node, long dataStart, long fileSize) {
        var what = path + ": tensor \"" + name + "\"";
        var offsets = node.path("data_offsets");
        if (!node.path("dtype").isString() || !node.path("shape").isArray() || offsets.size() != 2 || !offsets.isArray()) {
            throw new AdapterException(what + " is described by " + node + "; dtype, shape and two data_offsets are needed");
        }
        Type type;
        try {
            type = Type.valueOf(node.get("dtype").asString());
        } catch (IllegalArgumentException e) {
            throw new AdapterException(what + " has the unknown dtype " + node.get("dtype"), e);
        }
        long begin = count(what, "data_offsets", offsets.get(0));
        long end = count(what, "data_offsets", offsets.get(1));
        long available = fileSize - dataStart;
        if (begin > end || end > available) {
            throw new AdapterException(what + " has data_offsets " + offsets + ", but the file has " + available
                    + " bytes of data; it is damaged "
                    + "or truncated");
        }
        var shape = new ArrayList<Long>();
        long bytes = type.bytes;
        for (var size : node.get("shape")) {
            shape.add(count(what, "shape", size));
            try {
                bytes = Math.multiplyExact(bytes, shape.getLast());
            } catch (ArithmeticException e) {
                throw new AdapterException(what + " has shape " + node.get("shape") + ", more bytes than can be counted", e);
            }
        }
        if (bytes != end - begin) {
            throw new AdapterException(what + " of dtype " + type + " and shape " + shape + " needs " + bytes + " bytes, but data_offsets "
                    + offsets + " give it " + (end - begin));
        }
        return new Tensor(name, type, List.copyOf(shape), dataStart + begin, bytes);
    }

    private static long count(String what, String field, JsonNode node) {
        if (!node.isIntegralNumber() || !node.canConvertToLong() || node.asLong() < 0) {
            throw new AdapterException(what + " has " + node + " in its " + field + ", which is no size");
        }
        return node.asLong();
    }

    /** The tensors, in the header's order. */
    Collection<Tensor> tensors() {
        return tensors.values();
    }

    Path path() {
        return path;
    }

    /**
     * The values of a floating-point tensor, row-major.
     *
     * @throws AdapterException if it is of another type, has too many values for an array, or one that is NaN or beyond a float
     */
    float[] values(Tensor tensor) {
        var what = path + ": tensor \"" + tensor.name + "\"";
        switch (tensor.type) {
            case F16, BF16, F32, F64 -> { }
            default -> throw new AdapterException(what + " is of dtype " + tensor.type + "; F32, F16, BF16 and F64 can be read: "
                    + "save the adapter in one of them");
        }
        var values = new float[TensorValues.count(what, tensor.elements())];
        try (var arena = Arena.ofConfined(); var channel = FileChannel.open(path, StandardOpenOption.READ)) {
            // a mapping beyond the end of a file faults on access
            if (channel.size() < tensor.start + tensor.bytes) {
                throw new IOException("the file became shorter since its header was read");
            }
            var data = channel.map(FileChannel.MapMode.READ_ONLY, tensor.start, tensor.bytes, arena);
            for (int i = 0; i < values.length; i++) {
                values[i] = value(tensor.type, data, i);
            }
        } catch (IOException e) {
            throw new AdapterException(what + " can't be read: " + LlamaException.reason(e), e);
        }
        TensorValues.requireFinite(what, values);
        return values;
    }

    private static float value(Type type, MemorySegment data, long index) {
        return switch (type) {
            case F32 -> data.get(TensorValues.FLOAT, 4 * index);
            case F16 -> Float.float16ToFloat(data.get(TensorValues.SHORT, 2 * index));
            case BF16 -> TensorValues.bf16(data.get(TensorValues.SHORT, 2 * index));
            case F64 -> (float) data.get(DOUBLE, 8 * index);
            default -> throw new AssertionError(type);
        };
    }
}
