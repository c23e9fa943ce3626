package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.runtime.natives.NativeError;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Objects;
import java.util.Set;

/**
 * Which blocks of one context run, and what is read of them. Made when the first plan or tap is used. Belongs to whoever leads the
 * {@link DecodeLoop}.
 */
final class BlockControl {
    /** Plans that are known to fit; whoever searches for plans tries thousands. */
    private static final int CHECKED_PLANS = 1 << 12;

    private final NativeError failure;
    private final MemorySegment error;
    private final MemorySegment handle;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment actions;
    private final Set<LayerPlan> checked = new HashSet<>();
    private LayerPlan used;
    private Tap tapped;
    private final Reading reading;

    BlockControl(MemorySegment context, Model model, NativeError failure) {
        this.failure = failure;
        this.error = failure.segment();
        handle = LlamaH.pl_layers_new(context, error);
        if (failure.failed()) {
            arena.close();
            throw new LayerPlanException("layer plans can't be used with this model: " + failure.message());
        }
        actions = arena.allocate(model.layerCount());
        reading = new Reading(model.layerCount());
    }

    MemorySegment handle() {
        return handle;
    }

    void close() {
        LlamaH.pl_layers_free(handle);
        arena.close();
    }

    /** @throws LayerPlanException when the graph can't be built under a plan */
    void check(LayerPlan plan) {
        if (checked.contains(plan)) {
            return;
        }
        LlamaH.pl_layers_check(handle, actions(plan), plan.blocks(), error);
        if (failure.failed()) {
            throw new LayerPlanException("the plan '" + plan + "' does not fit this model: " + failure.message());
        }
        if (checked.size() == CHECKED_PLANS) {
            checked.clear();
        }
        checked.add(plan);
    }

    private MemorySegment actions(LayerPlan plan) {
        for (int i = 0; i < plan.blocks(); i++) {
            actions.set(ValueLayout.JAVA_BYTE, i, plan.action(i));
        }
        return actions;
    }

    /** The plan of the next decode, one that was checked; null for every block once. */
    void use(LayerPlan plan) {
        if (!Objects.equals(plan, used)) {
            LlamaH.pl_layers_use(handle, plan == null ? MemorySegment.NULL : actions(plan), plan == null ? 0 : plan.blocks(), error);
            failure.check("choosing the blocks that run");
            used = plan;
        }
    }

    /**
     * What is read from the next decode on; null for nothing.
     *
     * @throws LayerPlanException when the graph has no such block or weight; what was read before still is
     */
    void tap(Tap tap) {
        if (Objects.equals(tap, tapped)) {
            return;
        }
        try (var scratch = Arena.ofConfined()) {
            var hidden = tap == null ? new int[0] : tap.hiddenBlocks().stream().mapToInt(Integer::intValue).toArray();
            var names = tap == null ? new MemorySegment[0]
                    : tap.inputWeights().stream().map(scratch::allocateFrom).toArray(MemorySegment[]::new);
            var pointers = scratch.allocate(ValueLayout.ADDRESS, names.length);
            for (int i = 0; i < names.length; i++) {
                pointers.setAtIndex(ValueLayout.ADDRESS, i, names[i]);
            }
            LlamaH.pl_layers_tap(handle, tap != null && tap.readsNorms(), scratch.allocateFrom(ValueLayout.JAVA_INT, hidden), hidden.length,
                    pointers, names.length, error);
        }
        if (failure.failed()) {
            throw new LayerPlanException("this model can't be read so: " + failure.message());
        }
        tapped = tap;
        reading.prepare(tap);
    }

    /** What the last decode read of batch entry {@code index}. */
    Tap.Reading reading(int index, int position, int token, int node) {
        reading.index = index;
        reading.position = position;
        reading.token = token;
        reading.node = node;
        reading.loaded = false;
        reading.fetched = -1;
        return reading;
    }

    private final class Reading implements Tap.Reading {
        private final int layers;
        private final MemorySegment norms;
        private Tap tap;
        private long[] widths = {};
        /** Of each vector; 0 where it is of no weight of experts. */
        private int[] expertCounts = {};
        private int[] used = {};
        private MemorySegment vector = MemorySegment.NULL;
        private int index;
        private int position;
        private int token;
        private int node;
        private boolean loaded;
        /** What {@link #vector} holds; -1 for nothing of this token. */
        private int fetched;

        Reading(int layers) {
            this.layers = layers;
            norms = arena.allocate(ValueLayout.JAVA_FLOAT, 3L * (layers + 1));
        }

