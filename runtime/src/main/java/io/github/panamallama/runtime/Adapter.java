package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.pl_adapter_part;
import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.natives.NativeError;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;

/**
 * A LoRA adapter, loaded for one {@link Model}: the weights of {@code y += scale * B (A x)} for some of its matrices. Immutable and
 * shared by all engines of the model; which sequences it acts on is said by an {@link AdapterSet}.
 *
 * <p>It owns native memory, {@link #sizeBytes} of it, until {@link #close}, which is refused while open sequences use it. Thread rule:
 * any thread may call anything.
 */
public final class Adapter implements AutoCloseable {
    /** Null for an adapter of a model elsewhere. */
    private final Model model;
    private final AdapterFile file;
    /** Whoever has the weights of an adapter elsewhere; null where they are here. */
    private final Holder holder;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment parts;
    private final long sizeBytes;
    private final int maxRank;

    private int sequences;
    /**
     * As {@link #sequences}, and closed ones that an engine has not parted with yet: while it decodes, they have to wait for its next step.
     */
    private int holds;
    private boolean closed;

    /** Whoever has weights that are not in this process. */
    public interface Holder {
        /** The one thing that all adapters of one model elsewhere have in common; compared by identity. */
        Object owner();

        /** How many open sequences use the adapter. */
        int sequences();

        /** @throws AdapterInUseException while open sequences use it */
        void close();
    }

    /** An adapter elsewhere. */
    private Adapter(AdapterFile file, long sizeBytes, Holder holder) {
        this.model = null;
        this.file = file;
        this.holder = holder;
        this.sizeBytes = sizeBytes;
        parts = MemorySegment.NULL;
        maxRank = maxRank(file);
    }

    private Adapter(Model model, AdapterFile file) {
        this.model = model;
        this.file = file;
        this.holder = null;
        boolean complete = false;
        try (var channel = FileChannel.open(file.path(), StandardOpenOption.READ); var scratch = new Scratch()) {
            var targets = file.targets();
            long bytes = 0;
            for (var target : targets) {
                bytes += padded(target.a().byteSize()) + padded(bytesOfB(target));
            }
            long available = AvailableMemory.now();
            if (bytes > available) {
                throw new AdapterException(file.path() + ": " + MemoryEstimate.text(bytes) + " are needed for its weights, "
                        + MemoryEstimate.text(available) + " are available; close other adapters or use a smaller type");
            }
            var weights = arena.allocate(bytes, 64);
            parts = pl_adapter_part.allocateArray(targets.size(), arena);
            long used = 0;
            for (int i = 0; i < targets.size(); i++) {
                var target = targets.get(i);
                var a = weights.asSlice(used, target.a().byteSize());
                used += padded(a.byteSize());
                var b = weights.asSlice(used, bytesOfB(target));
                used += padded(b.byteSize());
                read(channel, target.a(), a);
                checkFinite(target.a(), a, scratch.error);
                if (target.transposed()) {
                    read(channel, target.b(), b);
                    checkFinite(target.b(), b, scratch.error);
                } else {
                    readTransposed(channel, target, b, scratch);
                }
                fill(pl_adapter_part.asSlice(parts, i), target, a, b);
            }
            sizeBytes = used;
            maxRank = maxRank(file);
            complete = true;
        } catch (IOException e) {
            throw new AdapterException(file.path() + " can't be read: " + LlamaException.reason(e), e);
        } finally {
            if (!complete) {
                arena.close();
            }
        }
    }

    /**
     * Loads an adapter for a model. The file is checked against the model first.
     *
     * @param path a GGUF file of an adapter; other formats are converted by the tools of the {@code adapters} module
     * @throws GgufException    if the file is missing, can't be read or breaks the format
     * @throws AdapterException if it is no adapter for this model, has weights that are NaN or infinite, or doesn't fit into memory
     * @throws ClosedException  if the model is closed
     */
    public static Adapter load(Model model, Path path) {
        model.handle(); // throws when it is closed
        var file = AdapterFile.read(path);
        file.check(model.parts());
        checkScales(model, file);
        return new Adapter(model, file);
    }

    /**
     * An adapter whose weights another process has: known here by its file's header alone, to be named in an {@link AdapterSet}. No
     * engine of this process takes it.
     *
     * @param sizeBytes what its weights take there
     */
    public static Adapter elsewhere(AdapterFile file, long sizeBytes, Holder holder) {
        return new Adapter(file, sizeBytes, Objects.requireNonNull(holder, "holder"));
    }

