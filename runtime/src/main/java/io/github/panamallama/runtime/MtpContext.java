package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_batch;
import io.github.panamallama.bindings.llama_context_params;
import io.github.panamallama.runtime.gguf.GgufMetadata;
import io.github.panamallama.runtime.natives.NativeError;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;

/**
 * The native context of a model's MTP head, beside the one of the model itself. The head is a block with a KV cache of its own; from
 * a token and the hidden state of the position before it, it makes logits for the position after the token and a hidden state of its own.
 *
 * <p>It follows the model: whatever the model evaluates under a sequence id, the head evaluates at the same positions under the same
 * id, and what one forgets or shares the other does too. Drafts lie behind that: a few tokens of a sequence that the model has not
 * evaluated, each of which starts from the head's own hidden state. They are gone before the model goes on there.
 *
 * <p>Errors go where those of the {@link NativeContext} go, which owns this one. Belongs to whoever leads the {@link DecodeLoop}.
 */
final class MtpContext {
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT;

    private final Arena arena = Arena.ofShared();
    private final MemorySegment target;
    private final MemorySegment context;
    private final MemorySegment memory;
    private final NativeError failure;
    private final MemorySegment error;
    private final int vocabularySize;
    private final int width;

    // following: the model's batch, with the hidden states before its tokens
    private final MemorySegment following;
    private final MemorySegment states;    // of the model's last batch, [batch][width]
    private final MemorySegment inputs;    // [batch][width]
    private final int[] before;            // for each entry the one before it; -1 if that is not in this batch

    // drafting: one token of each of several sequences
    private final Branch[] branches;       // by sequence id
    private final MemorySegment drafting;
    private final MemorySegment tokens;
    private final MemorySegment positions;
    private final MemorySegment ids;
    private final MemorySegment draftInputs;
    private final int capacity;

    /** What the head has evaluated behind a sequence; empty for none. */
    private static final class Branch {
        final int[] tokens = new int[Sequence.MAX_DRAFT];
        final float[] state;
        int start;
        int count;

        Branch(int width) {
            state = new float[width];
        }

        boolean leadsTo(Work.Draft draft) {
            if (start != draft.sequence.length || count >= draft.tokens.length) {
                return false;
            }
            for (int i = 0; i < count; i++) {
                if (tokens[i] != draft.tokens[i]) {
                    return false;
                }
            }
            return true;
        }
    }

