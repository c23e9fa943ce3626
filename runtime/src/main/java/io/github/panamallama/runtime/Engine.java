package io.github.panamallama.runtime;

import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.channels.ReadableByteChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;

/**
 * One native context: the KV cache, the compute buffers and the decode loop. The only way to evaluate tokens.
 *
 * <p>Thread rule: any thread may call. Calls that wait at the same time are merged into one batch, so that many conversations
 * share the reading of the weights; plain sequential code on virtual threads is the natural style. A sole caller evaluates on its
 * own thread without any hand-over.
 *
 * <p>The cache is one pool of {@link #contextSize} cells for all sequences. When it or the native sequence ids run out, sequences
 * that are idle give theirs back and are evaluated again when they go on; see {@link EngineStats#evictions}.
 */
public final class Engine implements AutoCloseable {
    private final Model model;
    private final EngineOptions options;
    private final ControlVector control;
    private final DecodeLoop loop;
    private final MemoryEstimate memory;
    private final int contextSize;
    private final int longest;
    private final int batchSize;
    private final int vocabularySize;
    private final boolean recurrent;
    private final AtomicLong births = new AtomicLong();
    private final AtomicBoolean closed = new AtomicBoolean();

    private Engine(Model model, EngineOptions options, NativeContext context, ControlVector control) {
        this.model = model;
        this.control = control;
        int threads = options.threads() > 0 ? options.threads() : options.scheduling().usualThreads();
        this.options = options.withThreads(threads).withBatchThreads(options.batchThreads() > 0 ? options.batchThreads() : threads);
        this.memory = context.memory();
        this.loop = new DecodeLoop(context, options);
        this.contextSize = context.contextSize();
        this.longest = (int) Math.min(contextSize, model.learnedPositions());
        this.batchSize = context.batchSize();
        this.recurrent = context.recurrent();
        this.vocabularySize = model.vocabulary().size();
    }

    /** An engine with {@link EngineOptions#defaults}. */
    public static Engine open(Model model) {
        return open(model, EngineOptions.defaults());
    }

    /**
     * Makes a context for {@code model}. The model can't be closed before the engine.
     *
     * @throws InsufficientMemoryException when cache and buffers would not fit into the memory that is available; nothing was
     *                                     allocated
     * @throws ModelLoadException          when the model has no KV cache or native code refuses the options
     * @throws ClosedException             when the model is closed
     */
    public static Engine open(Model model, EngineOptions options) {
        return open(model, options, null);
    }

    /**
     * An engine whose sequences are all evaluated with a control vector. That costs the evaluation of two tokens now, which tell whether
     * the architecture looks at control vectors.
     *
     * @param control null for none
     * @throws AdapterException         if the model's graph has no place for it, or the model has an encoder
     * @throws IllegalArgumentException if it is for another model
     */
    public static Engine open(Model model, EngineOptions options, ControlVector control) {
        if (control != null && control.model() != model) {
            throw new IllegalArgumentException("the control vector was loaded for another model, " + control.model().path());
        }
        if (control != null && model.hasEncoder()) {
            throw new AdapterException(model.path() + " has an encoder; control vectors are for decoders");
        }
        model.retain();
        try {
            MemoryCheck.ensure(model, options);
            return new Engine(model, options, new NativeContext(model, options, control), control);
        } catch (Throwable e) {
            model.release();
            throw e;
        }
    }

    /** The model that this engine evaluates. */
    public Model model() {
        return model;
    }

    /** What the model and this engine take on each device, as they were made: what went where. */
    public MemoryEstimate memory() {
        return memory;
    }

    /** The options it was made with, with the numbers of threads that were chosen. */
    public EngineOptions options() {
        return options;
    }

    /** What is added to the outputs of the model's blocks; null for nothing. */
    public ControlVector control() {
        return control;
    }

    /**
     * Cells of the KV cache, in tokens: the longest sequence, and what all sequences share. In a model with learned positions, such as
     * GPT-2, a sequence is never longer than {@link Model#contextLength}.
     */
    public int contextSize() {
        return contextSize;
    }

    /** The longest sequence in tokens: {@link #contextSize}, or less where the model learned fewer positions. */
    int longest() {
        return longest;
    }

    /** A row that fits this model's vocabulary. */
    public Row newRow() {
        return new Row(vocabularySize);
    }

    /**
     * An empty sequence. It costs nothing until tokens are appended.
     *
     * @throws LlamaException if the model has an encoder, which has to read something first
     */
    public Sequence newSequence() {
        if (model.hasEncoder()) {
            throw new LlamaException(model.path() + " has an encoder: give newSequence the tokens that it reads");
        }
        return adopt(new int[16], 0, Variant.PLAIN, Adaptation.NONE);
    }

