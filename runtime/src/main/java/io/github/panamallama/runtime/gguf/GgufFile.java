package io.github.panamallama.runtime.gguf;

import io.github.panamallama.runtime.LlamaException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.regex.Pattern;

/**
 * The header of a GGUF file: metadata and tensor infos, all of it checked against the format and the file's size. No tensor data is
 * read. Immutable and safe for use by several threads; holds no open file.
 *
 * <p>Source: ggml/docs/gguf.md and ggml/src/gguf.cpp of the pinned llama.cpp.
 */
public final class GgufFile {
    private static final Pattern PART_NAME = Pattern.compile("(.+)-(\\d{5})-of-(\\d{5})\\.gguf");
    private static final int MAX_PARTS = 65535;
    private static final int SAMPLE = 4096;

    private final Path path;
    private final int version;
    private final long fileSize;
    private final int alignment;
    private final long dataStart;
    private final GgufMetadata metadata;
    private final List<GgufTensor> tensors;
    private final Map<String, GgufTensor> byName;

    GgufFile(Path path, int version, long fileSize, int alignment, long dataStart, GgufMetadata metadata, List<GgufTensor> tensors) {
        this.path = path;
        this.version = version;
        this.fileSize = fileSize;
        this.alignment = alignment;
        this.dataStart = dataStart;
        this.metadata = metadata;
        this.tensors = tensors;
        this.byName = new HashMap<>(tensors.size() * 2);
        tensors.forEach(tensor -> byName.put(tensor.name(), tensor));
    }

    /**
     * Reads and checks the header of one file.
     *
     * @throws GgufException if there is no such file, it can't be read or it breaks a rule; the message says which and where
     */
    public static GgufFile read(Path path) {
        if (Files.isDirectory(path)) {
            throw new GgufException(path, -1, "is a directory; a GGUF file is needed");
        }
        if (Files.exists(path) && !Files.isRegularFile(path)) {
            throw new GgufException(path, -1, "is no regular file");
        }
        if (Files.notExists(path)) {
            throw new GgufException(path, -1, "no such file");
        }
        if (!Files.isReadable(path)) {
            throw new GgufException(path, -1, "the file may not be read; check its permissions");
        }
        try (var in = new RandomAccessFile(path.toFile(), "r")) {
            return GgufReader.read(path, in);
        } catch (IOException e) {
            throw new GgufException(path, -1, "can't be read: " + LlamaException.reason(e), e);
        }
    }

    /**
     * Reads and checks a model that may be split into several files, {@code <name>-00001-of-00003.gguf} and so on, given the first.
     *
     * @return the parts in order; one element for a model that isn't split
     * @throws GgufException if a part is missing, broken or doesn't fit the others, or if {@code path} is a later part
     */
    public static List<GgufFile> readParts(Path path) {
        var first = read(path);
        long count = first.splitField("split.count").orElse(1);
        if (count <= 1) {
            return List.of(first);
        }
        var name = PART_NAME.matcher(path.getFileName() == null ? "" : path.getFileName().toString());
        if (count > MAX_PARTS) {
            throw first.broken("split.count", "is " + count + "; at most " + MAX_PARTS + " parts are possible");
        }
        long number = first.splitField("split.no").orElseThrow(() -> first.broken("split.count", "is " + count
                + ", but split.no is missing"));
        if (number != 0) {
            throw first.broken("split.no", "is " + number + ": this is part " + (number + 1) + " of " + count + "; give the first part");
        }
        if (!name.matches() || Integer.parseInt(name.group(2)) != 1 || Integer.parseInt(name.group(3)) != count) {
            throw first.broken("split.count", "is " + count + ", so the file must be named <name>-00001-of-%05d.gguf".formatted(count));
        }
        var parts = new ArrayList<GgufFile>();
        parts.add(first);
        for (int i = 1; i < count; i++) {
            var partPath = path.resolveSibling("%s-%05d-of-%05d.gguf".formatted(name.group(1), i + 1, count));
            if (!Files.exists(partPath)) {
                throw new GgufException(partPath, -1, "no such file: part " + (i + 1) + " of " + count + " is missing");
            }
            var part = read(partPath);
            part.expect("split.no", i);
            part.expect("split.count", count);
            parts.add(part);
        }
        var names = new HashSet<String>();
        long tensors = 0;
        for (var part : parts) {
            for (var tensor : part.tensors) {
                if (!names.add(tensor.name())) {
                    throw new GgufException(part.path, -1, "tensor \"" + tensor.name() + "\" is also in an earlier part");
                }
            }
            tensors += part.tensors.size();
        }
        var declared = first.splitField("split.tensors.count");
        if (declared.isEmpty()) {
            throw first.broken("split.count", "is " + count + ", but split.tensors.count is missing");
        }
        for (var part : parts) {
            var own = part.splitField("split.tensors.count");
            if (own.isPresent() && own.getAsLong() != tensors) {
                throw part.broken("split.tensors.count", "is " + own.getAsLong() + ", but the " + count + " parts have " + tensors
                        + " tensors");
            }
        }
        return List.copyOf(parts);
    }

