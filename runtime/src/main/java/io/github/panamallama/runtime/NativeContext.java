package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_batch;
import io.github.panamallama.bindings.llama_context_params;
import io.github.panamallama.bindings.pl_flags;
import io.github.panamallama.bindings.pl_thread_options;
import io.github.panamallama.runtime.gguf.GgufMetadata;
import io.github.panamallama.runtime.natives.NativeError;
import io.github.panamallama.runtime.natives.Natives;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;

/**
 * One native context with its batch arrays: the words of llama.h in Java, without policy. Everything but {@link #abort} belongs to
 * whoever leads the {@link DecodeLoop}.
 */
final class NativeContext {
    /** Upstream's result when no cells were found; the context is unchanged. */
    static final int NO_CELLS = 1;
    /** Upstream's result after an abort; evaluated parts stay in the cache. */
    static final int ABORTED = 2;

    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT;

    private final Arena arena = Arena.ofShared();
    private final MemorySegment context;
    private final MemorySegment threads;
    private final int singleThreads;
    private final int batchThreads;
    /** Null unless the engine is to be polite. */
    private final Politeness politeness;
    private final MemorySegment memory;
    private final NativeError failure = new NativeError();
    private final MemorySegment error = failure.segment();
    private final MemorySegment flags;
    private static final int CONTEXT_UNIT = 256;

    private final int contextSize;
    private final int batchSize;
    private final int vocabularySize;
    private final boolean recurrent;
    private final int window;

    private final MemorySegment batch;
    private final MemorySegment tokens;
    private final MemorySegment positions;
    private final MemorySegment idCounts;
    private final MemorySegment idPointers;
    private final MemorySegment seqIds;
    private final MemorySegment outputs;
    /** Ids of tree nodes, which belong to several sequences; used up from the front in each batch. */
    private final MemorySegment sharedIds;
    private long sharedIdsUsed;
    private int sharedSince;
    private int size;
    /** Written by the leader alone. */
    private volatile long decodeNanos;
    private boolean broken;
    private final int ids;
    private final int ubatchSize;
    /** Null until a sequence with adapters is made. */
    private AdapterBank adapters;
    /** Null until a sequence with a plan or a tap is made. */
    private BlockControl blocks;
    private final Model model;
    /** Null without one. */
    private final MtpContext mtp;
    /** What an encoder reads, tokens that belong to every sequence id; null until it is used. */
    private MemorySegment sourceBatch;
    /** What the context's one encoder output is of; null for nothing. */
    private int[] encoded;

