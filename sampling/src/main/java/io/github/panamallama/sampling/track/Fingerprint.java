package io.github.panamallama.sampling.track;

import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Vocabulary;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/** SHA-256 of what stored results depend on. */
public final class Fingerprint {
    private Fingerprint() {
    }

    public static MessageDigest digest() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError(e);    // every JDK has it
        }
    }

    /** Of a model: its {@link Model#fingerprint}. */
    public static byte[] of(Model model) {
        return HexFormat.of().parseHex(model.fingerprint());
    }

    /** Of a model under adapters: their files are sampled as the model's are. Without adapters, that of the model alone. */
    public static byte[] of(Model model, AdapterSet adapters) {
        if (adapters.isEmpty()) {
            return of(model);
        }
        var digest = digest();
        digest.update(of(model));
        for (var entry : adapters.entries()) {
            entry.adapter().file().gguf().sample(digest);
            add(digest, Float.floatToIntBits(entry.scale()));
        }
        return digest.digest();
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
