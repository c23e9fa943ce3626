package io.github.panamallama.runtime;

import io.github.panamallama.runtime.Work.Fork;
import io.github.panamallama.runtime.Work.Prune;
import io.github.panamallama.runtime.Work.Release;
import io.github.panamallama.runtime.Work.Request;
import io.github.panamallama.runtime.Work.Shutdown;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;

/**
 * Merges the decodes of many callers into batches and owns the native context while it does.
 *
 * <p>There is no thread of its own. Callers put their work into an inbox; one of them becomes the leader, evaluates batches until
 * its own work is done, and hands the lead to another caller that waits. A sole caller leads itself and never parks.
 *
 * <p>Policy:
 * <ul>
 *   <li>A step fires when everybody who took part in the last one has come back, or half the time of that step has passed
 *       (between {@value #LINGER_MIN_NANOS} and {@value #LINGER_MAX_NANOS} ns), whichever is first.
 *   <li>Short runs (at most {@value #SHORT_RUN} tokens: the next token, a draft to verify, a tree) go first. Prompts share what is
 *       left of the batch evenly; beside short runs they get at most {@link EngineOptions#promptChunk} tokens together.
 *   <li>Sequence ids and cells are held only while useful. When either runs out, they are taken from idle sequences that were
 *       last used longest ago, then from the youngest sequence; what is lost is evaluated again when its owner goes on. An older
 *       sequence never waits for a younger one, so that there is always one that can go on.
 * </ul>
 */
final class DecodeLoop {
    static final int SHORT_RUN = 16;
    static final long LINGER_MIN_NANOS = 50_000;
    static final long LINGER_MAX_NANOS = 2_000_000;
    /** A sequence that was idle for longer is treated as abandoned when others need its cells. */
    static final long IDLE_NANOS = 50_000_000;
    /** Runs of at least this many tokens leave a checkpoint where the model can't forget single tokens. */
    private static final int CHECKPOINT_RUN = 16;
    /** In place of a number of tokens: a prompt that was admitted and gets its share when everybody is known. */
    private static final int PROMPT = -1;

    private static final VarHandle INBOX;
    private static final VarHandle LEADING;

    static {
        try {
            INBOX = MethodHandles.lookup().findVarHandle(DecodeLoop.class, "inbox", Work.class);
            LEADING = MethodHandles.lookup().findVarHandle(DecodeLoop.class, "leading", boolean.class);
        } catch (ReflectiveOperationException e) {
            throw new ExceptionInInitializerError(e);
        }
    }

    private final NativeContext context;
    private final int contextSize;
    private final int batchSize;
    private final int promptChunk;
    private final int checkpointLimit;

    private volatile Work inbox;
    private volatile boolean leading;
    /** The leader while it sleeps, so that new work can wake it. */
    private volatile Thread sleeper;
    private volatile boolean closing;

    // the leader's
    private final List<Request> active = new ArrayList<>();
    private final Request[] batch;
    private int batchRequests;
    private final Sequence[] byId;
    private final int[] freeIds;
    private int freeCount;
    private int awaited;
    private long lastStepEnd;
    private long lastStepNanos;
    private boolean shutDown;

    // figures, written by the leader
    private volatile long steps;
    private volatile long evaluated;
    private volatile long evictions;
    private volatile long preemptions;
    private volatile long reused;

    /** What a step evaluated, for tests of the policy; null in production. */
    volatile Consumer<List<Slice>> trace;

    record Slice(Sequence sequence, int start, int count) {
    }

    private final Object cancelLock = new Object();
    private boolean batchRunning;
    private int batchLive;