    /**
     * @param batch the model's batch, whose tokens, positions and ids this one reads
     * @throws ModelLoadException when native code makes no such context
     */
    MtpContext(Model model, EngineOptions options, MemorySegment target, MemorySegment threads, MemorySegment abort, MemorySegment batch,
            int batchSize, NativeError failure) {
        this.target = target;
        this.failure = failure;
        error = failure.segment();
        var p = parameters(arena, model.gguf().metadata(), options);
        NativeContext.runtimeParameters(p, abort);
        MemorySegment created = MemorySegment.NULL;
        try {
            created = LlamaH.pl_context_new(model.handle(), p, 0, error);
            if (failure.outOfMemory()) {
                throw MemoryCheck.exhausted(model, options, failure.message());
            }
            if (failure.failed()) {
                throw new ModelLoadException("no context for the MTP head of '" + model.description() + "' with " + options + ": "
                        + failure.message());
            }
            LlamaH.pl_threads_share(threads, created, error);
            failure.check("sharing threads");
            LlamaH.pl_nextn_keep(target, false, error);
            failure.check("keeping hidden states");
            LlamaH.pl_nextn_keep(created, true, error);
            failure.check("keeping hidden states");
        } catch (RuntimeException e) {
            LlamaH.pl_context_free(created, MemorySegment.NULL);
            arena.close();
            throw e;
        }
        context = created;
        memory = LlamaH.llama_get_memory(context);
        vocabularySize = model.vocabulary().size();
        width = LlamaH.llama_model_n_embd_out(model.handle());

        states = arena.allocate(ValueLayout.JAVA_FLOAT, (long) batchSize * width);
        inputs = arena.allocate(ValueLayout.JAVA_FLOAT, (long) batchSize * width);
        before = new int[batchSize];
        following = llama_batch.allocate(arena).copyFrom(batch);
        llama_batch.embd(following, inputs);
        llama_batch.logits(following, arena.allocate(ValueLayout.JAVA_BYTE, batchSize));

        branches = new Branch[options.maxSequences()];
        capacity = Math.min(batchSize, branches.length);
        drafting = llama_batch.allocate(arena);
        tokens = arena.allocate(INT, capacity);
        positions = arena.allocate(INT, capacity);
        ids = arena.allocate(INT, capacity);
        draftInputs = arena.allocate(ValueLayout.JAVA_FLOAT, (long) capacity * width);
        var idCounts = arena.allocate(INT, capacity);
        var idPointers = arena.allocate(ValueLayout.ADDRESS, capacity);
        var outputs = arena.allocate(ValueLayout.JAVA_BYTE, capacity).fill((byte) 1);
        for (int i = 0; i < capacity; i++) {
            idCounts.setAtIndex(INT, i, 1);
            idPointers.setAtIndex(ValueLayout.ADDRESS, i, ids.asSlice(i * 4L, 4));
        }
        llama_batch.token(drafting, tokens);
        llama_batch.embd(drafting, draftInputs);
        llama_batch.pos(drafting, positions);
        llama_batch.n_seq_id(drafting, idCounts);
        llama_batch.seq_id(drafting, idPointers);
        llama_batch.logits(drafting, outputs);
    }

    /** Native parameters as far as they decide about memory: as many cells as the model's cache has. */
    static MemorySegment parameters(Arena arena, GgufMetadata metadata, EngineOptions options) {
        var p = NativeContext.parameters(arena, metadata, options);
        llama_context_params.ctx_type(p, LlamaH.LLAMA_CONTEXT_TYPE_MTP());
        return p;
    }

    /** Before the context that it follows. */
    void close() {
        LlamaH.pl_context_free(context, MemorySegment.NULL);
        arena.close();
    }

    // --- following the model --------------------------------------------------------------------------------------------

    /**
     * Says where the hidden state comes from that entry {@code i} of the model's batch needs.
     *
     * @param previous the entry before it, -1 if that was evaluated earlier
     */
    void link(int i, int previous, Sequence sequence, int position) {
        before[i] = previous;
        if (position == 0) {
            row(inputs, i).fill((byte) 0);
        } else if (previous < 0) {
            sequence.states.get(position - 1, inputs, i);
        }
    }

    /** After the model has evaluated its batch: lets the head evaluate the same tokens. Upstream's codes. */
    int follow(int size) {
        for (int i = 0; i < size; i++) {
            LlamaH.pl_get_nextn(target, i, row(states, i), width, error);
            failure.check("reading hidden states");
            if (before[i] >= 0) {
                row(inputs, i).copyFrom(row(states, before[i]));
            }
        }
        llama_batch.n_tokens(following, size);
        int code = LlamaH.pl_decode(context, following, error);
        if (code == NativeContext.NO_CELLS && forgetDrafts()) {
            code = LlamaH.pl_decode(context, following, error); // what the model had cells for fits
        }
        return code;
    }

    /** Keeps the hidden states of {@code count} entries of the batch from {@code entry} on, which are at {@code position} and after it. */
    void keep(Sequence sequence, int position, int entry, int count) {
        if (sequence.states == null) {
            sequence.states = new HiddenStates(width);
        }
        for (int i = 0; i < count; i++) {
            sequence.states.set(position + i, states, entry + i);
        }
    }

    /** Keeps the hidden states of a tree until it is known which branch stays. */
    void keep(TokenTree tree, int entry) {
        tree.states = states.asSlice((long) entry * width * Float.BYTES, (long) tree.size() * width * Float.BYTES)
                .toArray(ValueLayout.JAVA_FLOAT);
    }

