package io.github.panamallama.runtime;

import io.github.panamallama.runtime.Work.Fork;
import io.github.panamallama.runtime.Work.Prune;
import io.github.panamallama.runtime.Work.Request;
import io.github.panamallama.runtime.Work.Restore;
import io.github.panamallama.runtime.Work.Save;
import java.lang.foreign.Arena;
import java.util.Arrays;
import java.util.function.Consumer;

/**
 * Who holds which native sequence id, and what the cache under it is worth.
 *
 * <p>Ids and cells are held only while useful. When either runs out they are taken from the sequence that is idle for longest, then
 * from the youngest one; an older sequence never waits for a younger one, so that there is always one that can go on. Belongs to
 * whoever leads the {@link DecodeLoop}; only the figures may be read by others.
 */
final class CellPool {
    /** A sequence that was idle for longer is treated as abandoned when others need its cells. */
    static final long IDLE_NANOS = 50_000_000;

    private final NativeContext context;
    private final Consumer<Sequence> dropped;
    private final Sequence[] byId;
    private final int[] freeIds;
    private int freeCount;

    private StateLayout layout;

    private volatile long evictions;
    private volatile long preemptions;
    private volatile long reused;

    /**
     * @param ids     native sequence ids, 0 to {@code ids - 1}
     * @param dropped hears of every sequence that is about to lose its id
     */
    CellPool(NativeContext context, int ids, Consumer<Sequence> dropped) {
        this.context = context;
        this.dropped = dropped;
        this.byId = new Sequence[ids];
        this.freeIds = new int[ids];
        for (int i = 0; i < ids; i++) {
            freeIds[i] = ids - 1 - i;
        }
        this.freeCount = ids;
    }

    /** The sequences by their native ids, null where an id is free or a leaf's. */
    Sequence[] holders() {
        return byId;
    }

    /** Forgets everybody without native calls: the context is gone. */
    void clear() {
        Arrays.fill(byId, null);
    }

    int idsInUse() {
        return byId.length - freeCount;
    }

    long cellsInUse() {
        long cells = 0;
        for (var sequence : byId) {
            if (sequence != null) {
                cells += sequence.cells;
            }
        }
        return cells;
    }

    long evictions() {
        return evictions;
    }

    long preemptions() {
        return preemptions;
    }

    long reused() {
        return reused;
    }

    // --- requests -------------------------------------------------------------------------------------------------------

    /** Takes in how much of its history the owner left unchanged. */
    void keep(Sequence sequence, int length) {
        sequence.valid = Math.min(sequence.valid, length);
        sequence.forgetCheckpointsAfter(length);
    }

    /** Gives a request a native id and a cache that ends where its history does; false when it has to wait. */
    boolean admit(Request request) {
        var sequence = request.sequence;
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
        context.assign(sequence.id, sequence.adaptation);
        return !request.treeIsDue() || branch(request.tree, sequence);
    }

    /** Each gets the other's id, cells and checkpoints. */
    void exchange(Sequence a, Sequence b) {
        int id = a.id;
        int cells = a.cells;
        int valid = a.valid;
        var checkpoints = a.checkpoints;
        var draftStart = a.draftStart;
        var states = a.states;
        a.id = b.id;
        a.cells = b.cells;
        a.valid = b.valid;
        a.checkpoints = b.checkpoints;
        a.draftStart = b.draftStart;
        a.states = b.states;
        b.id = id;
        b.cells = cells;
        b.valid = valid;
        b.checkpoints = checkpoints;
        b.draftStart = draftStart;
        b.states = states;
        if (a.id >= 0) {
            byId[a.id] = a;
        }
        if (b.id >= 0) {
            byId[b.id] = b;
        }
    }

    void fork(Fork fork) {
        var parent = fork.parent;
        var child = fork.child;
        keep(parent, fork.keep);
        child.checkpoints = parent.checkpoints;
        child.forgetCheckpointsAfter(fork.share);
        child.lastUse = parent.lastUse;
        int share = Math.min(parent.valid, fork.share);
        if (parent.id < 0 || share == 0 || !trim(parent) || share < parent.valid && !context.forgetsSingleTokens()) {
            return;
        }
        share = Math.min(parent.valid, share);
        int id = takeId(parent.birth, parent);
        if (id < 0) {
            return; // evaluated again when the child goes on
        }
        hold(child, id);
        context.copy(parent.id, id, 0, share);
        child.cells = share;
        child.valid = share;
        child.states = parent.states == null ? null : parent.states.share(share);
        reused += share;
    }

    // --- trees ----------------------------------------------------------------------------------------------------------