    DecodeLoop(NativeContext context, EngineOptions options) {
        this.context = context;
        this.contextSize = context.contextSize();
        this.batchSize = context.batchSize();
        this.promptChunk = Math.min(options.promptChunk(), batchSize);
        this.checkpointLimit = context.forgetsSingleTokens() ? 0 : options.checkpoints();
        this.batch = new Request[batchSize];
        this.byId = new Sequence[options.maxSequences()];
        this.freeIds = new int[byId.length];
        for (int i = 0; i < byId.length; i++) {
            freeIds[i] = byId.length - 1 - i;
        }
        this.freeCount = byId.length;
    }

    // --- the callers' side ----------------------------------------------------------------------------------------------

    /** Hands over one piece of work and waits until it is done. */
    void call(Ticket ticket, Work work) {
        ticket.open(Thread.currentThread(), 1);
        work.ticket = ticket;
        push(work, work);
        await(ticket, work, null);
    }

    /** Hands over several requests, which are evaluated together as far as they fit, and waits until all are done. */
    void call(Ticket ticket, Request[] requests) {
        ticket.open(Thread.currentThread(), requests.length);
        for (int i = 0; i < requests.length; i++) {
            requests[i].ticket = ticket;
            if (i > 0) {
                requests[i].next = requests[i - 1];
            }
        }
        push(requests[requests.length - 1], requests[0]);
        await(ticket, null, requests);
    }

    /** Hands over work that nobody waits for. It is done at once when the engine is idle, else before the next step. */
    void post(Work work) {
        var ticket = new Ticket();
        ticket.open(null, 1);
        work.ticket = ticket;
        push(work, work);
        wakeSleeper();
        if (LEADING.compareAndSet(this, false, true)) {
            handOver();
        }
    }

    /** Puts a chain of work, linked from its newest to its oldest element, into the inbox. */
    private void push(Work newest, Work oldest) {
        Work head;
        do {
            head = inbox;
            oldest.next = head;
        } while (!INBOX.compareAndSet(this, head, newest));
    }

