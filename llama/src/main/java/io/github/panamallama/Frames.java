package io.github.panamallama;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.util.Arrays;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Messages over a socket. Each is an {@code int}, the number of bytes that follow; a byte, the {@link Type}; a {@code long}, the call that
 * it belongs to, 0 for none; and what the type says. Big-endian. One thread reads, any number of threads write.
 *
 * <p>A call begins with a request under a new number. One for a text is answered by {@code OPENED}; {@code CREDIT} then allows that many
 * pieces, so that a slow reader holds the writer back, and {@code END} or {@code FAILED} is the last of it. Other requests are answered by
 * {@code VALUE} or {@code FAILED}, one for vectors with {@code VECTORS} before that. {@code CANCEL} ends a call from the other side.
 */
final class Frames {
    /** Changes with everything in here and in {@link Wire}. */
    static final int PROTOCOL = 2;

    /** Most bytes of a message: a longer one is none, or a prompt that no context holds. */
    static final int MOST = 64 << 20;

    private static final int HEAD = 1 + Long.BYTES;

    /** What a message is; sent as its ordinal. In brackets: who sends it, and what it carries. */
    enum Type {
        /** The worker is there (worker; {@link Wire.Hello}). */
        HELLO,
        /** Load a model (parent; {@link Wire.Load}). */
        LOAD,
        /** How much is loaded; goes on after {@link #GO_ON} (worker; a {@code double}). */
        PROGRESS,
        /** Answer to {@link #PROGRESS} (parent; nothing). */
        GO_ON,
        /** The model is loaded (worker; {@link Wire.Loaded}). */
        LOADED,
        /** Continue a text (parent; {@link Wire.Complete}). */
        COMPLETE,
        /** Fill in between two texts (parent; {@link Wire.Infill}). */
        INFILL,
        /** The tokens of a chat prompt (parent; a JSON string). */
        TOKENS,
        /** Answer in a conversation (parent; {@link Wire.Answer}). */
        ANSWER,
        /** Evaluated tokens of a conversation (parent; its number). */
        LENGTH,
        /** Forget a conversation; not answered (parent; its number). */
        RELEASE,
        /** Go on with a conversation under adapters (parent; {@link Wire.Adapted}). */
        ADAPT,
        /** Write the evaluated tokens of a conversation to a file (parent; {@link Wire.Kept}). */
        SAVE,
        /** Take the evaluated tokens of a conversation from a file (parent; {@link Wire.Kept}). */
        RESTORE,
        /** Load an adapter, or tell of a loaded one (parent; {@link Wire.AdapterRef}). */
        ADAPTER,
        /** Free an adapter (parent; its path). */
        CLOSE_ADAPTER,
        /** Open an embedder or reranker (parent; {@link Wire.Vectors}). */
        OPEN_VECTORS,
        /** Vectors of texts (parent; {@link Wire.VectorsOf}). */
        VECTORS_OF,
        /** Free an embedder or reranker; not answered (parent; its number). */
        CLOSE_VECTORS,
        /** Some vectors, one behind the other (worker; as many {@code float}s each as {@link Wire.VectorsOpened} says). */
        VECTORS,
        /** A text can be read (worker; {@link Wire.Opened}). */
        OPENED,
        /** An answer (worker; JSON). */
        VALUE,
        /** So many pieces more may come (parent; an {@code int}). */
        CREDIT,
        /** Some text (worker; {@link Wire.Piece}). */
        PIECE,
        /** A text has ended (worker; {@link Wire.End}). */
        END,
        /** A call is over for whoever made it (parent; nothing). */
        CANCEL,
        /** A call has failed (worker; {@link Wire.Failure}). */
        FAILED,
        /** A sign of life (worker; nothing). */
        BEAT;

        private static final Type[] ALL = values();
    }

    /** A message. */
    record Frame(Type type, long call, byte[] payload) {
    }

    /** What came is no message of this protocol. */
    static final class BrokenException extends IOException {
        BrokenException(String message) {
            super(message);
        }

        BrokenException(String message, Throwable cause) {
            super(message, cause);
        }
    }

    private final SocketChannel channel;
    private final ByteBuffer in = ByteBuffer.allocateDirect(64 << 10).limit(0);
    private final ByteBuffer out = ByteBuffer.allocateDirect(64 << 10);
    private final ReentrantLock writing = new ReentrantLock();

    Frames(SocketChannel channel) {
        this.channel = channel;
    }

    /**
     * The next message; null when the other side has gone.
     *
     * @throws BrokenException if it is none
     */
    Frame read() throws IOException {
        if (!fill(Integer.BYTES)) {
            return null;
        }
        int length = in.getInt();
        if (length < HEAD || length > MOST) {
            throw new BrokenException("a message of " + Integer.toUnsignedString(length) + " bytes; it has " + HEAD + " to " + MOST);
        }
        if (!fill(HEAD)) {
            return null;
        }
        int type = in.get();
        if (type < 0 || type >= Type.ALL.length) {
            throw new BrokenException("a message of type " + type + "; types are 0 to " + (Type.ALL.length - 1));
        }
        long call = in.getLong();
        // believed as far as bytes come: a length alone takes no memory
        var payload = new byte[Math.min(length - HEAD, in.capacity())];
        for (int at = 0; at < length - HEAD; ) {
            if (!fill(1)) {
                return null;
            }
            int n = Math.min(in.remaining(), length - HEAD - at);
            if (at + n > payload.length) {
                payload = Arrays.copyOf(payload, Math.min(length - HEAD, 2 * (at + n)));
            }
            in.get(payload, at, n);
            at += n;
        }
        return new Frame(Type.ALL[type], call, payload);
    }

    /** Reads until so many bytes are there; false at the end. */
    private boolean fill(int bytes) throws IOException {
        if (in.remaining() >= bytes) {
            return true;
        }
        in.compact();
        try {
            while (in.position() < bytes) {
                if (channel.read(in) < 0) {
                    return false;
                }
            }
        } finally {
            in.flip();
        }
        return true;
    }

    /** @throws IllegalArgumentException if it is too long for a message */
    static void requireFits(byte[] payload) {
        if (payload.length > MOST - HEAD) {
            throw new IllegalArgumentException("a request of " + payload.length + " bytes can't be sent to a worker; "
                    + (MOST - HEAD) + " are the most");
        }
    }

    /** Sends a message; waits while the other side does not read. An interrupt of the waiting thread closes the channel. */
    void write(Type type, long call, byte[] payload) throws IOException {
        requireFits(payload);
        writing.lock();
        try {
            out.clear().putInt(HEAD + payload.length).put((byte) type.ordinal()).putLong(call);
            for (int at = 0; at < payload.length || out.position() > 0; ) {
                int n = Math.min(out.remaining(), payload.length - at);
                out.put(payload, at, n).flip();
                at += n;
                while (out.hasRemaining()) {
                    channel.write(out);
                }
                out.clear();
            }
        } finally {
            writing.unlock();
        }
    }
}