    private static int maxRank(AdapterFile file) {
        return file.targets().stream().mapToInt(AdapterFile.Target::rank).max().orElseThrow();
    }

    /** A weight with a scale of its own gets it after the product: the adapter's part would be scaled, too. */
    private static void checkScales(Model model, AdapterFile file) {
        var tensors = new HashSet<String>();
        model.parts().forEach(part -> part.tensors().forEach(tensor -> tensors.add(tensor.name())));
        for (var target : file.targets()) {
            if (target.name().endsWith(".weight") && tensors.contains(target.name().replaceFirst("weight$", "scale"))) {
                throw new AdapterException(file.path() + ": it adapts \"" + target.name() + "\", which has a scale of its own in "
                        + model.path() + "; merge the adapter into the model before it is quantised");
            }
        }
    }

    /** B lies in memory with its rows along the outputs; types with blocks can't be turned, and become F16. */
    private static GgmlType typeOfB(AdapterFile.Target target) {
        return target.transposed() || !target.b().type().isQuantized() ? target.b().type() : GgmlType.F16;
    }

    private static long bytesOfB(AdapterFile.Target target) {
        return typeOfB(target).bytes(target.b().elementCount());
    }

    private static long padded(long bytes) {
        return (bytes + 63) / 64 * 64;
    }

    private void read(FileChannel channel, GgufTensor tensor, MemorySegment to) throws IOException {
        long position = file.gguf().position(tensor);
        for (long done = 0; done < to.byteSize();) {
            var buffer = to.asSlice(done, Math.min(to.byteSize() - done, 1 << 30)).asByteBuffer();
            int count = channel.read(buffer, position + done);
            if (count < 0) {
                throw new AdapterException(file.path() + " became shorter since its header was read");
            }
            done += count;
        }
    }

    private void readTransposed(FileChannel channel, AdapterFile.Target target, MemorySegment to, Scratch scratch) throws IOException {
        var tensor = target.b();
        var type = typeOfB(target);
        var from = scratch.of(tensor.byteSize());
        read(channel, tensor, from);
        checkFinite(tensor, from, scratch.error);
        long width = tensor.shape().get(1);
        long experts = target.experts();
        if (type != tensor.type()) {
            var narrow = scratch.second(type.bytes(tensor.elementCount()));
            LlamaH.pl_weights_to_f16(from, tensor.type().id(), target.rank(), width * experts, narrow, scratch.error.segment());
            scratch.error.check(file.path() + ": converting \"" + tensor.name() + "\"");
            from = narrow;
            if (LlamaH.pl_weights_first_not_finite(from, type.id(), target.rank(), width * experts, scratch.error.segment()) >= 0) {
                throw new AdapterException(file.path() + ": a weight of \"" + tensor.name() + "\" is larger than " + type.label()
                        + " can hold");
            }
        }
        long slice = type.bytes(target.rank() * width);
        for (long expert = 0; expert < experts; expert++) {
            LlamaH.pl_weights_transpose(from.asSlice(expert * slice, slice), type.id(), target.rank(), width,
                    to.asSlice(expert * slice, slice), scratch.error.segment());
            scratch.error.check(file.path() + ": reading \"" + tensor.name() + "\"");
        }
    }

    private void checkFinite(GgufTensor tensor, MemorySegment weights, NativeError error) {
        long columns = tensor.shape().getFirst();
        long index = LlamaH.pl_weights_first_not_finite(weights, tensor.type().id(), columns, tensor.elementCount() / columns,
                error.segment());
        error.check(file.path() + ": checking \"" + tensor.name() + "\"");
        if (index >= 0) {
            throw new AdapterException(file.path() + ": weight " + index + " of \"" + tensor.name()
                    + "\" is NaN or infinite; the file is damaged, or the training that wrote it has diverged");
        }
    }

    private void fill(MemorySegment part, AdapterFile.Target target, MemorySegment a, MemorySegment b) {
        pl_adapter_part.tensor(part, arena.allocateFrom(target.name()));
        pl_adapter_part.a(part, a);
        pl_adapter_part.b(part, b);
        pl_adapter_part.a_type(part, target.a().type().id());
        pl_adapter_part.b_type(part, typeOfB(target).id());
        pl_adapter_part.embedding(part, target.embedding() ? 1 : 0);
        pl_adapter_part.rank(part, target.rank());
        pl_adapter_part.inputs(part, target.embedding() ? target.outputs() : target.inputs());
        pl_adapter_part.outputs(part, target.embedding() ? target.inputs() : target.outputs());
        pl_adapter_part.experts(part, target.experts());
        pl_adapter_part.scale(part, target.scale(file.alpha()));
    }

