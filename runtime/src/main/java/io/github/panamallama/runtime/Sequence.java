package io.github.panamallama.runtime;

import java.io.IOException;
import java.io.OutputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.channels.WritableByteChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Objects;

/**
 * A branch of token history in an {@link Engine}. What the KV cache holds of it is a detail of the engine: cells may be shared
 * with other branches, and may be taken away while the sequence is idle and computed again when it goes on.
 *
 * <p>Thread rule: one caller at a time, any thread. A second caller gets a {@link ConcurrentUseException}. {@link #cancel} and
 * {@link #close} may come from any thread at any time.
 */
public final class Sequence implements AutoCloseable {
    /** Most tokens of a {@link #draft}. */
    public static final int MAX_DRAFT = 32;

    private static final VarHandle BUSY;

    static {
        try {
            BUSY = MethodHandles.lookup().findVarHandle(Sequence.class, "busy", boolean.class);
        } catch (ReflectiveOperationException e) {
            throw new ExceptionInInitializerError(e);
        }
    }

    private final Engine engine;
    private final AdapterSet adapters;
    /** Null for every block once. */
    private final LayerPlan plan;
    /** What the encoder has read; null in models without. Set once, before anybody else sees this. */
    int[] source;
    private final Ticket ticket = new Ticket();
    private volatile boolean closed;
    @SuppressWarnings("unused") // through BUSY
    private volatile boolean busy;

    // the caller's
    int[] tokens;
    int length;
    /** Tokens at the start of the history that did not change since the engine saw it last. */
    int unchanged;
    /** Under which adapters the positions are evaluated. */
    Adaptation adaptation = Adaptation.NONE;
    /** Where the tokens begin that switched the activated adapter of the set on; -1 while it is off. */
    private int activation = -1;
    /** Tokens that were searched for those that switch it on. */
    private int searchFrom;
    /** All sets that {@link #adaptation} may name, kept open until the sequence is closed. */
    private AdapterSet[] held = {};
    private boolean letGo;
    /** What is read while its tokens are evaluated, and by whom; null for nothing. */
    Tap tap;
    Tap.Sink sink;
    final Work.Request request = new Work.Request(this);

    // the leader's
    /** Native sequence id, -1 while no cells are held. */
    int id = -1;
    /** Positions that the native cache holds under {@link #id}. */
    int cells;
    /** Of those, how many belong to the present history. */
    int valid;
    /** Age: a smaller number is older, and wins when cells are short. */
    final long birth;
    /** {@link System#nanoTime} when the last request ended. */
    long lastUse;
    /** Took part in the last step and may be back in a moment. */
    boolean awaited;
    /** Who used it in that step. */
    Thread caller;
    /** States to go back to where the model can't forget single tokens; ascending by length. */
    List<Checkpoint> checkpoints = List.of();
    /** Where the last draft began, kept beside the others for its rejection; null before the first one. Never shared. */
    Checkpoint draftStart;
    /** Of the first {@link #valid} tokens, in an engine with an MTP head. */
    HiddenStates states;

    Sequence(Engine engine, long birth, int[] tokens, int length, Variant own) {
        this.engine = engine;
        this.adapters = own.adapters();
        this.plan = own.plan();
        this.birth = birth;
        this.tokens = tokens;
        this.length = length;
        this.unchanged = length;
    }

    /** The engine that evaluates this sequence. */
    public Engine engine() {
        return engine;
    }

    /** The adapters that it is evaluated under, fixed when it was made. */
    public AdapterSet adapters() {
        return adapters;
    }

    /** The blocks that it is evaluated with, fixed when it was made. */
    public LayerPlan plan() {
        return plan == null ? LayerPlan.all(engine.model().layerCount()) : plan;
    }

    /** What an encoder-decoder has read for this sequence; empty in models without encoder. */
    public int[] source() {
        return source == null ? new int[0] : source.clone();
    }

    /**
     * What the sequence's cache is worth, beside its tokens: from which position on which adapters and which plan were, or will be, in
     * force. One span unless an activated adapter was switched on by its tokens or the cache of another set or plan was taken over
     * ({@link CacheReuse#APPROXIMATE}).
     */
    public List<Span> spans() {
        var spans = adaptation;
        var list = new ArrayList<Span>();
        for (int i = 0; i < spans.spans(); i++) {
            var variant = spans.variant(i);
            list.add(new Span(spans.from(i), variant.adapters(),
                    variant.plan() == null ? LayerPlan.all(engine.model().layerCount()) : variant.plan()));
        }
        return List.copyOf(list);
    }