    /** @param control null for none */
    NativeContext(Model model, EngineOptions options, ControlVector control) {
        Natives.load();
        this.model = model;
        flags = pl_flags.allocate(arena);
        MemorySegment created = MemorySegment.NULL;
        MemorySegment pool = MemorySegment.NULL;
        try {
            created = LlamaH.pl_context_new(model.handle(), parameters(model, options), options.spareLayers(), error);
            if (failure.outOfMemory()) {
                throw MemoryCheck.exhausted(model, options, failure.message());
            }
            if (failure.failed()) {
                throw new ModelLoadException("no context for " + model.path() + " with " + options + ": " + failure.message());
            }
            memory = LlamaH.llama_get_memory(created);
            if (memory.equals(MemorySegment.NULL)) {
                throw new ModelLoadException(model.path() + " has no KV cache (an encoder or diffusion model); "
                        + "an Engine evaluates decoder models only; an Embedder or Reranker makes vectors and scores");
            }
            int single = options.threads() > 0 ? options.threads() : options.scheduling().usualThreads();
            int many = options.batchThreads() > 0 ? options.batchThreads() : single;
            options.scheduling().requireRoomFor(Math.max(single, many));
            pool = LlamaH.pl_threads_attach(created, threadOptions(arena, options, single, many), error);
            failure.check("starting " + single + " and " + many + " threads");
            singleThreads = single;
            batchThreads = many;
        } catch (RuntimeException e) {
            LlamaH.pl_context_free(created, pool);
            arena.close();
            throw e;
        }
        context = created;
        threads = pool;
        contextSize = LlamaH.llama_n_ctx(context);
        batchSize = Math.min(options.batchSize(), contextSize);
        vocabularySize = model.vocabulary().size();
        recurrent = model.isRecurrent() || model.isHybrid();
        window = model.slidingWindow();
        ids = options.maxSequences();
        politeness = options.scheduling().polite() ? Politeness.ofThisMachine() : null;
        ubatchSize = Math.min(options.ubatchSize(), LlamaH.llama_n_ubatch(context));

        batch = llama_batch.allocate(arena);
        tokens = arena.allocate(INT, batchSize);
        positions = arena.allocate(INT, batchSize);
        idCounts = arena.allocate(INT, batchSize);
        idPointers = arena.allocate(ValueLayout.ADDRESS, batchSize + 1L);
        seqIds = arena.allocate(INT, batchSize);
        outputs = arena.allocate(ValueLayout.JAVA_BYTE, batchSize);
        sharedIds = arena.allocate(INT, (long) batchSize * options.maxSequences());
        llama_batch.token(batch, tokens);
        llama_batch.embd(batch, MemorySegment.NULL);
        llama_batch.pos(batch, positions);
        llama_batch.n_seq_id(batch, idCounts);
        llama_batch.seq_id(batch, idPointers);
        llama_batch.logits(batch, outputs);
        for (int i = 0; i < batchSize; i++) {
            pointToOwnId(i);
        }
        try {
            if (control != null) {
                control(control);
            }
            mtp = model.options().mtp() ? new MtpContext(model, options, context, threads, flags, batch, batchSize, failure) : null;
        } catch (RuntimeException e) {
            LlamaH.pl_context_free(context, threads);
            arena.close();
            throw e;
        }
    }

    static MemorySegment threadOptions(Arena arena, EngineOptions options, int single, int many) {
        var scheduling = options.scheduling();
        var o = pl_thread_options.allocate(arena);
        pl_thread_options.n_threads(o, single);
        pl_thread_options.n_threads_batch(o, many);
        pl_thread_options.poll(o, scheduling.polite() ? 0 : options.polling());
        pl_thread_options.priority(o, scheduling.nativePriority());
        pl_thread_options.niceness(o, scheduling.niceness());
        pl_thread_options.strict(o, scheduling.strict());
        pl_thread_options.cpus(o, arena.allocateFrom(INT, scheduling.cpus().stream().mapToInt(Integer::intValue).toArray()));
        pl_thread_options.n_cpus(o, scheduling.cpus().size());
        return o;
    }

    /** Sets what is added to the blocks' outputs, and makes sure that they are graphs of those where it is. */
    private void control(ControlVector vector) {
        var before = new Row(vocabularySize);
        var after = new Row(vocabularySize);
        boolean checked = !vector.isZero();
        if (checked) {
            evaluateFirst(before);
        }
        try (var scratch = Arena.ofConfined()) {
            var data = scratch.allocateFrom(ValueLayout.JAVA_FLOAT, vector.data());
            int code = LlamaH.pl_set_adapter_cvec(context, data, data.byteSize() / 4, model.embeddingSize(), 1, model.layerCount() - 1,
                    error);
            failure.check("setting the control vector");
            if (code != 0) {
                throw new AdapterException("the control vector was refused: " + describe(code));
            }
        }
        if (checked) {
            evaluateFirst(after);
            if (before.segment().mismatch(after.segment()) < 0) {
                throw new AdapterException(model.path() + " does not look at control vectors: the graph of " + model.architecture()
                        + " has no place for them");
            }
        }
    }

    private void evaluateFirst(Row row) {
        begin();
        add(0, 0, 0, true);
        if (decode(null, null, null) != 0) {
            throw new DecodeException("native code could not evaluate a token: " + failure.message());
        }
        logits(0, row);
        remove(0, 0);
    }