    /** Gives every leaf of a tree an id that shares the sequence's cells; the first leaf uses the sequence's own. */
    private boolean branch(TokenTree tree, Sequence sequence) {
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
            context.assign(id, sequence.adaptation);
            tree.giveId(id);
        }
        return true;
    }

    void unbranch(TokenTree tree) {
        for (int i = tree.idsHeld() - 1; i > 0; i--) {
            context.remove(tree.leafId(i), 0);
            freeIds[freeCount++] = tree.leafId(i);
        }
        tree.clearIds();
    }

    void prune(Prune prune) {
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
        if (prune.node >= 0 && context.mtp() != null) {
            context.mtp().keepBranch(tree, prune.node);
        }
        unbranch(tree);
        sequence.lastUse = System.nanoTime();
        sequence.cells = Math.max(sequence.cells, end);
        sequence.valid = end;
        context.remove(sequence.id, end);
        sequence.cells = end;
    }

    // --- states ---------------------------------------------------------------------------------------------------------

    /** How the context lays out a state, learned from that of one token if need be; null where it is unknown. */
    StateLayout layout() {
        if (layout == null) {
            int id = takeId(Long.MAX_VALUE, null);
            if (id < 0) {
                throw new ContextFullException("all " + byId.length + " sequence ids are in use; try again later, or raise "
                        + "EngineOptions.maxSequences");
            }
            try {
                while (!context.evaluateOne(id)) {
                    var victim = victim(Long.MAX_VALUE, null);
                    if (victim == null) {
                        throw new ContextFullException("no cell of the context is free; raise EngineOptions.contextSize");
                    }
                    evict(victim);
                }
                try (var arena = Arena.ofConfined()) {
                    layout = StateLayout.of(context.state(id, arena));
                }
            } finally {
                context.remove(id, 0);
                freeIds[freeCount++] = id;
            }
        }
        return layout;
    }

    void save(Save save) {
        var sequence = save.sequence;
        keep(sequence, save.keep);
        if (sequence.id >= 0 && !trim(sequence)) {
            drop(sequence);
        }
        if (sequence.id >= 0 && sequence.valid == sequence.length) {
            save.state = context.state(sequence.id, save.arena);
            layout = layout == null ? StateLayout.of(save.state) : layout;
            save.layout = layout;
        }
    }

    /** Without free cells the sequence gets none, and is evaluated when it goes on. */
    void restore(Restore restore) {
        var sequence = restore.sequence;
        int id = takeId(sequence.birth, sequence);
        if (id < 0) {
            return;
        }
        hold(sequence, id);
        sequence.lastUse = System.nanoTime();
        sequence.cells = sequence.length;
        while (!context.putState(id, restore.state, sequence.length)) {
            var victim = victim(sequence.birth, sequence);
            if (victim == null) {
                drop(sequence);
                return;
            }
            evict(victim);
        }
        sequence.valid = sequence.length;
        reused += sequence.length;
    }

    // --- ids and cells --------------------------------------------------------------------------------------------------

    /** Whether nobody is about to use a sequence: it idles for long, or its caller still waits for others of the same call. */
    boolean abandoned(Sequence sequence, long now) {
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
    Sequence victim(long birth, Sequence beneficiary) {
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

    /** Takes id and cells from a sequence; its request, if it has one, waits until there is room again. */
    void evict(Sequence victim) {
        if (victim.request.inFlight) {
            preemptions++;
            victim.request.preempted = true;
        } else {
            evictions++;
        }
        drop(victim);
    }

    /** Gives back a sequence's cells and id. Its tokens stay with it. */
    void drop(Sequence sequence) {
        if (sequence.id >= 0) {
            dropped.accept(sequence);
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
        sequence.states = null;
    }

    /**
     * Makes the native cache of a sequence end where its valid history does.
     *
     * @return false when the model can't do that; the caller then drops the sequence, and it is evaluated again
     */
    boolean trim(Sequence sequence) {
        if (sequence.cells == sequence.valid) {
            return true;
        }
        if (sequence.valid > 0 && context.forgets(sequence.id, sequence.valid)) {
            sequence.cells = sequence.valid;
            return true;
        }
        int last = sequence.checkpoints.isEmpty() ? 0 : sequence.checkpoints.getLast().length();
        if (sequence.draftStart != null && sequence.draftStart.length() > last && restore(sequence, sequence.draftStart)) {
            return true;
        }
        for (int i = sequence.checkpoints.size() - 1; i >= 0; i--) {
            if (restore(sequence, sequence.checkpoints.get(i))) {
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

    private boolean restore(Sequence sequence, Sequence.Checkpoint checkpoint) {
        if (checkpoint.length() > sequence.valid || !context.restore(sequence.id, checkpoint)) {
            return false;
        }
        sequence.cells = checkpoint.length();
        sequence.valid = checkpoint.length();
        reused += checkpoint.length();
        return true;
    }
}