    /** The branch that ends in {@code node} becomes part of its sequence. */
    void keepBranch(TokenTree tree, int node) {
        var sequence = tree.sequence();
        if (sequence.states == null) {
            sequence.states = new HiddenStates(width);
        }
        for (int depth = 0; depth <= tree.depth(node); depth++) {
            int at = node;
            while (tree.depth(at) > depth) {
                at = tree.parent(at);
            }
            sequence.states.set(sequence.length + depth, tree.states, at * width);
        }
    }

    void remove(int id, int from) {
        LlamaH.pl_memory_seq_rm(memory, id, from, -1, error);
        failure.check("access to the KV cache of the MTP head");
        if (branches[id] != null) {
            branches[id].count = 0; // its tokens lay behind everything else
        }
    }

    void copy(int source, int target, int from, int to) {
        LlamaH.pl_memory_seq_cp(memory, source, target, from, to, error);
        failure.check("access to the KV cache of the MTP head");
    }

    // --- drafting -------------------------------------------------------------------------------------------------------

    /** Forgets what the head has evaluated behind a sequence. */
    void forgetDraft(int id) {
        var branch = branches[id];
        if (branch != null && branch.count > 0) {
            remove(id, branch.start);
        }
    }

    /** Forgets all drafts; false if there are none. */
    private boolean forgetDrafts() {
        boolean any = false;
        for (int id = 0; id < branches.length; id++) {
            any |= branches[id] != null && branches[id].count > 0;
            forgetDraft(id);
        }
        return any;
    }

    /**
     * Evaluates the next token of each draft, as far as they fit into a batch. The sequences are evaluated and hold their cells.
     *
     * @return upstream's code; where it is {@link NativeContext#NO_CELLS}, all drafts are forgotten and there is room the next time
     */
    int advance(List<Work.Draft> drafts) {
        int size = Math.min(drafts.size(), capacity);
        for (int i = 0; i < size; i++) {
            var draft = drafts.get(i);
            var sequence = draft.sequence;
            var branch = branch(sequence.id);
            if (branch.count > 0 && !branch.leadsTo(draft)) {
                forgetDraft(sequence.id);
            }
            if (branch.count == 0) {
                branch.start = sequence.length;
                sequence.states.get(sequence.length - 1, draftInputs, i);
            } else {
                MemorySegment.copy(branch.state, 0, draftInputs, ValueLayout.JAVA_FLOAT, (long) i * width * Float.BYTES, width);
            }
            tokens.setAtIndex(INT, i, draft.tokens[branch.count]);
            positions.setAtIndex(INT, i, branch.start + branch.count);
            ids.setAtIndex(INT, i, sequence.id);
        }
        llama_batch.n_tokens(drafting, size);
        int code = LlamaH.pl_decode(context, drafting, error);
        if (code == NativeContext.NO_CELLS) {
            forgetDrafts();
        }
        if (code != 0) {
            return code;
        }
        for (int i = 0; i < size; i++) {
            var draft = drafts.get(i);
            var branch = branches[draft.sequence.id];
            branch.tokens[branch.count] = draft.tokens[branch.count];
            branch.count++;
            var state = row(draftInputs, i); // read already
            LlamaH.pl_get_nextn(context, i, state, width, error);
            failure.check("reading hidden states");
            MemorySegment.copy(state, ValueLayout.JAVA_FLOAT, 0, branch.state, 0, width);
            if (branch.count == draft.tokens.length) {
                LlamaH.pl_get_logits(context, i, draft.row.segment(), vocabularySize, error);
                failure.check("reading logits");
                draft.complete = true;
            }
        }
        return 0;
    }

    private Branch branch(int id) {
        if (branches[id] == null) {
            branches[id] = new Branch(width);
        }
        return branches[id];
    }

    private MemorySegment row(MemorySegment rows, int i) {
        return rows.asSlice((long) i * width * Float.BYTES, (long) width * Float.BYTES);
    }
}