    private OptionalLong splitField(String key) {
        var value = metadata.integer(key);
        // upstream asserts the type of these, and an assertion ends the process
        if (value.isPresent() && !key.equals("split.tensors.count") && metadata.type(key).get() != GgufValueType.UINT16) {
            throw broken(key, "is of type " + metadata.type(key).get().label() + "; it must be u16");
        }
        if (value.isPresent() && value.getAsLong() < 0) {
            throw broken(key, "is " + value.getAsLong() + "; it can't be negative");
        }
        return value;
    }

    private void expect(String key, long wanted) {
        var value = splitField(key);
        if (value.isEmpty() || value.getAsLong() != wanted) {
            throw broken(key, "is " + (value.isEmpty() ? "missing" : value.getAsLong()) + "; " + wanted + " is needed for this part");
        }
    }

    private GgufException broken(String key, String message) {
        return new GgufException(path, metadata.offset(key), key + " " + message);
    }

    /** The file that was read. */
    public Path path() {
        return path;
    }

    /** The version of the format, 2 or 3. */
    public int version() {
        return version;
    }

    /** The size of the file in bytes, when it was read. */
    public long fileSize() {
        return fileSize;
    }

    /** The alignment of tensor data in bytes, a power of two. */
    public int alignment() {
        return alignment;
    }

    /** The file offset of the tensor data, in bytes. */
    public long dataStart() {
        return dataStart;
    }

    public GgufMetadata metadata() {
        return metadata;
    }

    /** The tensors, in the file's order. */
    public List<GgufTensor> tensors() {
        return tensors;
    }

    /** The tensor of this name. */
    public Optional<GgufTensor> tensor(String name) {
        return Optional.ofNullable(byName.get(name));
    }

    /** The bytes of all tensors, without padding. */
    public long tensorBytes() {
        return tensors.stream().mapToLong(GgufTensor::byteSize).sum();
    }

    /** Where a tensor's data starts in the file, in bytes. */
    public long position(GgufTensor tensor) {
        return dataStart + tensor.offset();
    }

    /**
     * Maps the data of a tensor of this file, read-only, as long as {@code arena} lives.
     *
     * @throws GgufException if the file can't be opened or has become shorter since it was read
     */
    public MemorySegment map(GgufTensor tensor, Arena arena) {
        if (byName.get(tensor.name()) != tensor) {
            throw new IllegalArgumentException("tensor \"" + tensor.name() + "\" is not of " + path);
        }
        try (var channel = FileChannel.open(path, StandardOpenOption.READ)) {
            // a mapping beyond the end of a file faults on access
            if (channel.size() < position(tensor) + tensor.byteSize()) {
                throw new GgufException(path, channel.size(), "the file became shorter since its header was read");
            }
            return channel.map(FileChannel.MapMode.READ_ONLY, position(tensor), tensor.byteSize(), arena);
        } catch (IOException e) {
            throw new GgufException(path, position(tensor), "can't map tensor \"" + tensor.name() + "\": " + LlamaException.reason(e), e);
        }
    }

    /**
     * Tells a model from others: SHA-256 of what {@link #sample} takes of each part. Reads some kilobytes of each tensor.
     *
     * @return 64 lower-case hexadecimal digits
     * @throws GgufException if a file is no longer as it was read
     */
    public static String fingerprint(List<GgufFile> parts) {
        MessageDigest digest;
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every JDK has SHA-256", e);
        }
        parts.forEach(part -> part.sample(digest));
        return HexFormat.of().formatHex(digest.digest());
    }

    /**
     * Adds to a digest what tells this file from others without reading gigabytes: everything before the weights, and of each tensor its
     * first, middle and last {@value #SAMPLE} bytes. Training or merging changes a matrix everywhere.
     *
     * @throws GgufException if the file can't be read or has become shorter since it was read
     */
    public void sample(MessageDigest digest) {
        try (var channel = FileChannel.open(path, StandardOpenOption.READ)) {
            add(digest, channel, 0, dataStart);
            for (var tensor : tensors) {
                long start = position(tensor);
                long size = tensor.byteSize();
                if (size <= 3 * SAMPLE) {
                    add(digest, channel, start, size);
                } else {
                    add(digest, channel, start, SAMPLE);
                    add(digest, channel, start + size / 2, SAMPLE);
                    add(digest, channel, start + size - SAMPLE, SAMPLE);
                }
            }
        } catch (IOException e) {
            throw new GgufException(path, -1, "can't be read to tell it from others: " + LlamaException.reason(e), e);
        }
    }

    private static void add(MessageDigest digest, FileChannel channel, long at, long size) throws IOException {
        var buffer = ByteBuffer.allocate((int) Math.min(size, 1 << 20));
        for (long done = 0; done < size; ) {
            buffer.clear().limit((int) Math.min(buffer.capacity(), size - done));
            int n = channel.read(buffer, at + done);
            if (n < 0) {
                throw new IOException("the file has become shorter");
            }
            digest.update(buffer.flip());
            done += n;
        }
    }

    @Override
    public String toString() {
        return "GgufFile[" + path + ", version " + version + ", " + metadata.size() + " keys, " + tensors.size() + " tensors]";
    }
}
