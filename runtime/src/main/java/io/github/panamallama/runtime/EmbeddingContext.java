package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_batch;
import io.github.panamallama.bindings.llama_context_params;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.natives.NativeError;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;

/**
 * A native context that gives vectors instead of logits. Texts are evaluated together as far as their tokens fit into one call, each from
 * its beginning, and nothing stays of them. One thread at a time computes; others wait.
 */
final class EmbeddingContext implements AutoCloseable {
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT;

    private final Model model;
    private final boolean truncation;
    private final ReentrantLock lock = new ReentrantLock();
    private final Arena arena = Arena.ofShared();
    private final NativeError failure = new NativeError();
    private final MemorySegment error = failure.segment();
    private final MemorySegment context;
    private final MemorySegment threads;
    private final MemorySegment memory;
    private final Pooling pooling;
    private final int width;
    private final int capacity;
    private final int longest;
    private final int maxTexts;

    private final MemorySegment batch;
    private final MemorySegment tokens;
    private final MemorySegment positions;
    private final MemorySegment ids;
    private final MemorySegment vector;
    private boolean broken;
    private boolean closed;

    /** @param pooling one that the model can do */
    EmbeddingContext(Model model, EmbedderOptions options, Pooling pooling) {
        if (model.hasEncoder() && model.hasDecoder()) {
            throw new EmbeddingException(model.path() + " writes what its encoder has read; vectors are made by models that only "
                    + "encode or only decode");
        }
        this.model = model;
        this.truncation = options.truncation();
        this.pooling = pooling;
        var handle = model.retain();
        MemorySegment created = MemorySegment.NULL;
        MemorySegment pool = MemorySegment.NULL;
        boolean complete = false;
        try {
            int wanted = options.batchSize() > 0 ? options.batchSize() : Math.clamp(model.contextLength(), 1,
                    EmbedderOptions.DEFAULT_BATCH_LIMIT);
            // llama.cpp plans for graphs of as many tokens of each text
            int planned = Math.ceilDiv(wanted, options.maxTexts()) * options.maxTexts();
            var sizes = EngineOptions.defaults().withContextSize(planned).withMaxSequences(options.maxTexts());
            sizes = sizes.withBatchSize(sizes.contextSize()).withUbatchSize(sizes.contextSize());
            MemoryCheck.ensure(model, sizes);
            var params = NativeContext.parameters(arena, model.gguf().metadata(), sizes);
            llama_context_params.no_perf(params, true);
            llama_context_params.embeddings(params, true);
            llama_context_params.pooling_type(params, pooling.id());
            if (options.causal() != null) {
                llama_context_params.attention_type(params,
                        options.causal() ? LlamaH.LLAMA_ATTENTION_TYPE_CAUSAL() : LlamaH.LLAMA_ATTENTION_TYPE_NON_CAUSAL());
            }
            created = LlamaH.pl_context_new(handle, params, 0, error);
            if (failure.outOfMemory()) {
                throw MemoryCheck.exhausted(model, sizes, failure.message());
            }
            if (failure.failed()) {
                throw new ModelLoadException("no context for " + model.path() + " with " + options + ": " + failure.message());
            }
            int count = options.threads() > 0 ? options.threads() : Cores.physical();
            pool = LlamaH.pl_threads_attach(created, NativeContext.threadOptions(arena, sizes, count, count), error);
            failure.check("starting " + count + " threads");
            context = created;
            threads = pool;
            memory = LlamaH.llama_get_memory(context);
            width = pooling == Pooling.RANK ? LlamaH.llama_model_n_cls_out(handle) : LlamaH.llama_model_n_embd_out(handle);
            capacity = wanted;
            longest = (int) Math.min(wanted, model.learnedPositions());
            maxTexts = options.maxTexts();

            batch = llama_batch.allocate(arena);
            tokens = arena.allocate(INT, capacity);
            positions = arena.allocate(INT, capacity);
            ids = arena.allocate(INT, capacity);
            vector = arena.allocate(ValueLayout.JAVA_FLOAT, width);
            var counts = arena.allocate(INT, capacity);
            var pointers = arena.allocate(ValueLayout.ADDRESS, capacity + 1L);
            for (int i = 0; i < capacity; i++) {
                counts.setAtIndex(INT, i, 1);
                pointers.setAtIndex(ValueLayout.ADDRESS, i, ids.asSlice(4L * i, 4));
            }
            llama_batch.token(batch, tokens);
            llama_batch.embd(batch, MemorySegment.NULL);
            llama_batch.pos(batch, positions);
            llama_batch.n_seq_id(batch, counts);
            llama_batch.seq_id(batch, pointers);
            llama_batch.logits(batch, arena.allocate(capacity).fill((byte) 1));
            complete = true;
        } finally {
            if (!complete) {
                LlamaH.pl_context_free(created, pool);
                arena.close();
                model.release();
            }
        }
    }