    /** Native parameters for a model with this metadata, as far as they decide about memory. */
    static MemorySegment parameters(Arena arena, GgufMetadata metadata, EngineOptions options) {
        var p = LlamaH.llama_context_default_params(arena);
        // as llama.cpp rounds it, but before it limits batches to the context
        llama_context_params.n_ctx(p, Math.ceilDiv(contextSize(metadata, options), CONTEXT_UNIT) * CONTEXT_UNIT);
        // llama.cpp plans for an output of every sequence and asserts that a batch has room for them
        llama_context_params.n_batch(p, Math.max(options.batchSize(), options.maxSequences()));
        llama_context_params.n_ubatch(p, options.ubatchSize());
        llama_context_params.n_seq_max(p, options.maxSequences());
        llama_context_params.type_k(p, options.keyType().id());
        llama_context_params.type_v(p, options.valueType().id());
        llama_context_params.flash_attn_type(p, switch (options.flashAttention()) {
            case AUTO -> LlamaH.LLAMA_FLASH_ATTN_TYPE_AUTO();
            case ON -> LlamaH.LLAMA_FLASH_ATTN_TYPE_ENABLED();
            case OFF -> LlamaH.LLAMA_FLASH_ATTN_TYPE_DISABLED();
        });
        llama_context_params.kv_unified(p, true);
        llama_context_params.swa_full(p, false);
        return p;
    }

    private MemorySegment parameters(Model model, EngineOptions options) {
        var p = parameters(arena, model.gguf().metadata(), options);
        runtimeParameters(p, flags);
        return p;
    }

    static void runtimeParameters(MemorySegment p, MemorySegment flags) {
        llama_context_params.no_perf(p, true);
        llama_context_params.abort_callback(p, LlamaH.pl_abort_callback$address());
        llama_context_params.abort_callback_data(p, flags);
    }

    /** The context that these options ask for, in tokens, before upstream rounds it up; 0 stands for the model's own. */
    static int contextSize(GgufMetadata metadata, EngineOptions options) {
        if (options.contextSize() > 0) {
            return options.contextSize();
        }
        long trained = metadata.integer(metadata.string("general.architecture").orElse("") + ".context_length").orElse(0);
        return (int) Math.clamp(trained, 256, EngineOptions.DEFAULT_CONTEXT_LIMIT);
    }

    void close() {
        if (adapters != null) {
            adapters.close();
        }
        if (blocks != null) {
            blocks.close();
        }
        if (mtp != null) {
            mtp.close();
        }
        LlamaH.pl_context_free(context, threads);
        arena.close();
    }

    /** What model and context take, by device. */
    MemoryEstimate memory() {
        return MemoryCheck.used(context, model);
    }

    int contextSize() {
        return contextSize;
    }

    int batchSize() {
        return batchSize;
    }

    /** Most tokens of one compute graph, and of what an encoder reads. */
    int ubatchSize() {
        return ubatchSize;
    }

    /** Lets another thread of the system run on this core, which {@link Thread#yield} does not do for a virtual thread. */
    void yieldCore() {
        LlamaH.pl_yield();
    }

    /** Whether an assertion of native code failed in this context: nothing but {@link #close} is safe any more. */
    boolean broken() {
        return broken;
    }

    /** Whether any suffix can be taken off a sequence without loss: a plain KV cache. */
    boolean forgetsSingleTokens() {
        return !recurrent && window == 0;
    }

    boolean recurrent() {
        return recurrent;
    }

    /** The context of the model's MTP head, null without one. */
    MtpContext mtp() {
        return mtp;
    }

    /**
     * Most sequences in one batch. Caches that forget no single tokens may evaluate the tokens of several in another order than the
     * batch's, in which hidden states could not be told apart.
     */
    int maxBatchSequences() {
        return mtp == null || forgetsSingleTokens() ? Integer.MAX_VALUE : 1;
    }

    // --- a batch --------------------------------------------------------------------------------------------------------

