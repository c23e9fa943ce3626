package io.github.panamallama.runtime;

import io.github.panamallama.runtime.Work.Adopt;
import io.github.panamallama.runtime.Work.Draft;
import io.github.panamallama.runtime.Work.Exchange;
import io.github.panamallama.runtime.Work.Fork;
import io.github.panamallama.runtime.Work.Probe;
import io.github.panamallama.runtime.Work.Prune;
import io.github.panamallama.runtime.Work.Release;
import io.github.panamallama.runtime.Work.Request;
import io.github.panamallama.runtime.Work.Restore;
import io.github.panamallama.runtime.Work.Save;
import io.github.panamallama.runtime.Work.Shutdown;
import io.github.panamallama.runtime.Work.Watch;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
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
 *   <li>A step fires when everybody who took part in the last one has come back, or the time of that step has passed once more
 *       (between {@value #LINGER_MIN_NANOS} and {@value #LINGER_MAX_NANOS} ns), whichever is first.
 *   <li>Short runs (at most {@value #SHORT_RUN} tokens: the next token, a draft to verify, a tree) go first. Prompts share what is
 *       left of the batch evenly; beside short runs they get at most {@link EngineOptions#promptChunk} tokens together.
 *   <li>Drafts of the MTP head go before a step, one token of each in one call.
 *   <li>When native ids or cells run out, {@link CellPool} says who loses them; what is lost is evaluated again when its owner goes on.
 * </ul>
 */
final class DecodeLoop {
    static final int SHORT_RUN = 16;
    static final long LINGER_MIN_NANOS = 100_000;
    static final long LINGER_MAX_NANOS = 2_000_000;
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
    private final List<Draft> drafts = new ArrayList<>();
    private final Request[] batch;
    private int batchRequests;
    /** The plan of the step, null for every block once, and what is read in it, null for nothing. */
    private LayerPlan plan;
    private Tap tap;
    /** What an encoder has read for the tokens of the step; null without encoder. */
    private int[] source;
    /** Whether somebody waits for a step with another plan or source, or for one without others. */
    private boolean otherPlans;
    /** Who hands readings to a sink. */
    private volatile Thread reading;
    private final CellPool pool;
    private int awaited;
    private long lastStepEnd;
    private long lastStepNanos;
    private boolean shutDown;

    // figures, written by the leader
    private volatile long steps;
    private volatile long evaluated;

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
        this.pool = new CellPool(context, options.maxSequences(), this::dropped);
    }

    // --- the callers' side ----------------------------------------------------------------------------------------------

    /** Hands over one piece of work and waits until it is done. */
    void call(Ticket ticket, Work work) {
        refuseSinks();
        ticket.open(Thread.currentThread(), 1);
        work.ticket = ticket;
        push(work, work);
        await(ticket, work, null);
    }

    /** Hands over several requests, which are evaluated together as far as they fit, and waits until all are done. */
    void call(Ticket ticket, Request[] requests) {
        refuseSinks();
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

    /** A sink that waited for the engine would wait for itself. */
    private void refuseSinks() {
        if (reading != null && reading == Thread.currentThread()) {
            throw new IllegalStateException("the sink of a tap can't call its engine; keep what was read and go on behind the append");
        }
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
            var waiting = !active.isEmpty() ? active.getFirst() : drafts.isEmpty() ? null : drafts.getFirst();
            var successor = waiting == null ? null : waiting.ticket.waiter();
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

    /** Most tokens that an encoder reads. */
    int longestSource() {
        return context.ubatchSize();
    }

    EngineStats stats() {
        return new EngineStats(
                steps, context.decodeNanos(), evaluated, pool.reused(), pool.evictions(), pool.preemptions(), pool.idsInUse(),
                pool.cellsInUse());
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
            draft();
            if (own.done() || active.isEmpty()) {
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
        if (Thread.currentThread().isVirtual()) {
            Thread.yield(); // virtual threads take turns only when one lets go: with one carrier the others would never get here
            drain();
        }
        if (awaited > 0) {
            long patience = Math.clamp(lastStepNanos, LINGER_MIN_NANOS, LINGER_MAX_NANOS);
            while (awaited > 0 && !closing && System.nanoTime() - lastStepEnd < patience) {
                Thread.yield();
                context.yieldCore(); // who is awaited may have lost this very core
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
                pool.keep(request.sequence, request.keep);
                active.add(request);
            }
            case Draft draft -> {
                pool.keep(draft.sequence, draft.keep);
                drafts.add(draft);
            }
            case Fork fork -> finish(fork, pool::fork);
            case Watch watch -> finish(watch, it -> context.watch(it.tap));
            case Adopt adopt -> finish(adopt, it -> context.adopt(it.sequence));
            case Exchange exchange -> finish(exchange, this::exchange);
            case Prune prune -> finish(prune, pool::prune);
            case Probe probe -> finish(probe, it -> it.layout = pool.layout());
            case Save save -> finish(save, pool::save);
            case Restore restore -> finish(restore, pool::restore);
            case Release release -> finish(release, this::release);
            case Shutdown shutdown -> {
                shutDown = true;
                for (var request : active) {
                    request.finish(new ClosedException("the engine was closed while this decode was in flight"));
                }
                active.clear();
                for (var draft : drafts) {
                    draft.finish(new ClosedException("the engine was closed while this draft was in flight"));
                }
                drafts.clear();
                pool.clear();
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
        for (var sequence : pool.holders()) {
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

    private void exchange(Exchange exchange) {
        noLongerAwaited(exchange.a);
        noLongerAwaited(exchange.b);
        pool.exchange(exchange.a, exchange.b);
    }

    private void release(Release release) {
        var sequence = release.sequence;
        if (sequence.request.inFlight && active.remove(sequence.request)) {
            sequence.request.finish(new DecodeCancelledException("the sequence was closed while it was decoding"));
        }
        pool.drop(sequence);
        context.release(sequence);
        sequence.checkpoints = List.of();
        sequence.draftStart = null;
    }

    /** A sequence loses its id: it takes no part in the step that is being put together. */
    private void dropped(Sequence sequence) {
        noLongerAwaited(sequence);
        sequence.request.sliceCount = 0;
        for (int i = 0; i < batchRequests; i++) {
            if (batch[i] == sequence.request) {
                System.arraycopy(batch, i + 1, batch, i, batchRequests - i - 1);
                batch[--batchRequests] = null;
                return;
            }
        }
    }

    private void dropCancelled() {
        for (int i = 0; i < active.size(); i++) {
            var request = active.get(i);
            if (request.cancelled) {
                active.remove(i--);
                if (request.tree != null) {
                    pool.unbranch(request.tree);
                }
                request.sequence.lastUse = System.nanoTime();
                request.finish(new DecodeCancelledException("the decode of " + request.count + " tokens behind "
                        + request.sequence.length + " was cancelled"));
            }
        }
    }

    private void failAll(Throwable e) {
        // a decode that died half-way leaves cells that nobody can vouch for
        for (var sequence : pool.holders()) {
            if (sequence != null && !context.broken()) {
                try {
                    pool.drop(sequence);
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
        for (var draft : drafts) {
            draft.finish(failure);
        }
        drafts.clear();
        if (e instanceof VirtualMachineError fatal) {
            throw fatal;
        }
    }

    // --- drafts ---------------------------------------------------------------------------------------------------------

    /** Evaluates the drafts that wait; those whose history is not evaluated end at once. */
    private void draft() {
        for (int i = 0; i < drafts.size(); i++) {
            var draft = drafts.get(i);
            var sequence = draft.sequence;
            if (sequence.id >= 0 && !pool.trim(sequence)) {
                pool.drop(sequence);
            }
            draft.stale = sequence.id < 0 || sequence.valid < sequence.length;
            if (sequence.closed() || draft.stale) {
                drafts.remove(i--);
                draft.finish(sequence.closed() ? new ClosedException("this sequence is closed") : null);
            } else if (checkpointLimit > 0 && (sequence.draftStart == null || sequence.draftStart.length() != sequence.length)) {
                sequence.draftStart = context.save(sequence.id, sequence.length, sequence.draftStart);
            }
        }
        while (!drafts.isEmpty()) {
            boolean fits = context.draft(drafts);
            long now = System.nanoTime();
            for (int i = 0; i < drafts.size(); i++) {
                var draft = drafts.get(i);
                if (!fits || draft.complete) {
                    drafts.remove(i--);
                    expect(draft, draft.sequence, now);
                    draft.finish(fits ? null : new ContextFullException("no cells left for a draft of " + draft.tokens.length
                            + " tokens behind " + draft.sequence.length + "; raise EngineOptions.contextSize"));
                }
            }
        }
    }

    /** The caller of a piece of work that ends well may be back in a moment. */
    private void expect(Work work, Sequence sequence, long now) {
        sequence.lastUse = now;
        if (!sequence.awaited) {
            sequence.awaited = true;
            awaited++;
        }
        sequence.caller = work.ticket.waiter();
    }

    // --- choosing a batch -----------------------------------------------------------------------------------------------

    /** Chooses what the next step evaluates. False when everything that waits has to wait for cells. */
    private boolean select() {
        batchRequests = 0;
        otherPlans = false;
        int room = batchSize;
        int more = context.maxBatchSequences();
        boolean first = true;
        boolean readAlone = false;
        for (int i = 0; i < active.size(); i++) {
            var request = active.get(i);
            request.sliceCount = 0;
            if (!first && !(Objects.equals(plan, request.plan()) && Arrays.equals(source, request.sequence.source))) {
                otherPlans = true;
                continue;
            }
            boolean alone = request.sequence.tap != null && !context.forgetsSingleTokens(); // a window may reorder the tokens of several
            if (!first && (alone || readAlone)) {
                otherPlans = true;
                continue;
            }
            if (more == 0 || !admit(request)) {
                continue;
            }
            if (!first && !Objects.equals(plan, request.plan())) { // it lost cells, and what they held comes under another one
                otherPlans = true;
                continue;
            }
            if (first) {
                first = false;
                plan = request.plan();
                tap = null;
                source = request.sequence.source;
            }
            more--;
            if (request.sequence.tap != null) {
                tap = tap == null ? request.sequence.tap : tap.and(request.sequence.tap);
                readAlone = alone;
            }
            int due = request.due();
            if (due > Math.min(SHORT_RUN, batchSize) && !request.treeIsDue()) {
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
        int share = batchRequests > 0 || otherPlans ? Math.min(room, promptChunk) : room;
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

    /** Makes a request ready for the next step; false when it has to wait. */
    private boolean admit(Request request) {
        if (request.preempted && !roomFor(request) || !pool.admit(request)) {
            return false;
        }
        request.preempted = false;
        return true;
    }

    /** Whether a request that lost its cells could stay this time. Counts shared cells twice, so it errs on the waiting side. */
    private boolean roomFor(Request request) {
        long used = 0;
        boolean others = false;
        long now = System.nanoTime();
        for (var other : pool.holders()) {
            if (other != null && other != request.sequence && !pool.abandoned(other, now) && other.birth < request.sequence.birth) {
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
            return context.decode(plan, tap, source);
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
            if (context.mtp() != null) {
                context.mtp().link(size - 1, position == request.sliceStart ? -1 : size - 2, sequence, position);
            }
        }
        return size;
    }

    private int addTree(Request request) {
        var tree = request.tree;
        var sequence = request.sequence;
        int size = 0;
        for (int i = 0; i < request.count; i++) {
            size = context.add(sequence.tokens[sequence.length + i], sequence.length + tree.depth(i), tree.ids(i), request.wants(i));
            if (context.mtp() != null) {
                int parent = tree.parent(i);
                context.mtp().link(size - 1, parent < 0 ? -1 : request.batchIndex + parent, sequence, sequence.length + tree.depth(i));
            }
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
        var victim = pool.victim(oldest.sequence.birth, oldest.sequence);
        if (victim != null) {
            pool.evict(victim);
            return true;
        }
        if (oldest.sliceCount > 1 && oldest.tree == null) {
            oldest.sliceCount /= 2;
            return true;
        }
        for (var other : pool.holders()) {
            if (other != null && other != oldest.sequence) {
                return false; // an older sequence that was busy a moment ago: it ends, goes on, or counts as idle soon
            }
        }
        int count = oldest.sliceCount;
        active.remove(oldest);
        pool.drop(oldest.sequence);
        oldest.finish(new ContextFullException("no cells left for " + count + " more tokens behind "
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
            var failure = sequence.sink == null ? null : read(request);
            if (failure != null) {
                abandon(request);
                request.finish(failure);
                continue;
            }
            if (tree) {
                sequence.cells = sequence.length + request.count;
                request.openTree = request.tree;
                if (context.mtp() != null) {
                    context.mtp().keep(request.tree, request.batchIndex);
                }
            } else {
                if (context.mtp() != null) {
                    context.mtp().keep(sequence, request.sliceStart, request.batchIndex, request.sliceCount);
                }
                sequence.valid += request.sliceCount;
                sequence.cells = sequence.valid;
            }
            if (tree || sequence.valid == sequence.length + request.count) {
                active.remove(request);
                expect(request, sequence, now);
                if (checkpointLimit > 0 && !tree && request.count >= CHECKPOINT_RUN) {
                    sequence.remember(context.save(sequence.id, sequence.valid), checkpointLimit);
                }
                request.finish(null);
            } else if (otherPlans || context.maxBatchSequences() < active.size()) {
                active.remove(request); // the others' turn
                active.add(request);
            }
        }
        batchRequests = 0;
        evaluated += tokens;
    }

    /** Hands what was read of a request's tokens to its sink; what the sink threw, null when all went well. */
    private RuntimeException read(Request request) {
        var sequence = request.sequence;
        boolean tree = request.treeIsDue();
        reading = Thread.currentThread();
        try {
            for (int j = 0; j < request.sliceCount; j++) {
                int index = request.sliceStart + j;
                int position = tree ? sequence.length + request.tree.depth(j) : index;
                sequence.sink.read(context.reading(request.batchIndex + j, position, sequence.tokens[index], tree ? j : -1));
            }
            return null;
        } catch (RuntimeException e) {
            return e;
        } catch (Exception | AssertionError | LinkageError e) {
            return new DecodeException("the sink of a tap failed: " + e, e);
        } finally {
            reading = null;
        }
    }

    /** What a step evaluated of a request goes, and the request ends. */
    private void abandon(Request request) {
        active.remove(request);
        takeBack(request);
        request.sequence.lastUse = System.nanoTime();
    }

    private void takeBack(Request request) {
        var sequence = request.sequence;
        if (request.tree != null) {
            pool.unbranch(request.tree);
        }
        sequence.cells = sequence.valid + request.sliceCount; // some of them may exist
        if (!pool.trim(sequence)) {
            pool.drop(sequence);
        }
    }

    /** After an abort or an error: what the step touched goes back to where it was. */
    private void rollBack(int code) {
        for (int i = 0; i < batchRequests; i++) {
            var request = batch[i];
            batch[i] = null;
            int count = request.sliceCount;
            if (code == NativeContext.ABORTED) {
                takeBack(request);
            } else {
                abandon(request);
                request.finish(new DecodeException("native code could not evaluate " + count + " tokens behind "
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
            LockSupport.parkNanos(this, CellPool.IDLE_NANOS / 10);
        }
        sleeper = null;
    }
}