    private void await(Ticket ticket, Work work, Request[] requests) {
        boolean interrupted = false;
        while (!ticket.done()) {
            if (LEADING.compareAndSet(this, false, true)) {
                try {
                    while (!ticket.done()) {
                        if (Thread.interrupted()) {
                            interrupted = true;
                            cancel(work, requests);
                        }
                        step(ticket);
                    }
                } finally {
                    handOver();
                }
            } else {
                wakeSleeper();
                if (!ticket.done()) {
                    LockSupport.park(this);
                }
                if (Thread.interrupted()) {
                    interrupted = true;
                    cancel(work, requests);
                }
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    /**
     * Gives up the lead. Whoever pushed work while it was held may have gone to sleep, so the inbox is emptied until it is found
     * empty without the lead, and then somebody who still waits is woken to take over.
     */
    private void handOver() {
        while (true) {
            try {
                drain();
            } catch (Throwable e) {
                failAll(e);
            }
            var successor = active.isEmpty() ? null : active.getFirst().ticket.waiter();
            LEADING.setVolatile(this, false);
            if (inbox == null) {
                if (successor != null) {
                    LockSupport.unpark(successor);
                }
                return;
            }
            if (!LEADING.compareAndSet(this, false, true)) {
                return;
            }
        }
    }

    private void wakeSleeper() {
        var asleep = sleeper;
        if (asleep != null) {
            LockSupport.unpark(asleep);
        }
    }

    private void cancel(Work work, Request[] requests) {
        if (work instanceof Request request) {
            cancel(request);
        }
        if (requests != null) {
            for (var request : requests) {
                cancel(request);
            }
        }
    }

    /** Marks a request in flight as cancelled, and stops the running native call when nobody else needs it. */
    void cancel(Request request) {
        synchronized (cancelLock) {
            if (request.inFlight && !request.cancelled) {
                request.cancelled = true;
                if (batchRunning && request.inBatch && --batchLive == 0) {
                    context.abort();
                }
            }
        }
        wakeSleeper();
    }

    /** Ends everything: what waits fails with {@link ClosedException}, the native context is freed. */
    void shutdown() {
        synchronized (cancelLock) {
            closing = true;
            if (batchRunning) {
                context.abort();
            }
        }
        call(new Ticket(), new Shutdown());
    }

    EngineStats stats() {
        int ids = 0;
        long cells = 0;
        for (var sequence : byId) {
            if (sequence != null) {
                ids++;
                cells += sequence.cells;
            }
        }
        return new EngineStats(steps, evaluated, reused, evictions, preemptions, ids, cells);
    }

    // --- the leader's side ----------------------------------------------------------------------------------------------

    private void step(Ticket own) {
        try {
            drain();
            if (own.done()) {
                return;
            }
            gather();
            dropCancelled();
            if (active.isEmpty()) {
                return;
            }
            if (!select()) {
                sleep();
                return;
            }
            evaluate();
        } catch (Throwable e) {
            failAll(e);
        }
    }

    /** Takes in new work; waits a moment for those who will be back at once. */
    private void gather() {
        if (awaited > 0) {
            long patience = Math.clamp(lastStepNanos / 2, LINGER_MIN_NANOS, LINGER_MAX_NANOS);
            while (awaited > 0 && !closing && System.nanoTime() - lastStepEnd < patience) {
                Thread.yield();
                drain();
            }
            arrived(null);
        }
    }

    private void drain() {
        if (inbox == null) {
            return;
        }
        var newest = (Work) INBOX.getAndSet(this, null);
        Work oldest = null;
        while (newest != null) { // the inbox is a stack: turn it round
            var next = newest.next;
            newest.next = oldest;
            oldest = newest;
            newest = next;
        }
        while (oldest != null) {
            var work = oldest;
            oldest = work.next;
            work.next = null;
            accept(work);
        }
    }

    private void accept(Work work) {
        if (awaited > 0 && work.ticket.waiter() != null) {
            arrived(work.ticket.waiter());
        }
        if (shutDown) {
            work.finish(work instanceof Release || work instanceof Shutdown ? null : new ClosedException("the engine is closed"));
            return;
        }
        if (context.broken() && !(work instanceof Shutdown)) {
            work.finish(work instanceof Release ? null : new DecodeException(
                    "an assertion of native code failed in this engine earlier; close it and open another one"));
            return;
        }
        switch (work) {
            case Request request when request.sequence.closed() -> request.finish(new ClosedException("this sequence is closed"));
            case Request request -> {
                request.sequence.valid = Math.min(request.sequence.valid, request.keep);
                active.add(request);
            }
            case Fork fork -> finish(fork, this::fork);
            case Prune prune -> finish(prune, this::prune);
            case Release release -> finish(release, this::release);
            case Shutdown shutdown -> {
                shutDown = true;
                for (var request : active) {
                    request.finish(new ClosedException("the engine was closed while this decode was in flight"));
                }
                active.clear();
                Arrays.fill(byId, null);
                context.close();
                shutdown.finish(null);
            }
        }
    }

    private <W extends Work> void finish(W work, Consumer<W> body) {
        RuntimeException failure = null;
        try {
            body.accept(work);
        } catch (RuntimeException e) {
            failure = e;
        }
        work.finish(failure);
    }

    /** Somebody is back: nothing that this caller used in the last step is waited for any more. */
    private void arrived(Thread caller) {
        for (var sequence : byId) {
            if (sequence != null && sequence.awaited && (caller == null || sequence.caller == caller)) {
                noLongerAwaited(sequence);
            }
        }
    }

    private void noLongerAwaited(Sequence sequence) {
        if (sequence.awaited) {
            sequence.awaited = false;
            sequence.caller = null;
            awaited--;
        }
    }

    private void fork(Fork fork) {
        var parent = fork.parent;
        var child = fork.child;
        parent.valid = Math.min(parent.valid, fork.keep);
        child.checkpoints = parent.checkpoints;
        child.lastUse = parent.lastUse;
        if (parent.id < 0 || parent.valid == 0 || !trim(parent)) {
            return;
        }
        int id = takeId(parent.birth, parent);
        if (id < 0) {
            return; // evaluated again when the child goes on
        }
        hold(child, id);
        context.copy(parent.id, id, 0, parent.valid);
        child.cells = parent.valid;
        child.valid = parent.valid;
        reused += parent.valid;
    }

    private void release(Release release) {
        var sequence = release.sequence;
        if (sequence.request.inFlight && active.remove(sequence.request)) {
            sequence.request.finish(new DecodeCancelledException("the sequence was closed while it was decoding"));
        }
        drop(sequence);
        sequence.checkpoints = List.of();
    }

    private void dropCancelled() {
        for (int i = 0; i < active.size(); i++) {
            var request = active.get(i);
            if (request.cancelled) {
                active.remove(i--);
                if (request.tree != null) {
                    unbranch(request.tree);
                }
                request.sequence.lastUse = System.nanoTime();
                request.finish(new DecodeCancelledException("the decode of " + request.count + " tokens behind "
                        + request.sequence.length + " was cancelled"));
            }
        }
    }

    private void failAll(Throwable e) {
        // a decode that died half-way leaves cells that nobody can vouch for
        for (var sequence : byId) {
            if (sequence != null && !context.broken()) {
                try {
                    drop(sequence);
                } catch (RuntimeException secondary) {
                    e.addSuppressed(secondary);
                }
            }
        }
        var failure = e instanceof LlamaException known ? known : new DecodeException("decoding failed: " + e, e);
        for (var request : active) {
            request.finish(failure);
        }
        active.clear();
        if (e instanceof VirtualMachineError fatal) {
            throw fatal;
        }
    }

    // --- choosing a batch -----------------------------------------------------------------------------------------------

    /** Chooses what the next step evaluates. False when everything that waits has to wait for cells. */
    private boolean select() {
        batchRequests = 0;
        int room = batchSize;
        for (int i = 0; i < active.size(); i++) {
            var request = active.get(i);
            request.sliceCount = 0;
            if (!admit(request)) {
                continue;
            }
            int due = request.due();
            if (due > SHORT_RUN && !request.treeIsDue()) {
                request.sliceCount = PROMPT; // sized below
            } else if (due <= room) {
                take(request, due);
                room -= due;
            }
        }
        int prompts = 0;
        for (int i = 0; i < active.size(); i++) {
            if (active.get(i).sliceCount == PROMPT) {
                prompts++;
            }
        }
        int share = batchRequests > 0 ? Math.min(room, promptChunk) : room;
        for (int i = 0; prompts > 0 && share > 0; i++) {
            var request = active.get(i);
            if (request.sliceCount == PROMPT) {
                int count = Math.min(request.due(), Math.max(1, share / prompts));
                take(request, count);
                share -= count;
                prompts--;
            }
        }
        return batchRequests > 0;
    }

    private void take(Request request, int count) {
        request.sliceStart = request.sequence.valid;
        request.sliceCount = count;
        batch[batchRequests++] = request;
    }

    /** Gives a request a native id and a cache that ends where its history does; false when it has to wait. */
    private boolean admit(Request request) {
        var sequence = request.sequence;
        if (request.preempted && !roomFor(request)) {
            return false;
        }
        if (sequence.id >= 0 && !trim(sequence)) {
            drop(sequence);
        }
        if (sequence.id < 0) {
            int id = takeId(sequence.birth, sequence);
            if (id < 0) {
                return false;
            }
            hold(sequence, id);
        }
        if (request.treeIsDue() && !branch(request)) {
            return false;
        }
        request.preempted = false;
        return true;
    }

    /** Gives every leaf of a tree an id that shares the sequence's cells; the first leaf uses the sequence's own. */
    private boolean branch(Request request) {
        var tree = request.tree;
        var sequence = request.sequence;
        while (tree.idsHeld() < tree.leaves()) {
            if (tree.idsHeld() == 0) {
                tree.giveId(sequence.id);
                continue;
            }
            int id = takeId(sequence.birth, sequence);
            if (id < 0) {
                unbranch(tree);
                return false;
            }
            context.copy(sequence.id, id, 0, sequence.valid);
            tree.giveId(id);
        }
        return true;
    }

    private void unbranch(TokenTree tree) {
        for (int i = tree.idsHeld() - 1; i > 0; i--) {
            context.remove(tree.leafId(i), 0);
            freeIds[freeCount++] = tree.leafId(i);
        }
        tree.clearIds();
    }

    private void prune(Prune prune) {
        var tree = prune.tree;
        var sequence = tree.sequence();
        sequence.request.openTree = null;
        if (tree.idsHeld() == 0) {
            return; // the engine let go of it already
        }
        int leafId = tree.leafId(prune.leaf);
        int end = sequence.length + prune.depth;
        if (prune.depth > 0 && leafId != sequence.id) {
            context.remove(sequence.id, sequence.length);
            context.copy(leafId, sequence.id, sequence.length, end);
        }
        unbranch(tree);
        sequence.lastUse = System.nanoTime();
        sequence.cells = Math.max(sequence.cells, end);
        sequence.valid = end;
        context.remove(sequence.id, end);
        sequence.cells = end;
    }

    /** Whether a request that lost its cells could stay this time. Counts shared cells twice, so it errs on the waiting side. */
    private boolean roomFor(Request request) {
        long used = 0;
        boolean others = false;
        long now = System.nanoTime();
        for (var other : byId) {
            if (other != null && other != request.sequence && !abandoned(other, now) && other.birth < request.sequence.birth) {
                used += other.cells;
                others = true;
            }
        }
        for (var other : active) {
            if (other != request && !other.preempted && other.sequence.birth > request.sequence.birth) {
                used += other.sequence.cells;
            }
        }
        return !others || used + request.sequence.length + request.count <= contextSize;
    }

    /** Whether nobody is about to use a sequence: it idles for long, or its caller still waits for others of the same call. */
    private boolean abandoned(Sequence sequence, long now) {
        return !sequence.request.inFlight
                && sequence.request.openTree == null
                && (now - sequence.lastUse > IDLE_NANOS || sequence.request.ticket != null && !sequence.request.ticket.done());
    }

    /** A free native id, or one taken from a sequence that may lose it to a sequence of age {@code birth}; -1 for none. */
    private int takeId(long birth, Sequence beneficiary) {
        if (freeCount == 0) {
            var victim = victim(birth, beneficiary);
            if (victim == null) {
                return -1;
            }
            evict(victim);
        }
        return freeIds[--freeCount];
    }

    private void hold(Sequence sequence, int id) {
        sequence.id = id;
        sequence.cells = 0;
        sequence.valid = 0;
        byId[id] = sequence;
    }

    /** Who loses its cells: the sequence that is idle for longest, else the youngest one that is younger than the beneficiary. */
    private Sequence victim(long birth, Sequence beneficiary) {
        Sequence idle = null;
        Sequence youngest = null;
        long now = System.nanoTime();
        for (var sequence : byId) {
            if (sequence == null || sequence == beneficiary || sequence.request.openTree != null) {
                continue;
            }
            if (abandoned(sequence, now)) {
                if (idle == null || sequence.lastUse - idle.lastUse < 0) {
                    idle = sequence;
                }
            } else if (sequence.birth > birth && (youngest == null || sequence.birth > youngest.birth)) {
                youngest = sequence;
            }
        }
        return idle != null ? idle : youngest;
    }

    private void evict(Sequence victim) {
        if (victim.request.inFlight) {
            preemptions++;
            victim.request.preempted = true;
            victim.request.sliceCount = 0;
            for (int i = 0; i < batchRequests; i++) {
                if (batch[i] == victim.request) { // chosen for the step that is being put together
                    System.arraycopy(batch, i + 1, batch, i, batchRequests - i - 1);
                    batch[--batchRequests] = null;
                    break;
                }
            }
        } else {
            evictions++;
        }
        drop(victim);
    }

    /** Gives back a sequence's cells and id. Its tokens stay with it. */
    private void drop(Sequence sequence) {
        if (sequence.id >= 0) {
            noLongerAwaited(sequence);
            if (sequence.request.tree != null) {
                unbranch(sequence.request.tree);
            }
            if (sequence.request.openTree != null) {
                unbranch(sequence.request.openTree);
            }
            context.remove(sequence.id, 0);
            byId[sequence.id] = null;
            freeIds[freeCount++] = sequence.id;
            sequence.id = -1;
        }
        sequence.cells = 0;
        sequence.valid = 0;
    }

    /**
     * Makes the native cache of a sequence end where its valid history does.
     *
     * @return false when the model can't do that; the caller then drops the sequence, and it is evaluated again
     */
    private boolean trim(Sequence sequence) {
        if (sequence.cells == sequence.valid) {
            return true;
        }
        if (sequence.valid > 0 && context.forgets(sequence.id, sequence.valid)) {
            sequence.cells = sequence.valid;
            return true;
        }
        for (int i = sequence.checkpoints.size() - 1; i >= 0; i--) {
            var checkpoint = sequence.checkpoints.get(i);
            if (checkpoint.length() <= sequence.valid && context.restore(sequence.id, checkpoint)) {
                sequence.cells = checkpoint.length();
                sequence.valid = checkpoint.length();
                reused += checkpoint.length();
                return true;
            }
        }
        if (sequence.valid == 0) {
            context.remove(sequence.id, 0);
            sequence.cells = 0;
            return true;
        }
        return false;
    }

    // --- evaluating a batch ---------------------------------------------------------------------------------------------

    private void evaluate() {
        long begin = System.nanoTime();
        int code = decode();
        while (code == NativeContext.NO_CELLS) {
            if (!shrink()) {
                sleep();
                return;
            }
            code = decode();
        }
        long end = System.nanoTime();
        steps++;
        lastStepNanos = end - begin;
        lastStepEnd = end;
        if (code == 0) {
            harvest(end);
        } else {
            rollBack(code);
        }
    }

    private int decode() {
        int size = 0;
        context.begin();
        for (int i = 0; i < batchRequests; i++) {
            var request = batch[i];
            request.batchIndex = size;
            size = request.treeIsDue() ? addTree(request) : addRun(request);
        }
        synchronized (cancelLock) {
            int live = 0;
            for (int i = 0; i < batchRequests; i++) {
                batch[i].inBatch = true;
                if (!batch[i].cancelled) {
                    live++;
                }
            }
            batchLive = live;
            batchRunning = true;
            if (live == 0 || closing) {
                context.abort();
            }
        }
        try {
            return context.decode();
        } finally {
            synchronized (cancelLock) {
                batchRunning = false;
                for (int i = 0; i < batchRequests; i++) {
                    batch[i].inBatch = false;
                }
                context.clearAbort();
            }
        }
    }

    private int addRun(Request request) {
        var sequence = request.sequence;
        int size = 0;
        for (int position = request.sliceStart, end = position + request.sliceCount; position < end; position++) {
            boolean wanted = position >= sequence.length && request.wants(position - sequence.length);
            size = context.add(sequence.tokens[position], position, sequence.id, wanted);
        }
        return size;
    }

    private int addTree(Request request) {
        var tree = request.tree;
        var sequence = request.sequence;
        int size = 0;
        for (int i = 0; i < request.count; i++) {
            size = context.add(sequence.tokens[sequence.length + i], sequence.length + tree.depth(i), tree.ids(i), request.wants(i));
        }
        return size;
    }

    /** Makes the batch that found no cells smaller or the cache emptier. False when it has to wait. */
    private boolean shrink() {
        Request oldest = batch[0];
        for (int i = 1; i < batchRequests; i++) {
            if (batch[i].sequence.birth < oldest.sequence.birth) {
                oldest = batch[i];
            }
        }
        var victim = victim(oldest.sequence.birth, oldest.sequence);
        if (victim != null) {
            evict(victim);
            return true;
        }
        if (oldest.sliceCount > 1 && oldest.tree == null) {
            oldest.sliceCount /= 2;
            return true;
        }
        for (var other : byId) {
            if (other != null && other != oldest.sequence) {
                return false; // an older sequence that was busy a moment ago: it ends, goes on, or counts as idle soon
            }
        }
        active.remove(oldest);
        drop(oldest.sequence);
        oldest.finish(new ContextFullException("no cells left for " + oldest.sliceCount + " more tokens behind "
                + oldest.sequence.length + " of a context of " + contextSize + "; raise EngineOptions.contextSize"));
        batchRequests = 0;
        return false;
    }

    /** Hands out rows and ends the requests that are complete. */
    private void harvest(long now) {
        if (trace != null) {
            var slices = new ArrayList<Slice>();
            for (int i = 0; i < batchRequests; i++) {
                slices.add(new Slice(batch[i].sequence, batch[i].sliceStart, batch[i].sliceCount));
            }
            trace.accept(slices);
        }
        long tokens = 0;
        for (int i = 0; i < batchRequests; i++) {
            var request = batch[i];
            batch[i] = null;
            var sequence = request.sequence;
            tokens += request.sliceCount;
            boolean tree = request.treeIsDue();
            for (int j = 0; j < request.sliceCount; j++) {
                int pending = request.sliceStart + j - sequence.length;
                if (pending >= 0 && request.wants(pending)) {
                    context.logits(request.batchIndex + j, request.row(pending));
                }
            }
            if (tree) {
                sequence.cells = sequence.length + request.count;
                request.openTree = request.tree;
            } else {
                sequence.valid += request.sliceCount;
                sequence.cells = sequence.valid;
            }
            if (tree || sequence.valid == sequence.length + request.count) {
                active.remove(request);
                sequence.lastUse = now;
                if (!sequence.awaited) {
                    sequence.awaited = true;
                    awaited++;
                }
                sequence.caller = request.ticket.waiter();
                if (checkpointLimit > 0 && !tree && request.count >= CHECKPOINT_RUN) {
                    sequence.remember(context.save(sequence.id, sequence.valid), checkpointLimit);
                }
                request.finish(null);
            }
        }
        batchRequests = 0;
        evaluated += tokens;
    }

    /** After an abort or an error: what the step touched goes back to where it was. */
    private void rollBack(int code) {
        for (int i = 0; i < batchRequests; i++) {
            var request = batch[i];
            batch[i] = null;
            var sequence = request.sequence;
            if (request.tree != null) {
                unbranch(request.tree);
            }
            sequence.cells = sequence.valid + request.sliceCount; // some of them may exist
            if (!trim(sequence)) {
                drop(sequence);
            }
            if (code != NativeContext.ABORTED) {
                active.remove(request);
                sequence.lastUse = System.nanoTime();
                request.finish(new DecodeException("native code could not evaluate " + request.sliceCount + " tokens behind "
                        + request.sliceStart + ": " + context.describe(code)));
            }
        }
        batchRequests = 0;
    }

    /** Everything that waits needs cells which others will give back: wait for news, or until one of them counts as idle. */
    private void sleep() {
        if (active.isEmpty()) {
            return;
        }
        sleeper = Thread.currentThread();
        if (inbox == null) {
            LockSupport.parkNanos(this, IDLE_NANOS / 10);
        }
        sleeper = null;
    }
}