    /**
     * An empty sequence for what an encoder-decoder (T5) makes of a text; its first token is {@link Model#decoderStart}. Forks share the
     * source, and {@link Sequence#truncate} forgets written tokens alone.
     *
     * <p>A context holds the encoder's output of one source, which is kept as long as the sequences that are evaluated have it. Sequences
     * of one source share batches as any others do; those of several take turns, and each turn encodes its source again. Where several
     * sources are written for at the same time, several engines of the model are faster.
     *
     * @param source 1 to {@link EngineOptions#ubatchSize} tokens, with those that the vocabulary adds
     * @throws LlamaException       if the model has no encoder
     * @throws ContextFullException if the source is too long
     */
    public Sequence newSequence(int[] source) {
        if (!model.hasEncoder()) {
            throw new LlamaException(model.path() + " has no encoder; append the tokens to a sequence");
        }
        if (source.length == 0) {
            throw new IllegalArgumentException("the encoder has nothing to read: the source is empty");
        }
        if (source.length > loop.longestSource()) {
            throw new ContextFullException("a source of " + source.length + " tokens; the encoder reads at most " + loop.longestSource()
                    + " at once, raise EngineOptions.ubatchSize");
        }
        for (int token : source) {
            checkToken(token);
        }
        var sequence = adopt(new int[16], 0, Variant.PLAIN, Adaptation.NONE);
        sequence.source = source.clone();
        return sequence;
    }

    /**
     * An empty sequence that is evaluated under adapters. Sequences under different sets share batches as any others do.
     *
     * @throws AdapterException when an adapter can't be applied to this model
     * @throws ClosedException  when an adapter is closed
     * @throws IllegalArgumentException when an adapter belongs to another model
     */
    public Sequence newSequence(AdapterSet adapters) {
        return newSequence(adapters, LayerPlan.all(model.layerCount()));
    }

    /**
     * An empty sequence that is evaluated with some blocks left out, in part or repeated.
     *
     * @throws LayerPlanException when the plan does not fit the model, its architecture or the engine's spare layers
     */
    public Sequence newSequence(LayerPlan plan) {
        return newSequence(AdapterSet.none(), plan);
    }

    /**
     * An empty sequence that is evaluated under adapters and with some blocks left out, in part or repeated.
     *
     * @throws AdapterException when an adapter can't be applied to this model
     * @throws ClosedException  when an adapter is closed
     * @throws IllegalArgumentException when an adapter belongs to another model
     * @throws LayerPlanException when the plan does not fit the model, its architecture or the engine's spare layers
     */
    public Sequence newSequence(AdapterSet adapters, LayerPlan plan) {
        checkPlan(plan);
        var own = new Variant(adapters, plan);
        return own.equals(Variant.PLAIN) ? newSequence()
                : adopt(new int[16], 0, own, Adaptation.of(new Variant(adapters.inactive(), plan)));
    }

    /**
     * A sequence of the model as it is, as {@link Sequence#save(Path)} wrote it.
     *
     * @throws StateException as {@link #restore(Path, AdapterSet, LayerPlan)}
     */
    public Sequence restore(Path file) {
        return restore(file, AdapterSet.none(), LayerPlan.all(model.layerCount()));
    }

    /**
     * A sequence as {@link Sequence#save(Path)} wrote it, with its cells: nothing of it is evaluated, unless others need all cells. What
     * the file says is compared with this engine and checked in full before native code sees it. The first time costs the evaluation of
     * one token.
     *
     * @param adapters those that it was saved under
     * @param plan     the one that it was saved with
     * @throws StateException       if the file can't be read, holds no sequence or is damaged, or the model, the adapters, the plan, the
     *                              types of cached keys and values, the spare layers, the use of flash attention or the version of
     *                              llama.cpp differ; or if the model keeps something beside its cache
     * @throws ContextFullException if the sequence is longer than the context
     */
    public Sequence restore(Path file, AdapterSet adapters, LayerPlan plan) {
        try (var in = FileChannel.open(file, StandardOpenOption.READ)) {
            return restore(in, adapters, plan);
        } catch (StateException e) {
            throw new StateException(file + ": " + e.getMessage(), e);
        } catch (ContextFullException e) {
            throw new ContextFullException(file + ": " + e.getMessage());
        } catch (IOException e) {
            throw new StateException(file + " can't be read: " + LlamaException.reason(e), e);
        }
    }

    /**
     * As {@link #restore(Path, AdapterSet, LayerPlan)}, from a stream that ends where the sequence does.
     *
     * @throws IOException if the stream does
     */
    public Sequence restore(InputStream in, AdapterSet adapters, LayerPlan plan) throws IOException {
        return restore(Channels.newChannel(in), adapters, plan);
    }

