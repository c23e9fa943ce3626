package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import java.io.EOFException;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.ReadableByteChannel;
import java.nio.channels.WritableByteChannel;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.zip.CRC32C;
import tools.jackson.core.JacksonException;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.json.JsonMapper;

/**
 * Saved sequences: the eight bytes {@code PLSTATES}, the length of a JSON header, the header, the tokens, llama.cpp's state of them
 * ({@link StateLayout}), and a CRC-32C of all before it. Little-endian; tokens, length and checksum are 32-bit integers.
 *
 * <p>The checksum finds accidents. What it can't find, because somebody has computed it anew, is refused by comparison with the engine.
 */
final class StateFile {
    static final byte[] MAGIC = "PLSTATES".getBytes(StandardCharsets.US_ASCII);
    private static final int VERSION = 1;
    private static final int LONGEST_HEADER = 1 << 16;
    /** Tokens and the state pass in pieces of so many bytes. */
    private static final int PIECE = 1 << 24;
    private static final JsonMapper JSON = JsonMapper.builder()
            .enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES, DeserializationFeature.FAIL_ON_NULL_CREATOR_PROPERTIES,
                    DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .build();

    private StateFile() {
    }

    /**
     * What keys and values depend on, beside the tokens.
     *
     * @param llamaCpp    the version that wrote the state
     * @param model       {@link Model#fingerprint}
     * @param description of the model, for readers
     * @param keys        type of cached keys
     * @param values      type of cached values
     * @param spareLayers of the cache
     * @param plan        as it is printed
     * @param control     {@link ControlVector#fingerprint} of the engine's control vector, "none" without
     * @param adapters    in their order
     */
    record Key(String llamaCpp, String model, String description, String keys, String values, int spareLayers, String plan, String control,
            List<AdapterKey> adapters) {

        static Key of(Engine engine, AdapterSet adapters, LayerPlan plan) {
            var model = engine.model();
            var options = engine.options();
            return new Key(LlamaH.llama_version().getString(0), model.fingerprint(), model.description(), options.keyType().label(),
                    options.valueType().label(), options.spareLayers(), plan.toString(),
                    engine.control() == null ? "none" : engine.control().fingerprint(),
                            adapters.entries().stream().map(AdapterKey::of).toList());
        }

        /** @throws StateException if this, the engine's, differs from a file's */
        void check(Key saved) {
            if (!model.equals(saved.model)) {
                throw new StateException("it was saved by " + saved.description + " (" + saved.model + "), but this is " + description
                        + " (" + model + ")");
            }
            differ("adapters", saved.adapters, adapters);
            differ("the plan", saved.plan, plan);
            differ("the control vector", saved.control, control);
            differ("keys of type", saved.keys, keys);
            differ("values of type", saved.values, values);
            differ("spare layers:", saved.spareLayers, spareLayers);
            differ("llama.cpp", saved.llamaCpp, llamaCpp);
        }

        private static void differ(String what, Object saved, Object own) {
            if (!saved.equals(own)) {
                throw new StateException("it was saved with " + what + " " + saved + ", but this engine has " + own);
            }
        }
    }

    /** @param file SHA-256 of what tells the adapter's file from others */
    record AdapterKey(String file, float scale) {
        static AdapterKey of(AdapterSet.Entry entry) {
            try {
                var digest = MessageDigest.getInstance("SHA-256");
                entry.adapter().file().gguf().sample(digest);
                return new AdapterKey(HexFormat.of().formatHex(digest.digest()), entry.scale());
            } catch (NoSuchAlgorithmException e) {
                throw new AssertionError("every JDK has SHA-256", e);
            }
        }

        @Override
        public String toString() {
            return file + (scale == 1 ? "" : ":" + scale);
        }
    }

    /**
     * @param activation where the tokens of an activated adapter begin, -1 while it is off
     * @param tokens     of the sequence
     * @param state      bytes
     */
    record Header(int version, Key key, int activation, int tokens, long state) {
        Header(Key key, int activation, int tokens, long state) {
            this(VERSION, key, activation, tokens, state);
        }
    }

    static void write(WritableByteChannel out, Header header, int[] tokens, MemorySegment state) throws IOException {
        byte[] json = JSON.writeValueAsBytes(header);
        var sum = new CRC32C();
        put(out, sum, little(MAGIC.length + 4 + json.length).put(MAGIC).putInt(json.length).put(json).flip());
        var ids = little(4 * header.tokens);
        for (int i = 0; i < header.tokens; i++) {
            ids.putInt(tokens[i]);
        }
        put(out, sum, ids.flip());
        for (long at = 0; at < header.state; at += PIECE) {
            put(out, sum, state.asSlice(at, Math.min(PIECE, header.state - at)).asByteBuffer());
        }
        put(out, null, little(4).putInt((int) sum.getValue()).flip());
    }

    private static ByteBuffer little(int bytes) {
        return ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }

    private static void put(WritableByteChannel out, CRC32C sum, ByteBuffer bytes) throws IOException {
        if (sum != null) {
            sum.update(bytes.duplicate());
        }
        while (bytes.hasRemaining()) {
            out.write(bytes);
        }
    }

    /** Reads a file from front to back; each part is checked by the caller before the next one is asked for. */
    static final class Reader {
        private final ReadableByteChannel in;
        private final CRC32C sum = new CRC32C();
        private final Header header;

        /** @throws StateException if what is read is no header of a saved sequence */
        Reader(ReadableByteChannel in) throws IOException {
            this.in = in;
            var start = little(MAGIC.length + 4);
            get(start);
            if (!Arrays.equals(start.array(), 0, MAGIC.length, MAGIC, 0, MAGIC.length)) {
                throw new StateException("it holds no saved sequence: it does not begin with PLSTATES");
            }
            int length = start.getInt(MAGIC.length);
            if (length < 2 || length > LONGEST_HEADER) {
                throw new StateException("it is damaged: a header of " + length + " bytes");
            }
            var json = little(length);
            get(json);
            header = parse(json.array());
        }

        private static Header parse(byte[] json) {
            try {
                int version = JSON.readTree(json).path("version").asInt(-1);
                if (version != VERSION) {
                    throw new StateException("version " + version + " of the format; this program reads " + VERSION);
                }
                return JSON.readValue(json, Header.class);
            } catch (JacksonException e) {
                throw new StateException("its header can't be read: " + e.getOriginalMessage(), e);
            }
        }

        Header header() {
            return header;
        }

        /** The caller has checked their number. */
        int[] tokens() throws IOException {
            var bytes = little(4 * header.tokens);
            get(bytes);
            var tokens = new int[header.tokens];
            bytes.flip().asIntBuffer().get(tokens);
            return tokens;
        }

        void state(MemorySegment to) throws IOException {
            for (long at = 0; at < to.byteSize(); at += PIECE) {
                get(to.asSlice(at, Math.min(PIECE, to.byteSize() - at)).asByteBuffer());
            }
        }

        /** @throws StateException if the checksum is another one, or more follows */
        void end() throws IOException {
            int expected = (int) sum.getValue();
            var last = little(4);
            get(last);
            if (last.getInt(0) != expected) {
                throw new StateException("it is damaged: its checksum is another one");
            }
            if (in.read(ByteBuffer.allocate(1)) > 0) {
                throw new StateException("it is damaged: there is more behind its end");
            }
        }

        private void get(ByteBuffer bytes) throws IOException {
            int start = bytes.position();
            while (bytes.hasRemaining()) {
                if (in.read(bytes) < 0) {
                    throw new StateException("it was cut short", new EOFException());
                }
            }
            sum.update(bytes.duplicate().flip().position(start));
        }
    }
}