    /**
     * Positions of a sequence that are evaluated alike.
     *
     * @param from     the first position; the last one is before the next span's
     * @param adapters what is in force there
     * @param plan     the blocks that run there
     */
    public record Span(int from, AdapterSet adapters, LayerPlan plan) {
    }

    /** Tokens at the start of this sequence and another one, at most {@code length}, that both evaluate alike, were they the same. */
    public int evaluatedAlike(Sequence other, int length) {
        return adaptation.common(other.adaptation, length);
    }

    /** Number of tokens. */
    public int length() {
        return length;
    }

    /** Token at {@code index}. */
    public int token(int index) {
        if (index < 0 || index >= length) {
            throw new IndexOutOfBoundsException("token " + index + " of a sequence of " + length);
        }
        return tokens[index];
    }

    /** A copy of the history. */
    public int[] tokens() {
        return Arrays.copyOf(tokens, length);
    }

    /**
     * Appends one token and waits until it is evaluated.
     *
     * @param row receives the logits {@code [n_vocab]} that follow it; null when they are not wanted
     * @throws ContextFullException     when the sequence would be longer than the context
     * @throws DecodeCancelledException when it was cancelled, interrupted or closed; the token is not appended
     */
    public void append(int token, Row row) {
        enter();
        try {
            engine.checkToken(token);
            engine.checkRow(row);
            makeRoom(1);
            tokens[length] = token;
            request.last = row;
            run(1);
        } finally {
            leave();
        }
    }

    /**
     * Appends a run of tokens and waits until they are evaluated. A long run goes in chunks between the steps of others.
     *
     * @param last receives the logits {@code [n_vocab]} that follow the last token; null when they are not wanted
     * @throws ContextFullException     when the sequence would be longer than the context
     * @throws DecodeCancelledException when it was cancelled, interrupted or closed; nothing is appended
     */
    public void append(int[] run, Row last) {
        enter();
        try {
            stage(Append.of(this, run, last));
            run(run.length);
        } finally {
            leave();
        }
    }

    /**
     * A new sequence with the same history, which shares the cells of the cache until the two differ. Costs no evaluation as
     * long as the engine has a free sequence id.
     */
    public Sequence fork() {
        enter();
        try {
            return fork(new Variant(adapters, plan), adaptation, activation, searchFrom);
        } finally {
            leave();
        }
    }

    /**
     * A new sequence with the same tokens under other adapters. What the cache holds of this one is shared as far as both are evaluated
     * under the same adapters: all of it for an equal set, nothing for another one, and everything before the invocation tokens for a
     * set that adds an activated adapter (aLoRA). The rest is evaluated with the child's next append.
     *
     * @throws AdapterException when an adapter can't be applied to this model
     * @throws ClosedException  when an adapter is closed
     * @throws IllegalArgumentException when an adapter belongs to another model
     */
    public Sequence fork(AdapterSet adapters) {
        return fork(adapters, CacheReuse.EXACT);
    }

    /**
     * A new sequence with the same tokens under other adapters.
     *
     * @param reuse what is taken over of the cache where the adapters differ
     * @throws AdapterException when an adapter can't be applied to this model
     * @throws ClosedException  when an adapter is closed
     * @throws IllegalArgumentException when an adapter belongs to another model
     */
    public Sequence fork(AdapterSet adapters, CacheReuse reuse) {
        return fork(adapters, plan(), reuse);
    }

    /**
     * A new sequence with the same tokens and another plan.
     *
     * @param reuse what is taken over of the cache where the plans differ: with {@link CacheReuse#EXACT} nothing, so that all tokens are
     *              evaluated with the child's next append; with {@link CacheReuse#APPROXIMATE} all of it, and the plan is in force for
     *              what is appended. All that it reads must be there: a block that this sequence left out altogether, or repeated less
     *              often, has no keys and values to take over, while {@linkplain LayerPlan#skipKeepingCache one that kept them} has
     * @throws LayerPlanException when the plan does not fit the model, its architecture or the engine's spare layers, or would read keys
     *                            and values that this sequence did not make
     */
    public Sequence fork(LayerPlan plan, CacheReuse reuse) {
        return fork(adapters, plan, reuse);
    }