    void begin() {
        for (int i = sharedSince; i < size; i++) {
            pointToOwnId(i);
        }
        sharedSince = batchSize;
        sharedIdsUsed = 0;
        size = 0;
    }

    private void pointToOwnId(int i) {
        idPointers.setAtIndex(ValueLayout.ADDRESS, i, seqIds.asSlice(i * 4L, 4));
        idCounts.setAtIndex(INT, i, 1);
    }

    /** Adds a token of one sequence and returns the batch's new size. */
    int add(int token, int position, int id, boolean output) {
        int i = size++;
        if (mtp != null) {
            mtp.forgetDraft(id);
        }
        tokens.setAtIndex(INT, i, token);
        positions.setAtIndex(INT, i, position);
        seqIds.setAtIndex(INT, i, id);
        outputs.set(ValueLayout.JAVA_BYTE, i, (byte) (output ? 1 : 0));
        return size;
    }

    /** Adds a token that several sequences share and returns the batch's new size. */
    int add(int token, int position, int[] owners, boolean output) {
        int i = size;
        add(token, position, owners[0], output);
        if (owners.length > 1) {
            long bytes = owners.length * 4L;
            var shared = sharedIds.asSlice(sharedIdsUsed, bytes);
            MemorySegment.copy(owners, 0, shared, INT, 0, owners.length);
            sharedIdsUsed += bytes;
            idPointers.setAtIndex(ValueLayout.ADDRESS, i, shared);
            idCounts.setAtIndex(INT, i, owners.length);
            sharedSince = Math.min(sharedSince, i);
        }
        return size;
    }

    /**
     * Evaluates the batch: 0, {@link #NO_CELLS}, {@link #ABORTED}, or a negative code of upstream.
     *
     * @param plan   null for every block once
     * @param tap    what is read; null for nothing
     * @param source what the decoder's tokens were made of; null in models without encoder
     */
    int decode(LayerPlan plan, Tap tap, int[] source) {
        if (source != null) {
            int code = encode(source);
            if (code != 0) {
                return code;
            }
        }
        llama_batch.n_tokens(batch, size);
        if (blocks != null) {
            blocks.use(plan);
            blocks.tap(tap);
        }
        long begin = System.nanoTime();
        if (politeness != null && politeness.look(begin)) {
            LlamaH.pl_threads_use(threads, context, politeness.threads(singleThreads), politeness.threads(batchThreads));
        }
        int code = adapters == null && blocks == null ? LlamaH.pl_decode(context, batch, error)
                : LlamaH.pl_hooked_decode(context, adapters == null ? MemorySegment.NULL : adapters.handle(),
                        blocks == null ? MemorySegment.NULL : blocks.handle(), batch, error);
        boolean following = code == 0 && mtp != null;
        if (following) {
            code = mtp.follow(size);
        }
        decodeNanos += System.nanoTime() - begin;
        if (failure.failed() || following && code != 0 && code != ABORTED) {
            broken |= failure.assertionFailed();
            throw new DecodeException("native code failed to evaluate " + size + " tokens" + (following ? " with the MTP head: " : ": ")
                    + describe(code));
        }
        return code;
    }

    /** Makes the encoder's output, of which a context has one, that of a source: 0 or {@link #ABORTED}. */
    private int encode(int[] source) {
        if (Arrays.equals(source, encoded)) {
            return 0;
        }
        if (sourceBatch == null) {
            sourceBatch = sourceBatch();
        }
        MemorySegment.copy(source, 0, llama_batch.token(sourceBatch).reinterpret(4L * source.length), INT, 0, source.length);
        llama_batch.n_tokens(sourceBatch, source.length);
        encoded = null;
        long begin = System.nanoTime();
        int code = LlamaH.pl_encode(context, sourceBatch, error);
        decodeNanos += System.nanoTime() - begin;
        if (failure.failed() || code != 0 && code != ABORTED) {
            broken |= failure.assertionFailed();
            throw new DecodeException("native code failed to encode " + source.length + " tokens: " + describe(code));
        }
        encoded = code == 0 ? source : null;
        return code;
    }

