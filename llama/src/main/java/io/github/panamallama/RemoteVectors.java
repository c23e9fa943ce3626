package io.github.panamallama;

import io.github.panamallama.Frames.Type;
import io.github.panamallama.runtime.ClosedException;
import io.github.panamallama.runtime.EmbedderOptions;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;

/**
 * What an embedder or reranker in a worker gives. It has a number there; a worker that is new to that opens it. One call at a time, as in
 * this process.
 */
final class RemoteVectors implements AutoCloseable {
    private final IsolatedLlama llama;
    private final Wire.Vectors vectors;
    private final ReentrantLock lock = new ReentrantLock();
    private final Wire.VectorsOpened opened;
    private final boolean owns;
    private boolean closed;

    /** @param owns whether the worker ends with this, or with the failure to open it */
    RemoteVectors(IsolatedLlama llama, EmbedderOptions options, boolean ranks, boolean owns) {
        this.llama = llama;
        this.owns = owns;
        vectors = new Wire.Vectors(llama.newNumber(), options, ranks);
        try {
            opened = llama.worker().ask(Type.OPEN_VECTORS, vectors, Wire.VectorsOpened.class);
        } catch (RuntimeException | Error e) {
            if (owns) {
                llama.close();
            }
            throw e;
        }
    }

    Wire.VectorsOpened opened() {
        return opened;
    }

    /**
     * Vectors {@code [texts][width]}, or of tokens.
     *
     * @param query   that texts are ranked for; null for none
     * @param byToken whether each token of the text has one
     */
    float[][] of(String query, List<String> texts, boolean byToken) {
        lock.lock();
        try {
            if (closed) {
                throw new ClosedException("the " + (vectors.ranks() ? "reranker" : "embedder") + " is closed");
            }
            return ask(llama.worker(), new Wire.VectorsOf(vectors, query, texts, byToken));
        } finally {
            lock.unlock();
        }
    }

    private float[][] ask(WorkerProcess worker, Wire.VectorsOf request) {
        int width = vectors.ranks() ? 1 : opened.size();
        var rows = new ArrayList<float[]>(request.texts().size());
        int count = worker.ask(Type.VECTORS_OF, request, Integer.class, part -> {
            if (part.length % (width * Float.BYTES) != 0) {
                throw worker.broken("vectors of " + part.length + " bytes, for " + width + " numbers each");
            }
            var numbers = ByteBuffer.wrap(part).asFloatBuffer();
            while (numbers.hasRemaining()) {
                var row = new float[width];
                numbers.get(row);
                rows.add(row);
            }
        });
        if (count != rows.size() || !request.byToken() && count != request.texts().size()) {
            throw worker.broken(count + " vectors for " + request.texts().size() + " texts, of which " + rows.size() + " came");
        }
        worker.hasServed();
        return rows.toArray(float[][]::new);
    }

    @Override
    public void close() {
        lock.lock();
        try {
            if (!closed) {
                closed = true;
                llama.tell(Type.CLOSE_VECTORS, vectors.number());
                if (owns) {
                    llama.close();
                }
            }
        } finally {
            lock.unlock();
        }
    }
}