    /**
     * A new sequence with the same tokens under other adapters and another plan.
     *
     * @param reuse what is taken over of the cache where adapters or plan differ
     * @throws AdapterException when an adapter can't be applied to this model
     * @throws ClosedException  when an adapter is closed
     * @throws IllegalArgumentException when an adapter belongs to another model
     * @throws LayerPlanException when the plan does not fit the model, its architecture or the engine's spare layers, or would read keys
     *                            and values that this sequence did not make
     */
    public Sequence fork(AdapterSet adapters, LayerPlan plan, CacheReuse reuse) {
        enter();
        try {
            engine.checkPlan(plan);
            var own = new Variant(adapters, plan);
            if (own.equals(new Variant(this.adapters, this.plan))) {
                return fork(own, adaptation, activation, searchFrom);
            }
            boolean exact = reuse == CacheReuse.EXACT;
            if (!exact) {
                checkKept(plan);
            }
            int found = exact ? lastInvocation(adapters.invocation()) : -1;
            var inactive = new Variant(adapters.inactive(), plan);
            var spans = exact ? Adaptation.of(inactive) : adaptation.then(length, inactive);
            return fork(own, found < 0 ? spans : spans.then(found, own), found, length);
        } finally {
            leave();
        }
    }

    /** Cells of tokens that were evaluated without a block hold what others left there, not nothing. */
    private void checkKept(LayerPlan plan) {
        for (int i = 0; plan.blocks() == engine.model().layerCount() && i < adaptation.spans() && adaptation.from(i) < length; i++) {
            var earlier = adaptation.variant(i).plan() == null ? LayerPlan.all(plan.blocks()) : adaptation.variant(i).plan();
            var missing = plan.missing(earlier);
            if (missing != null) {
                throw new LayerPlanException("the plan '" + plan + "' reads " + missing + ", and the tokens from position "
                        + adaptation.from(i) + " on were evaluated with '" + earlier + "', without them; keep them there (5:kv), or fork "
                        + "with CacheReuse.EXACT");
            }
        }
    }

    private Sequence fork(Variant own, Adaptation spans, int activation, int searchFrom) {
        var child = engine.adopt(Arrays.copyOf(tokens, Math.max(length, 16)), length, own, spans);
        child.source = source;
        child.activation = activation;
        child.searchFrom = searchFrom;
        var fork = new Work.Fork(this, child, unchanged, adaptation.common(spans, length));
        engine.loop().call(ticket, fork);
        if (fork.failure != null) {
            child.close();
            throw fork.failure;
        }
        unchanged = length;
        return child;
    }

    /**
     * Exchanges the histories of two sequences with all that is cached of them; nothing is evaluated. A branch that turned out to be
     * the right one takes the place of the sequence it came from so.
     *
     * @throws IllegalArgumentException when {@code other} is this sequence or belongs to another engine
     */
    public void exchange(Sequence other) {
        if (other == this || other.engine != engine) {
            throw new IllegalArgumentException(other == this ? "a sequence can't be exchanged with itself"
                    : "sequences of different engines can't be exchanged");
        }
        if (!other.adapters.equals(adapters)) {
            throw new IllegalArgumentException("a sequence under " + adapters + " can't be exchanged with one under " + other.adapters);
        }
        if (!Objects.equals(other.plan, plan)) {
            throw new IllegalArgumentException("a sequence with the plan " + plan() + " can't be exchanged with one with " + other.plan());
        }
        if (!Arrays.equals(other.source, source)) {
            throw new IllegalArgumentException("sequences of different sources can't be exchanged");
        }
        enter();
        try {
            other.enter();
            try {
                var exchange = new Work.Exchange(this, other);
                engine.loop().call(ticket, exchange);
                if (exchange.failure != null) {
                    throw exchange.failure;
                }
                var theirTokens = other.tokens;
                int theirLength = other.length;
                int theirUnchanged = other.unchanged;
                other.tokens = tokens;
                other.length = length;
                other.unchanged = unchanged;
                var theirSpans = other.adaptation;
                int theirActivation = other.activation;
                int theirSearch = other.searchFrom;
                other.adaptation = adaptation;
                other.activation = activation;
                other.searchFrom = searchFrom;
                adaptation = theirSpans;
                activation = theirActivation;
                searchFrom = theirSearch;
                tokens = theirTokens;
                length = theirLength;
                unchanged = theirUnchanged;
            } finally {
                other.leave();
            }
        } finally {
            leave();
        }
    }