    private Sequence restore(ReadableByteChannel in, AdapterSet adapters, LayerPlan plan) throws IOException {
        checkStates();
        checkPlan(plan);
        var reader = new StateFile.Reader(in);
        var header = reader.header();
        StateFile.Key.of(this, adapters, plan).check(header.key());
        if (header.tokens() < 0) {
            throw new StateException("it is damaged: " + header.tokens() + " tokens");
        }
        if (header.tokens() > longest) {
            throw new ContextFullException("a sequence of " + header.tokens() + " tokens does not fit in " + longest
                    + " cells; raise EngineOptions.contextSize");
        }
        var layout = stateLayout();
        long most = header.tokens() == 0 ? 0 : layout.most(header.tokens());
        if (header.state() < 0 || header.state() > most) {
            throw new StateException("it is damaged: a state of " + header.state() + " bytes, where " + header.tokens()
                    + " tokens take at most "
                    + most);
        }
        var tokens = reader.tokens();
        for (int token : tokens) {
            if (token < 0 || token >= vocabularySize) {
                throw new StateException("it is damaged: token " + token + " is not in the vocabulary of " + vocabularySize);
            }
        }
        checkActivation(header.activation(), tokens, adapters.invocation());
        try (var arena = Arena.ofShared()) {
            var state = arena.allocate(header.state(), 64);
            reader.state(state);
            reader.end();
            if (tokens.length > 0) {
                layout.check(state, tokens, tokens.length, model.slidingWindow());
            }
            var sequence = newSequence(adapters, plan);
            try {
                sequence.restore(tokens, header.activation(), state);
                return sequence;
            } catch (Throwable e) {
                sequence.close();
                throw e;
            }
        }
    }

    private static void checkActivation(int at, int[] tokens, int[] invocation) {
        boolean inside = at >= 0 && at <= tokens.length - invocation.length;
        if (at < -1 || at >= 0 && (invocation.length == 0 || !inside
                || !Arrays.equals(tokens, at, at + invocation.length, invocation, 0, invocation.length))) {
            throw new StateException("it is damaged: no adapter of the set is switched on at token " + at);
        }
    }

    /**
     * Evaluates runs of tokens behind one or more sequences and waits for all of them. They go through the same native calls as
     * far as they fit.
     *
     * @throws ContextFullException     when a sequence would be longer than the context; nothing was appended to any
     * @throws DecodeCancelledException when one of them was cancelled; the others are complete
     */
    public void decode(Append... appends) {
        if (appends.length == 0) {
            return;
        }
        int entered = 0;
        try {
            var requests = new Work.Request[appends.length];
            for (; entered < appends.length; entered++) {
                var sequence = appends[entered].sequence;
                if (sequence.engine() != this) {
                    throw new IllegalArgumentException("append " + entered + " belongs to a sequence of another engine");
                }
                sequence.enter();
                requests[entered] = sequence.request;
            }
            for (var append : appends) {
                append.sequence.stage(append);
            }
            for (var append : appends) {
                append.sequence.prepare(append.tokens.length);
            }
            loop.call(new Ticket(), requests);
            RuntimeException failure = null;
            for (var append : appends) {
                try {
                    append.sequence.conclude();
                } catch (RuntimeException e) {
                    if (failure == null) {
                        failure = e;
                    }
                }
            }
            if (failure != null) {
                throw failure;
            }
        } finally {
            for (int i = 0; i < entered; i++) {
                appends[i].sequence.leave();
            }
        }
    }

    /**
     * Evaluates all branches of a tree in one native call.
     *
     * @param rows one row per node for the logits that follow it; a null element means that they are not wanted
     * @throws ContextFullException when the tree does not fit behind its sequence
     */
    public void decode(TokenTree tree, Row[] rows) {
        tree.evaluate(rows);
    }

    /** What this engine has done and holds. */
    public EngineStats stats() {
        return loop.stats();
    }

    /**
     * Frees the context. Decodes in flight end with {@link ClosedException}; sequences of this engine can't be used any more.
     * Idempotent, any thread.
     */
    @Override
    public void close() {
        if (closed.compareAndSet(false, true)) {
            try {
                loop.shutdown();
            } finally {
                model.release();
            }
        }
    }

    // --- for sequences and trees ----------------------------------------------------------------------------------------

    DecodeLoop loop() {
        return loop;
    }