        void prepare(Tap tap) {
            this.tap = tap;
            widths = new long[tap == null ? 0 : tap.hiddenBlocks().size() + tap.inputWeights().size()];
            expertCounts = new int[widths.length];
            used = new int[widths.length];
            for (int i = 0; i < widths.length; i++) {
                widths[i] = LlamaH.pl_layers_tap_width(handle, i);
                expertCounts[i] = LlamaH.pl_layers_tap_experts(handle, i);
                used[i] = LlamaH.pl_layers_tap_used(handle, i);
            }
            long widest = Arrays.stream(widths).max().orElse(0);
            if (vector.byteSize() < widest * Float.BYTES) {
                vector = arena.allocate(ValueLayout.JAVA_FLOAT, widest);
            }
        }

        @Override
        public int position() {
            return position;
        }

        @Override
        public int token() {
            return token;
        }

        @Override
        public int node() {
            return node;
        }

        private float value(int block, int which) {
            if (!tap.readsNorms()) {
                throw new IllegalStateException("this tap reads no norms");
            }
            Objects.checkIndex(block + 1, layers + 1);
            if (!loaded) {
                LlamaH.pl_layers_norms(handle, index, norms);
                loaded = true;
            }
            return norms.getAtIndex(ValueLayout.JAVA_FLOAT, 3L * (block + 1) + which);
        }

        @Override
        public float norm(int block) {
            return value(block, 0);
        }

        @Override
        public float difference(int block) {
            return value(block, 1);
        }

        @Override
        public float cosine(int block) {
            return value(block, 2);
        }

        private int vector(int block) {
            int found = tap.hiddenBlocks().indexOf(block);
            if (found < 0) {
                throw new IllegalArgumentException("this tap does not read the output of block " + block);
            }
            return found;
        }

        private int vector(String weight) {
            int found = tap.inputWeights().indexOf(weight);
            if (found < 0) {
                throw new IllegalArgumentException("this tap does not read the input of '" + weight + "'");
            }
            return tap.hiddenBlocks().size() + found;
        }

        private boolean fetch(int which) {
            if (fetched != which && LlamaH.pl_layers_vector(handle, which, index, vector)) {
                fetched = which;
            }
            return fetched == which;
        }

        private void fetch(int which, float[] target) {
            if (target.length != widths[which]) {
                throw new IllegalArgumentException("an array of " + target.length + " for a vector of " + widths[which]);
            }
            fetch(which, 0, target);
        }

        private void fetch(int which, long from, float[] target) {
            if (!fetch(which)) {
                throw notComputed();
            }
            MemorySegment.copy(vector, ValueLayout.JAVA_FLOAT, from * Float.BYTES, target, 0, target.length);
        }

        private IllegalStateException notComputed() {
            return new IllegalStateException("this was not computed for the token at position " + position);
        }

        @Override
        public boolean has(int block) {
            return fetch(vector(block));
        }

        @Override
        public void hidden(int block, float[] target) {
            fetch(vector(block), target);
        }

        @Override
        public boolean has(String weight) {
            return fetch(vector(weight));
        }

        @Override
        public void input(String weight, float[] target) {
            int found = vector(weight);
            if (used[found] > 0) {
                throw new IllegalArgumentException("'" + weight + "' has experts; say of which the input is asked for");
            }
            fetch(found, target);
        }

        @Override
        public int expertCount(String weight) {
            return expertCounts[vector(weight)];
        }

        private int vectorOfExperts(String weight) {
            int found = vector(weight);
            if (used[found] == 0) {
                throw new IllegalArgumentException("'" + weight + "' has no experts");
            }
            return found;
        }

        @Override
        public int[] experts(String weight) {
            int found = vectorOfExperts(weight);
            var chosen = new int[used[found]];
            try (var scratch = Arena.ofConfined()) {
                var to = scratch.allocate(ValueLayout.JAVA_INT, chosen.length);
                if (!LlamaH.pl_layers_chosen(handle, found, index, to)) {
                    throw notComputed();
                }
                MemorySegment.copy(to, ValueLayout.JAVA_INT, 0, chosen, 0, chosen.length);
            }
            return chosen;
        }

        @Override
        public void input(String weight, int which, float[] target) {
            int found = vectorOfExperts(weight);
            Objects.checkIndex(which, used[found]);
            boolean own = target.length * (long) used[found] == widths[found];   // otherwise all of them see the same
            if (!own && target.length != widths[found]) {
                throw new IllegalArgumentException("an array of " + target.length + " for the input of an expert of '" + weight + "'");
            }
            fetch(found, own ? (long) which * target.length : 0, target);
        }
    }
}