    /**
     * Forgets every token from {@code newLength} on. Models that can't forget single tokens (recurrent, hybrid, sliding window)
     * go back to a checkpoint or are evaluated again with the next append.
     */
    public void truncate(int newLength) {
        if (newLength < 0 || newLength > length) {
            throw new IllegalArgumentException("can't truncate a sequence of " + length + " tokens to " + newLength);
        }
        enter();
        try {
            length = newLength;
            unchanged = Math.min(unchanged, newLength);
            deactivate();
        } finally {
            leave();
        }
    }

    /**
     * Reads what happens inside the model while tokens of this sequence are evaluated, from the next append on until another tap takes
     * this one's place or {@link #untap}. Forks are not read.
     *
     * @param sink gets the values of every token, while it is evaluated
     * @throws LayerPlanException when the model is recurrent or has an encoder, or its graph has no such block or weight
     */
    public void tap(Tap tap, Tap.Sink sink) {
        Objects.requireNonNull(sink, "sink");
        enter();
        try {
            engine.checkTap(tap);
            var watch = new Work.Watch(tap);
            engine.loop().call(ticket, watch);
            if (watch.failure != null) {
                throw watch.failure;
            }
            this.tap = tap;
            this.sink = sink;
        } finally {
            leave();
        }
    }

    /** Ends a {@link #tap}. */
    public void untap() {
        enter();
        try {
            tap = null;
            sink = null;
        } finally {
            leave();
        }
    }

    /**
     * What the model's own head for multi-token prediction (MTP) expects behind this history and {@code tokens}, which the model itself
     * has not seen: cheap guesses to be verified. Nothing is appended. A call with the tokens of the last one and one more evaluates one
     * token, by the first head where a model has several. Callers that draft at the same time share a batch.
     *
     * <p>A history that lost its cells is evaluated again before.
     *
     * @param tokens 1 to {@value #MAX_DRAFT} tokens that might come next
     * @param row    receives the head's logits {@code [n_vocab]} behind the last of them
     * @throws IllegalStateException    when the model was loaded without its head ({@link ModelOptions#withMtp}), or this sequence is empty
     * @throws ContextFullException     when the tokens don't fit behind the history
     * @throws DecodeCancelledException when the sequence was cancelled, interrupted or closed while its history was evaluated again
     */
    public void draft(int[] tokens, Row row) {
        enter();
        try {
            engine.checkDraft(tokens, row);
            if (length == 0) {
                throw new IllegalStateException("nothing to draft behind: this sequence is empty");
            }
            if (length + tokens.length > engine.contextSize()) {
                throw new ContextFullException("context full: " + tokens.length + " drafted tokens do not fit behind " + length + " of "
                        + engine.contextSize());
            }
            for (int attempt = 0; attempt < 3; attempt++) {
                var draft = new Work.Draft(this, tokens, row, unchanged);
                engine.loop().call(ticket, draft);
                unchanged = length;
                if (draft.failure != null) {
                    throw draft.failure;
                }
                if (!draft.stale) {
                    return;
                }
                evaluateAgain();
            }
            throw new ContextFullException("others took the cells of this sequence of " + length
                    + " tokens again and again before it could draft; raise EngineOptions.contextSize");
        } finally {
            leave();
        }
    }

    /**
     * Writes tokens and cache to a file, from which {@link Engine#restore(Path)} makes the same sequence again, in this process or another.
     * The file has the size of the cells that are saved. It appears when it is complete, in place of one that is there.
     *
     * <p>A history that lost its cells is evaluated again before.
     *
     * @throws StateException if this sequence took over the cache of another one with {@link CacheReuse#APPROXIMATE}, or the model keeps
     *                        something beside its cache
     * @throws LlamaException if the file can't be written; nothing is left behind then
     */
    public void save(Path file) {
        var unfinished = file.resolveSibling("." + file.getFileName() + "." + ProcessHandle.current().pid() + "." + birth + ".part");
        try {
            try {
                try (var out = FileChannel.open(unfinished, StandardOpenOption.WRITE, StandardOpenOption.CREATE_NEW)) {
                    save(out);
                    out.force(true);
                }
                Quantizer.move(unfinished, file);
            } finally {
                Files.deleteIfExists(unfinished);
            }
        } catch (IOException e) {
            throw new LlamaException("can't write the sequence to " + file + ": " + LlamaException.reason(e), e);
        }
    }

    /**
     * Writes tokens and cache to a stream, as {@link #save(Path)} does to a file.
     *
     * @throws IOException    if the stream does
     * @throws StateException as {@link #save(Path)}
     */
    public void save(OutputStream out) throws IOException {
        save(Channels.newChannel(out));
    }