    /** Room for one matrix after the other while a file is read. */
    private static final class Scratch implements AutoCloseable {
        final NativeError error = new NativeError();
        private final Arena arena = Arena.ofConfined();
        private MemorySegment first = MemorySegment.NULL;
        private MemorySegment second = MemorySegment.NULL;

        MemorySegment of(long bytes) {
            if (first.byteSize() < bytes) {
                first = arena.allocate(bytes, 64);
            }
            return first.asSlice(0, bytes);
        }

        MemorySegment second(long bytes) {
            if (second.byteSize() < bytes) {
                second = arena.allocate(bytes, 64);
            }
            return second.asSlice(0, bytes);
        }

        @Override
        public void close() {
            arena.close();
        }
    }

    /**
     * The model that it adapts.
     *
     * @throws UnsupportedOperationException if that is in another process
     */
    public Model model() {
        if (model == null) {
            throw new UnsupportedOperationException(path() + " adapts a model in another process, which can't be had here");
        }
        return model;
    }

    /** What all adapters of one model have in common. */
    Object owner() {
        return holder == null ? model : holder.owner();
    }

    /** The file's header: metadata, targets, shapes. */
    public AdapterFile file() {
        return file;
    }

    /** The file it was loaded from. */
    public Path path() {
        return file.path();
    }

    /** What the file calls it. */
    public String name() {
        return file.name();
    }

    /** What {@code alpha / rank} scales; 0 for none, a scale of 1. */
    public float alpha() {
        return file.alpha();
    }

    /** The largest rank of its matrices. */
    public int maxRank() {
        return maxRank;
    }

    /** The matrices that it adapts. */
    public List<AdapterFile.Target> targets() {
        return file.targets();
    }

    /**
     * The tokens that switch an activated LoRA (aLoRA) on: it acts from the first of them on, and what stands before is evaluated without
     * it. A sequence that grows is switched on by their first occurrence, one that is forked from a longer history by the last one there.
     * Empty for an adapter that always acts.
     */
    public int[] invocationTokens() {
        return file.invocationTokens();
    }

    /** Native memory that its weights take on the host, in bytes; engines whose model lies on a GPU keep a copy there. */
    public long sizeBytes() {
        return sizeBytes;
    }

    /** How many open sequences use it. */
    public int sequences() {
        if (holder != null) {
            return holder.sequences();
        }
        synchronized (this) {
            return sequences;
        }
    }

    /** Whether {@link #close} was called. */
    public synchronized boolean closed() {
        return closed;
    }

    /**
     * Frees the weights; where an engine is decoding, once it is done with them. Closing a closed adapter does nothing.
     *
     * @throws AdapterInUseException while open sequences use it; it stays open
     */
    @Override
    public void close() {
        synchronized (this) {
            if (closed) {
                return;
            }
            if (holder != null) {
                holder.close();
            }
            if (sequences > 0) {
                throw new AdapterInUseException(path() + " is used by " + sequences
                        + (sequences == 1 ? " open sequence" : " open sequences")
                        + "; close " + (sequences == 1 ? "it" : "them") + " first", sequences);
            }
            closed = true;
            if (holds > 0) {
                return;
            }
        }
        arena.close();
    }

    // --- for engines ----------------------------------------------------------------------------------------------------

    /** {@code struct pl_adapter_part}, one per target; valid between {@link #retain} and {@link #release}. */
    MemorySegment parts() {
        return parts;
    }

    /** A sequence begins to use it. */
    synchronized void retain() {
        if (closed) {
            throw new ClosedException("the adapter " + path() + " is closed");
        }
        sequences++;
        holds++;
    }

    /** The sequence was closed, and the adapter may be: the memory stays until {@link #release}. */
    synchronized void letGo() {
        if (sequences == 0) {
            throw new IllegalStateException("let go more often than retained");
        }
        sequences--;
    }

    /** Ends a {@link #retain} after {@link #letGo}. */
    void release() {
        synchronized (this) {
            if (holds == sequences) {
                throw new IllegalStateException("released before it was let go");
            }
            if (--holds > 0 || !closed) {
                return;
            }
        }
        arena.close();
    }

    @Override
    public String toString() {
        return "Adapter[" + path() + ", rank " + maxRank + ", " + targets().size() + " targets]";
    }
}