    /** The numbers that a classification head of the model gives; 0 where the file has none. */
    static int classes(Model model) {
        return model.parts().stream().flatMap(part -> part.tensor("cls.output.weight").stream()).map(GgufTensor::shape)
                .findFirst().or(() -> model.parts().stream().flatMap(part -> part.tensor("cls.weight").stream()).map(GgufTensor::shape)
                        .filter(shape -> shape.size() < 2 || shape.get(1) == 1).findFirst())
                .map(shape -> shape.size() < 2 ? 1 : Math.toIntExact(shape.get(1))).orElse(0);
    }

    Model model() {
        return model;
    }

    Pooling pooling() {
        return pooling;
    }

    /** Numbers of a vector. */
    int width() {
        return width;
    }

    /** Tokens of the longest text. */
    int longest() {
        return longest;
    }

    /**
     * Vectors of texts {@code [texts][width]}, or of their tokens {@code [tokens][width]} without pooling.
     *
     * @param texts with their special tokens
     */
    List<float[]> evaluate(List<int[]> texts) {
        var fitting = new ArrayList<int[]>(texts.size());
        for (int i = 0; i < texts.size(); i++) {
            fitting.add(fitting(texts.get(i), i, texts.size()));
        }
        lock.lock();
        try {
            if (closed) {
                throw new ClosedException("the embedder is closed");
            }
            if (broken) {
                throw new DecodeException("an assertion of native code failed in this embedder earlier; close it and open another one");
            }
            var vectors = new ArrayList<float[]>(texts.size());
            for (int from = 0; from < fitting.size(); ) {
                int to = from;
                int size = 0;
                while (to < fitting.size() && to - from < maxTexts && size + fitting.get(to).length <= capacity) {
                    size += add(fitting.get(to), to - from, size);
                    to++;
                }
                compute(size, to - from);
                read(pooling == Pooling.NONE ? size : to - from, texts.size(), vectors);
                from = to;
            }
            return vectors;
        } finally {
            lock.unlock();
        }
    }

    private int[] fitting(int[] text, int index, int count) {
        if (text.length == 0) {
            throw EmbeddingException.of(index, count, "is empty, and the model's vocabulary adds no token to it; leave it out");
        }
        for (int token : text) {
            if (token < 0 || token >= model.vocabulary().size()) {
                throw new IllegalArgumentException("token " + token + " is not in the vocabulary of " + model.vocabulary().size());
            }
        }
        if (text.length <= longest) {
            return text;
        }
        if (!truncation) {
            throw EmbeddingException.of(index, count, "has " + text.length + " tokens; at most " + longest + " fit"
                    + (longest < capacity ? ", the positions that the model has learned" : " (EmbedderOptions.batchSize)")
                    + ": cut it into parts, or ask for truncation");
        }
        var cut = Arrays.copyOf(text, longest);
        cut[longest - 1] = text[text.length - 1]; // what ends every text
        return cut;
    }

    private int add(int[] text, int id, int at) {
        for (int i = 0; i < text.length; i++) {
            tokens.setAtIndex(INT, at + i, text[i]);
            positions.setAtIndex(INT, at + i, i);
            ids.setAtIndex(INT, at + i, id);
        }
        return text.length;
    }

    private void compute(int size, int texts) {
        if (!memory.equals(MemorySegment.NULL)) {
            LlamaH.pl_memory_clear(memory, true, error);
            failure.check("access to the KV cache");
        }
        llama_batch.n_tokens(batch, size);
        int code = LlamaH.pl_decode(context, batch, error); // which encodes where there is no cache
        broken |= failure.assertionFailed();
        if (code != 0) {
            throw new DecodeException("native code failed to evaluate " + size + " tokens of " + texts + " texts: "
                    + (failure.message().isEmpty() ? "code " + code : failure.message()));
        }
    }

    private void read(int count, int texts, List<float[]> vectors) {
        for (int i = 0; i < count; i++) {
            if (pooling == Pooling.NONE) {
                LlamaH.pl_get_embeddings(context, i, vector, width, error);
            } else {
                LlamaH.pl_get_embeddings_seq(context, i, vector, width, error);
            }
            failure.check("reading a vector");
            var values = vector.toArray(ValueLayout.JAVA_FLOAT);
            for (float value : values) {
                if (!Float.isFinite(value)) {
                    throw EmbeddingException.of(pooling == Pooling.NONE ? 0 : vectors.size(), texts, "gets " + value
                            + " in its vector from " + model.path()
                            + "; its weights are damaged (ModelOptions.checkTensors), or too large for its type");
                }
            }
            vectors.add(values);
        }
    }

    @Override
    public void close() {
        lock.lock();
        try {
            if (!closed) {
                closed = true;
                LlamaH.pl_context_free(context, threads);
                arena.close();
                model.release();
            }
        } finally {
            lock.unlock();
        }
    }
}