    private void save(WritableByteChannel out) throws IOException {
        enter();
        try (var arena = Arena.ofShared()) {
            engine.checkStates();
            var inactive = new Variant(adapters.inactive(), plan);
            var own = activation < 0 ? Adaptation.of(inactive) : Adaptation.of(inactive).then(activation, new Variant(adapters, plan));
            if (adaptation.common(own, length) < length) {
                throw new StateException("this sequence holds keys and values of other adapters or another plan (CacheReuse.APPROXIMATE); "
                        + "only those of its own are saved");
            }
            var state = length == 0 ? MemorySegment.NULL : state(arena);
            var header = new StateFile.Header(StateFile.Key.of(engine, adapters, plan()), activation, length, state.byteSize());
            StateFile.write(out, header, tokens, state);
        } finally {
            leave();
        }
    }

    private MemorySegment state(Arena arena) {
        for (int attempt = 0; attempt < 3; attempt++) {
            var save = new Work.Save(this, unchanged, arena);
            engine.loop().call(ticket, save);
            unchanged = length;
            if (save.failure != null) {
                throw save.failure;
            }
            if (save.state != null) {
                engine.requireKnown(save.layout).check(save.state, tokens, length, engine.model().slidingWindow());
                return save.state;
            }
            evaluateAgain();
        }
        throw new ContextFullException("others took the cells of this sequence of " + length
                + " tokens again and again before it could be saved; raise EngineOptions.contextSize");
    }

    /** A new sequence takes over what a file says of it. */
    void restore(int[] saved, int activation, MemorySegment state) {
        tokens = saved;
        length = saved.length;
        unchanged = length;
        searchFrom = length;
        this.activation = activation;
        if (activation >= 0) {
            adaptation = adaptation.then(activation, new Variant(adapters, plan));
        }
        if (length > 0) {
            var restore = new Work.Restore(this, state);
            engine.loop().call(ticket, restore);
            if (restore.failure != null) {
                throw restore.failure;
            }
        }
    }

    /** Appends the last token once more, and with it what the cache has lost of those before it. */
    private void evaluateAgain() {
        length--;
        try {
            run(1);
        } catch (RuntimeException e) {
            length++;
            throw e;
        }
    }

    /**
     * Ends the decode that this sequence waits for, if any, with a {@link DecodeCancelledException}, within one step of the
     * engine. Any thread may call this.
     */
    public void cancel() {
        engine.loop().cancel(request);
    }

    /** Gives back everything the engine holds for this sequence. A decode in flight is cancelled. Any thread; idempotent. */
    @Override
    public void close() {
        synchronized (request) {
            if (closed) {
                return;
            }
            closed = true;
        }
        cancel();
        letGoOfAdapters();
        engine.forget(this);
    }

    boolean closed() {
        return closed;
    }

    // --- for the engine -------------------------------------------------------------------------------------------------

    Ticket ticket() {
        return ticket;
    }

    void enter() {
        if (!BUSY.compareAndSet(this, false, true)) {
            throw new ConcurrentUseException(
                    "this sequence is in use by another thread or has an open token tree; fork it to decode two branches");
        }
        if (closed) {
            leave();
            throw new ClosedException("this sequence is closed");
        }
    }

    void leave() {
        BUSY.setRelease(this, false);
    }

    /** Checks an append and puts its tokens behind the history. */
    void stage(Append append) {
        for (int token : append.tokens) {
            engine.checkToken(token);
        }
        engine.checkRow(append.last);
        if (append.rows != null) {
            for (var row : append.rows) {
                engine.checkRow(row);
            }
        }
        makeRoom(append.tokens.length);
        System.arraycopy(append.tokens, 0, tokens, length, append.tokens.length);
        request.last = append.last;
        request.rows = append.rows;
    }

    /** Fills in what every request needs; the caller hands it to the loop. */
    void prepare(int count) {
        if (request.tree == null) { // of a tree nobody knows yet which branch holds
            activate(length + count);
        }
        request.count = count;
        request.keep = unchanged;
        request.cancelled = false;
        request.failure = null;
        request.inFlight = true;
    }

    /** Takes over what a request left behind and throws its failure. */
    void conclude() {
        var failure = request.failure;
        if (failure == null) {
            length += request.count;
        }
        unchanged = length;
        deactivate();
        if (failure != null) {
            throw failure;
        }
    }

