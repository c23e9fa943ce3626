package io.github.panamallama.sampling.track;

import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Vocabulary;
import io.github.panamallama.runtime.gguf.GgufFile;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/** SHA-256 of what stored results depend on. */
public final class Fingerprint {
    private static final int SAMPLE = 4096;

    private Fingerprint() {
    }

    public static MessageDigest digest() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError(e);    // every JDK has it
        }
    }

    /**
     * Of a model: everything before the weights, and of each tensor its first, middle and last {@value #SAMPLE} bytes. Training or
     * merging changes a matrix everywhere, so this tells models apart without reading gigabytes.
     */
    public static byte[] of(Model model) {
        var digest = digest();
        for (var part : model.parts()) {
            add(digest, part);
        }
        return digest.digest();
    }

    /** Of a model under adapters: their files are sampled as the model's are. Without adapters, that of the model alone. */
    public static byte[] of(Model model, AdapterSet adapters) {
        if (adapters.isEmpty()) {
            return of(model);
        }
        var digest = digest();
        digest.update(of(model));
        for (var entry : adapters.entries()) {
            add(digest, entry.adapter().file().gguf());
            add(digest, Float.floatToIntBits(entry.scale()));
        }
        return digest.digest();
    }

    private static void add(MessageDigest digest, GgufFile part) {
        try (var channel = FileChannel.open(part.path(), StandardOpenOption.READ)) {
            add(digest, channel, 0, part.dataStart());
            for (var tensor : part.tensors()) {
                long start = part.position(tensor);
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
            throw new UncheckedIOException("can't read " + part.path() + " to tell the model from others", e);
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

    /** Of a vocabulary: every token's bytes and kind. */
    public static byte[] of(Vocabulary vocabulary) {
        var digest = digest();
        for (int token = 0; token < vocabulary.size(); token++) {
            byte[] bytes = vocabulary.bytes(token);
            add(digest, bytes.length);
            digest.update(bytes);
            digest.update((byte) ((vocabulary.isEndOfGeneration(token) ? 1 : 0) | (vocabulary.isControl(token) ? 2 : 0)));
        }
        return digest.digest();
    }

    public static void add(MessageDigest digest, long value) {
        digest.update(ByteBuffer.allocate(8).putLong(value).flip());
    }

    public static void add(MessageDigest digest, int[] values) {
        add(digest, values.length);
        for (int value : values) {
            add(digest, value);
        }
    }

    public static void add(MessageDigest digest, String text) {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        add(digest, bytes.length);
        digest.update(bytes);
    }
}