    Sequence adopt(int[] tokens, int length, Variant own, Adaptation spans) {
        if (closed.get()) {
            throw new ClosedException("the engine is closed");
        }
        var sequence = new Sequence(this, births.getAndIncrement(), tokens, length, own);
        if (own.equals(Variant.PLAIN) && spans == Adaptation.NONE) {
            return sequence;
        }
        if (model.hasEncoder() && !own.adapters().isEmpty()) {
            throw new AdapterException(model.path() + " has an encoder, which adapters can't reach here; merge them into the model");
        }
        for (var entry : own.adapters().entries()) {
            if (entry.adapter().owner() != model) {
                throw new IllegalArgumentException(entry.adapter().name() + " was loaded for another model than this engine's, "
                        + model.path());
            }
        }
        sequence.hold(spans);
        var adopt = new Work.Adopt(sequence);
        loop.call(sequence.ticket(), adopt);
        if (adopt.failure != null) {
            sequence.releaseAdapters();
            throw adopt.failure;
        }
        return sequence;
    }

    void forget(Sequence sequence) {
        loop.post(new Work.Release(sequence));
    }

    void checkToken(int token) {
        if (token < 0 || token >= vocabularySize) {
            throw new IllegalArgumentException("token " + token + " is not in the vocabulary of " + vocabularySize);
        }
    }

    void checkRow(Row row) {
        if (row != null && row.size() != vocabularySize) {
            throw new IllegalArgumentException(
                    "a row of " + row.size() + " logits for a vocabulary of " + vocabularySize + "; use Engine.newRow()");
        }
    }

    void checkStates() {
        if (model.options().mtp() || model.hasEncoder()) {
            throw new StateException(model.path() + " " + (model.hasEncoder() ? "has an encoder, whose output"
                    : "was loaded with its head for multi-token prediction (MTP), whose cache") + " is not saved; save the tokens");
        }
    }

    /** How states are laid out here. */
    StateLayout stateLayout() {
        var probe = new Work.Probe();
        loop.call(new Ticket(), probe);
        if (probe.failure != null) {
            throw probe.failure;
        }
        return requireKnown(probe.layout);
    }

    StateLayout requireKnown(StateLayout layout) {
        if (layout == null) {
            throw new StateException("the cache of " + model.path() + " is of a kind that is not saved; save the tokens");
        }
        return layout;
    }

    /** What can be said of a plan without looking at the graph. */
    void checkPlan(LayerPlan plan) {
        if (plan.blocks() != model.layerCount()) {
            throw new LayerPlanException("the plan '" + plan + "' is for " + plan.blocks() + " blocks; " + model.path() + " has "
                    + model.layerCount());
        }
        if (plan.isFull()) {
            return;
        }
        checkBlocks("layer plans");
        boolean any = false;
        for (int i = 0; i < plan.blocks(); i++) {
            any |= plan.attention(i) || plan.feedForward(i);
        }
        if (!any) {
            throw new LayerPlanException("the plan leaves out every block; at least one has to run");
        }
        if (plan.spareLayers() > options.spareLayers()) {
            throw new LayerPlanException("the plan '" + plan + "' repeats blocks " + plan.spareLayers() + " times; this engine has "
                    + options.spareLayers() + " spare layers, raise EngineOptions.spareLayers");
        }
    }

    private void checkBlocks(String what) {
        if (recurrent || model.hasEncoder()) {
            throw new LayerPlanException(model.path() + " " + (recurrent ? "keeps a recurrent state" : "has an encoder") + ": "
                    + what + " are for decoder models whose blocks keep nothing but keys and values");
        }
    }

    void checkTap(Tap tap) {
        checkBlocks("taps");
        for (int block : tap.hiddenBlocks()) {
            if (block >= model.layerCount()) {
                throw new LayerPlanException("block " + block + " of a tap: the model has blocks 0 to " + (model.layerCount() - 1));
            }
        }
    }

    void checkDraft(int[] tokens, Row row) {
        if (!model.options().mtp()) {
            throw new IllegalStateException(model.path() + " was loaded without a head for multi-token prediction; "
                    + (model.mtpHeads() > 0 ? "load it with ModelOptions.withMtp(true)" : "it has none, so draft with a small model"));
        }
        if (tokens.length < 1 || tokens.length > Sequence.MAX_DRAFT) {
            throw new IllegalArgumentException("a draft of " + tokens.length + " tokens; it must be 1 to " + Sequence.MAX_DRAFT);
        }
        for (int token : tokens) {
            checkToken(token);
        }
        checkRow(Objects.requireNonNull(row, "row"));
    }

    void checkTree(TokenTree tree) {
        if (recurrent) {
            throw new IllegalArgumentException("'" + model.description()
                    + "' keeps a recurrent state, which can't branch inside a batch; fork sequences instead");
        }
        if (tree.size() > batchSize) {
            throw new IllegalArgumentException("a tree of " + tree.size() + " nodes is larger than the batch of " + batchSize);
        }
        if (tree.leaves() > options.maxSequences()) {
            throw new IllegalArgumentException("a tree of " + tree.leaves() + " leaves needs as many sequence ids; this engine has "
                    + options.maxSequences() + ", raise EngineOptions.maxSequences");
        }
    }
}