    void makeRoom(int more) {
        long wanted = (long) length + more;
        if (wanted > engine.longest()) {
            if (engine.longest() < engine.contextSize()) { // native code would end the process
                throw new ContextFullException("the model learned " + engine.longest() + " positions; " + length + " tokens and " + more
                        + " more are too long for it");
            }
            throw new ContextFullException("context full: " + length + " tokens and " + more + " more do not fit in "
                    + engine.contextSize() + " cells; truncate the sequence or raise EngineOptions.contextSize");
        }
        if (wanted > tokens.length) {
            tokens = Arrays.copyOf(tokens, (int) Math.min(engine.longest(), Math.max(wanted, tokens.length * 2L)));
        }
    }

    private void run(int count) {
        prepare(count);
        engine.loop().call(ticket, request);
        conclude();
    }

    // --- adapters ---------------------------------------------------------------------------------------------------------

    /** Switches the activated adapter on where its tokens are complete within the first {@code end} tokens. */
    void activate(int end) {
        var wanted = adapters.invocation();
        if (wanted.length == 0 || activation >= 0) {
            return;
        }
        // what was seen before may hold the beginning of the tokens
        for (int i = Math.max(0, searchFrom - wanted.length + 1); i + wanted.length <= end; i++) {
            if (Arrays.equals(tokens, i, i + wanted.length, wanted, 0, wanted.length)) {
                activation = i;
                adaptation = adaptation.then(i, new Variant(adapters, plan));
                unchanged = Math.min(unchanged, i);
                break;
            }
        }
        searchFrom = end;
    }

    /** After tokens were lost: switches the activated adapter off when its tokens are among them. */
    private void deactivate() {
        if (activation >= 0 && activation + adapters.invocation().length > length) {
            unchanged = Math.min(unchanged, activation);
            adaptation = adaptation.then(activation, new Variant(adapters.inactive(), plan));
            activation = -1;
        }
        searchFrom = Math.min(searchFrom, length);
        int last = adaptation.spans() - 1;
        if (adaptation.from(last) > length) { // taken over from another set, and gone: what follows is this sequence's own
            adaptation = adaptation.then(length, adaptation.variant(last));
        }
    }

    private int lastInvocation(int[] wanted) {
        for (int i = length - wanted.length; wanted.length > 0 && i >= 0; i--) {
            if (Arrays.equals(tokens, i, i + wanted.length, wanted, 0, wanted.length)) {
                return i;
            }
        }
        return -1;
    }

    /** Opens the sets that a new sequence may be evaluated under. */
    void hold(Adaptation spans) {
        adaptation = spans;
        var all = new LinkedHashSet<AdapterSet>();
        all.add(adapters);
        all.add(adapters.inactive());
        for (int i = 0; i < spans.spans(); i++) {
            all.add(spans.variant(i).adapters());
        }
        all.remove(AdapterSet.none());
        var sets = all.toArray(AdapterSet[]::new);
        for (int i = 0; i < sets.length; i++) {
            try {
                sets[i].retain();
            } catch (ClosedException e) {
                while (--i >= 0) {
                    sets[i].letGo();
                    sets[i].release();
                }
                throw e;
            }
        }
        held = sets;
    }

    AdapterSet[] heldSets() {
        return held;
    }

    private void letGoOfAdapters() {
        synchronized (request) {
            if (letGo) {
                return;
            }
            letGo = true;
        }
        for (var set : held) {
            set.letGo();
        }
    }

    /** Ends a {@link #hold}, once. */
    void releaseAdapters() {
        letGoOfAdapters();
        for (var set : held) {
            set.release();
        }
    }

    /** A native state of this sequence that was kept, for models that can't forget single tokens. */
    record Checkpoint(int length, MemorySegment state) {
    }

    /** Checkpoints of a history that is no longer this one's are worth nothing. */
    void forgetCheckpointsAfter(int unchanged) {
        if (draftStart != null && draftStart.length() > unchanged) {
            draftStart = new Checkpoint(0, draftStart.state()); // the memory stays for the next one
        }
        if (!checkpoints.isEmpty() && checkpoints.getLast().length() > unchanged) {
            checkpoints = checkpoints.stream().filter(checkpoint -> checkpoint.length() <= unchanged).toList();
        }
    }

    void remember(Checkpoint checkpoint, int limit) {
        var list = new ArrayList<Checkpoint>(checkpoints.size() + 1);
        for (var each : checkpoints) {
            if (each.length() < checkpoint.length()) {
                list.add(each);
            }
        }
        list.add(checkpoint);
        while (list.size() > limit) {
            list.removeFirst();
        }
        checkpoints = List.copyOf(list);
    }
}
