package io.github.panamallama.runtime;

import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * A branch of token history in an {@link Engine}. What the KV cache holds of it is a detail of the engine: cells may be shared
 * with other branches, and may be taken away while the sequence is idle and computed again when it goes on.
 *
 * <p>Thread rule: one caller at a time, any thread. A second caller gets a {@link ConcurrentUseException}. {@link #cancel} and
 * {@link #close} may come from any thread at any time.
 */
public final class Sequence implements AutoCloseable {
    private static final VarHandle BUSY;

    static {
        try {
            BUSY = MethodHandles.lookup().findVarHandle(Sequence.class, "busy", boolean.class);
        } catch (ReflectiveOperationException e) {
            throw new ExceptionInInitializerError(e);
        }
    }

    private final Engine engine;
    private final Ticket ticket = new Ticket();
    private volatile boolean closed;
    @SuppressWarnings("unused") // through BUSY
    private volatile boolean busy;

    // the caller's
    int[] tokens;
    int length;
    /** Tokens at the start of the history that did not change since the engine saw it last. */
    int unchanged;
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

    Sequence(Engine engine, long birth, int[] tokens, int length) {
        this.engine = engine;
        this.birth = birth;
        this.tokens = tokens;
        this.length = length;
        this.unchanged = length;
    }

    /** The engine that evaluates this sequence. */
    public Engine engine() {
        return engine;
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
            var child = engine.adopt(Arrays.copyOf(tokens, Math.max(length, 16)), length);
            var fork = new Work.Fork(this, child, unchanged);
            engine.loop().call(ticket, fork);
            if (fork.failure != null) {
                throw fork.failure;
            }
            unchanged = length;
            return child;
        } finally {
            leave();
        }
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
        } finally {
            leave();
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
        if (failure != null) {
            throw failure;
        }
    }

    void makeRoom(int more) {
        long wanted = (long) length + more;
        if (wanted > engine.contextSize()) {
            throw new ContextFullException("context full: " + length + " tokens and " + more + " more do not fit in "
                    + engine.contextSize() + " cells; truncate the sequence or raise EngineOptions.contextSize");
        }
        if (wanted > tokens.length) {
            tokens = Arrays.copyOf(tokens, (int) Math.min(engine.contextSize(), Math.max(wanted, tokens.length * 2L)));
        }
    }

    private void run(int count) {
        prepare(count);
        engine.loop().call(ticket, request);
        conclude();
    }

    /** A native state of this sequence that was kept, for models that can't forget single tokens. */
    record Checkpoint(int length, MemorySegment state) {
    }

    /** Checkpoints of a history that is no longer this one's are worth nothing. */
    void forgetCheckpointsAfter(int unchanged) {
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
