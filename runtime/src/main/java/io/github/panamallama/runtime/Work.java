package io.github.panamallama.runtime;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Something that only the leader of a {@link DecodeLoop} may do, because it touches the native context. Linked without allocation
 * into the loop's inbox.
 */
abstract sealed class Work {
    /** Link in the inbox; owned by the loop from submission to completion. */
    Work next;
    Ticket ticket;
    RuntimeException failure;

    /** Ends this piece of work; {@code failure} is null when it went well. */
    final void finish(RuntimeException failure) {
        this.failure = failure;
        var caller = ticket;
        ended();
        caller.finishOne();
    }

    void ended() {
    }

    /** Tokens to evaluate behind one sequence. Every sequence has one of these and uses it again and again. */
    static final class Request extends Work {
        final Sequence sequence;

        /** Tokens of the sequence's array behind {@code sequence.length} that wait for evaluation. */
        int count;
        /** How much of the history was never changed since the last request: what the cache holds of it is still right. */
        int keep;
        Row last;
        Row[] rows;
        /** Set for a tree of branches, null for a plain run. */
        TokenTree tree;

        /** Between submission and completion. */
        volatile boolean inFlight;
        volatile boolean cancelled;

        // what the running step evaluates; the leader's
        boolean inBatch;
        int sliceStart;
        int sliceCount;
        int batchIndex;
        /** Lost its cells to an older sequence while it waited, and comes back only when there is room. */
        boolean preempted;
        /** A tree that is evaluated and waits for {@link TokenTree#keep}; meanwhile nothing may be taken from the sequence. */
        TokenTree openTree;

        Request(Sequence sequence) {
            this.sequence = sequence;
        }

        /** Whether the logits after pending token {@code i} are wanted. */
        boolean wants(int i) {
            return rows != null ? rows[i] != null : last != null && i == count - 1;
        }

        Row row(int i) {
            return rows != null ? rows[i] : last;
        }

        /** Tokens that the next steps have to evaluate, lost cache entries included; a tree comes after its history. */
        int due() {
            int history = sequence.length - sequence.valid;
            if (treeIsDue()) {
                return count;
            }
            int all = tree == null ? history + count : history;
            return Math.min(all, sequence.adaptation.planEnd(sequence.valid) - sequence.valid); // one plan at a time
        }

        /** The plan under which that is evaluated, null for every block once. */
        LayerPlan plan() {
            return sequence.adaptation.plan(sequence.valid);
        }

        /** Whether the next thing to evaluate is the tree itself. */
        boolean treeIsDue() {
            return tree != null && sequence.valid == sequence.length;
        }

        @Override
        void ended() {
            inFlight = false;
            inBatch = false;
            preempted = false;
            last = null;
            rows = null;
            tree = null;
        }
    }

    /** Asks the MTP head for the logits behind a sequence and some tokens that it has not evaluated. */
    static final class Draft extends Work {
        final Sequence sequence;
        final int[] tokens;
        final Row row;
        /** As that of {@link Request}. */
        final int keep;

        // the leader's
        /** The row is filled. */
        boolean complete;
        /** The history is not evaluated as far as it goes, so there is nothing to start from. */
        boolean stale;

        Draft(Sequence sequence, int[] tokens, Row row, int keep) {
            this.sequence = sequence;
            this.tokens = tokens;
            this.row = row;
            this.keep = keep;
        }
    }

    /** Makes {@code child} share the cells of {@code parent}'s first {@code share} tokens. */
    static final class Fork extends Work {
        final Sequence parent;
        final Sequence child;
        /** Tokens of the parent that did not change since the engine saw it last. */
        final int keep;
        final int share;

        Fork(Sequence parent, Sequence child, int keep, int share) {
            this.parent = parent;
            this.child = child;
            this.keep = keep;
            this.share = share;
        }
    }

    /** Learns how states of this engine are laid out. */
    static final class Probe extends Work {
        /** Null where native code writes none that is known. */
        StateLayout layout;
    }

    /** Copies the native state of a sequence. */
    static final class Save extends Work {
        final Sequence sequence;
        /** As that of {@link Request}. */
        final int keep;
        final Arena arena;

        /** Null where the history is not evaluated as far as it goes. */
        MemorySegment state;
        /** Null where it is none of the known ones. */
        StateLayout layout;

        Save(Sequence sequence, int keep, Arena arena) {
            this.sequence = sequence;
            this.keep = keep;
            this.arena = arena;
        }
    }

    /** Gives a new sequence the cells that a state holds, if there are cells for it. */
    static final class Restore extends Work {
        final Sequence sequence;
        final MemorySegment state;

        Restore(Sequence sequence, MemorySegment state) {
            this.sequence = sequence;
            this.state = state;
        }
    }

    /** Makes sure that the graph has what a tap reads. */
    static final class Watch extends Work {
        final Tap tap;

        Watch(Tap tap) {
            this.tap = tap;
        }
    }

    /** Makes the adapters and the plans of a new sequence ready. */
    static final class Adopt extends Work {
        final Sequence sequence;

        Adopt(Sequence sequence) {
            this.sequence = sequence;
        }
    }

    /** Two sequences exchange what the cache holds of them. */
    static final class Exchange extends Work {
        final Sequence a;
        final Sequence b;

        Exchange(Sequence a, Sequence b) {
            this.a = a;
            this.b = b;
        }
    }

    /** Ends a token tree: the sequence continues at {@code leaf}'s branch with {@code depth} of its tokens, or without any. */
    static final class Prune extends Work {
        final TokenTree tree;
        final int leaf;
        final int depth;
        /** Where the branch that stays ends, -1 without any. */
        final int node;

        Prune(TokenTree tree, int leaf, int depth, int node) {
            this.tree = tree;
            this.leaf = leaf;
            this.depth = depth;
            this.node = node;
        }
    }

    /** Gives back the cells and the id of a closed sequence. */
    static final class Release extends Work {
        final Sequence sequence;

        Release(Sequence sequence) {
            this.sequence = sequence;
        }
    }

    /** Frees the native context; everything that waits fails. */
    static final class Shutdown extends Work {
    }
}