    private MemorySegment sourceBatch() {
        var all = arena.allocate(INT, ids);
        for (int i = 0; i < ids; i++) {
            all.setAtIndex(INT, i, i);
        }
        var places = arena.allocate(INT, ubatchSize);
        var counts = arena.allocate(INT, ubatchSize);
        var pointers = arena.allocate(ValueLayout.ADDRESS, ubatchSize + 1L);
        for (int i = 0; i < ubatchSize; i++) {
            places.setAtIndex(INT, i, i);
            counts.setAtIndex(INT, i, ids);
            pointers.setAtIndex(ValueLayout.ADDRESS, i, all);
        }
        var source = llama_batch.allocate(arena);
        llama_batch.token(source, arena.allocate(INT, ubatchSize));
        llama_batch.embd(source, MemorySegment.NULL);
        llama_batch.pos(source, places);
        llama_batch.n_seq_id(source, counts);
        llama_batch.seq_id(source, pointers);
        llama_batch.logits(source, arena.allocate(ubatchSize).fill((byte) 1));
        return source;
    }

    /** {@link MtpContext#advance} of the model's head; false when it found no cells. */
    boolean draft(List<Work.Draft> drafts) {
        long begin = System.nanoTime();
        int code = mtp.advance(drafts);
        decodeNanos += System.nanoTime() - begin;
        if (code != 0 && code != NO_CELLS) {
            broken |= failure.assertionFailed();
            throw new DecodeException("native code failed to evaluate drafts: " + describe(code));
        }
        return code == 0;
    }

    /** Time in {@link #decode} since the context was made. Any thread. */
    long decodeNanos() {
        return decodeNanos;
    }

    /** What upstream said about the code that the last {@link #decode} gave. */
    String describe(int code) {
        return failure.message().isEmpty() ? "code " + code : failure.message() + " (code " + code + ")";
    }

    /** Copies the logits after batch entry {@code i} into {@code row}. */
    void logits(int i, Row row) {
        LlamaH.pl_get_logits(context, i, row.segment(), vocabularySize, error);
        if (failure.failed()) {
            broken |= failure.assertionFailed();
            throw new DecodeException("native code failed to give logits: " + failure.message());
        }
    }

    /** Ends the running {@link #decode}, or the next one if none is running. Any thread, while the context is open. */
    void abort() {
        pl_flags.cancel(flags, 1);
    }

    void clearAbort() {
        pl_flags.cancel(flags, 0);
    }

    // --- adapters -------------------------------------------------------------------------------------------------------

    /** Makes the adapters and plans of a new sequence ready. */
    void adopt(Sequence sequence) {
        for (int i = 0; i < sequence.adaptation.spans(); i++) {
            var plan = sequence.adaptation.variant(i).plan();
            if (plan != null) {
                blocks().check(plan);
            }
        }
        if (sequence.heldSets().length == 0) {
            return;
        }
        if (adapters == null) {
            adapters = new AdapterBank(context, ids, failure);
        }
        adapters.adopt(sequence);
    }

    /** A sequence that was adopted is closed. */
    void release(Sequence sequence) {
        if (adapters != null) {
            adapters.release(sequence);
        }
    }

    /** Says under which adapters the positions of an id are evaluated from now on. */
    void assign(int id, Adaptation adaptation) {
        if (adapters != null) {
            adapters.assign(id, adaptation);
        }
    }

    // --- blocks -----------------------------------------------------------------------------------------------------------

    /** Makes sure that the graph has what a tap reads. */
    void watch(Tap tap) {
        blocks().tap(tap);
    }

    /** What the last decode read of batch entry {@code i}. */
    Tap.Reading reading(int i, int position, int token, int node) {
        return blocks.reading(i, position, token, node);
    }

    private BlockControl blocks() {
        if (blocks == null) {
            blocks = new BlockControl(context, model, failure);
        }
        return blocks;
    }

    // --- the cache ------------------------------------------------------------------------------------------------------

    /** Removes the positions of a sequence from {@code from} on; removing all of them never fails. */
    boolean remove(int id, int from) {
        boolean removed = LlamaH.pl_memory_seq_rm(memory, id, from, -1, error);
        failure.check("access to the KV cache");
        if (removed && mtp != null) {
            mtp.remove(id, from);
        }
        return removed;
    }

    /** Shares the cells of positions {@code [from, to)} of one sequence with another. */
    void copy(int source, int target, int from, int to) {
        // a recurrent state has no parts: it goes over whole
        LlamaH.pl_memory_seq_cp(memory, source, target, recurrent ? -1 : from, recurrent ? -1 : to, error);
        failure.check("access to the KV cache");
        if (mtp != null) {
            mtp.copy(source, target, from, to);
        }
    }

    /** Makes a sequence end at {@code length}; false when what is left would not be a complete history of that length. */
    boolean forgets(int id, int length) {
        if (!remove(id, length)) {
            return false;
        }
        int last = LlamaH.pl_memory_seq_pos_max(memory, id, error);
        failure.check("access to the KV cache");
        int first = LlamaH.pl_memory_seq_pos_min(memory, id, error);
        failure.check("access to the KV cache");
        int oldestSeen = window > 0 ? Math.max(0, length - window) : 0; // by the next token
        return last == length - 1 && (recurrent || first <= oldestSeen);
    }

    /** Keeps what can't be computed backwards: the recurrent state, or the cells of the sliding window. */
    Sequence.Checkpoint save(int id, int length) {
        return save(id, length, null);
    }

    /** @param before one that is not needed any more, whose memory is used again where it fits; may be null */
    Sequence.Checkpoint save(int id, int length, Sequence.Checkpoint before) {
        int kind = LlamaH.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY();
        long bytes = LlamaH.pl_state_seq_get_size(context, id, kind, error);
        failure.check("access to the KV cache");
        var state = before != null && before.state().byteSize() == bytes ? before.state() : Arena.ofAuto().allocate(bytes, 64);
        LlamaH.pl_state_seq_get_data(context, state, bytes, id, kind, error);
        failure.check("access to the KV cache");
        return new Sequence.Checkpoint(length, state);
    }

    /** Puts a sequence back to a checkpoint of its own history. */
    boolean restore(int id, Sequence.Checkpoint checkpoint) {
        long read = LlamaH.pl_state_seq_set_data(
                context, checkpoint.state(), checkpoint.state().byteSize(), id, LlamaH.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY(), error);
        if (failure.failed() || read == 0) {
            return false;
        }
        return forgets(id, checkpoint.length());
    }

    // --- whole states ---------------------------------------------------------------------------------------------------

    /** Evaluates one token at the start of an id that holds nothing; false without a free cell. */
    boolean evaluateOne(int id) {
        assign(id, Adaptation.NONE);
        begin();
        add(0, 0, id, false);
        int code = decode(null, null, null);
        if (code != 0 && code != NO_CELLS) {
            throw new DecodeException("native code could not evaluate a token: " + describe(code));
        }
        return code == 0;
    }

    /** What native code keeps of a sequence. */
    MemorySegment state(int id, Arena arena) {
        long bytes = LlamaH.pl_state_seq_get_size(context, id, 0, error);
        failure.check("reading the state of a sequence");
        var state = arena.allocate(bytes, 64);
        LlamaH.pl_state_seq_get_data(context, state, bytes, id, 0, error);
        failure.check("reading the state of a sequence");
        return state;
    }

    /** Gives an id that holds nothing a state of {@code length} tokens, which has been checked; false where it doesn't fit. */
    boolean putState(int id, MemorySegment state, int length) {
        long read = LlamaH.pl_state_seq_set_data(context, state, state.byteSize(), id, 0, error);
        if (failure.assertionFailed()) {
            broken = true;
            throw new DecodeException("native code failed to take the state of a sequence: " + failure.message());
        }
        return !failure.failed() && read == state.byteSize() && forgets(id, length);
    }
}
