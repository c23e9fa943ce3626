package io.github.panamallama.adapters;

import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.AdapterInUseException;
import io.github.panamallama.runtime.ClosedException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileTime;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.function.Function;

/**
 * The adapters of one model that are in memory, at most so many bytes of them. What is asked for is loaded in the background, while
 * generations go on; where the budget is full, the adapters that were asked for longest ago are closed, but never one that an open
 * sequence or a {@link Lease} uses.
 *
 * <pre>{@code
 * try (var lease = registry.acquire(file).join()) {
 *     sequence = engine.newSequence(AdapterSet.of(lease.adapter(), 0.8f));
 * }   // from here on the sequence keeps it
 * }</pre>
 *
 * LoRA and NOLA files are taken; the latter are expanded in F32. A file that has changed since it was loaded is loaded anew. Thread
 * rule: any thread may call anything.
 */
public final class AdapterRegistry implements AutoCloseable {
    /** The right to use an adapter that stays loaded until {@link #close}. */
    public static final class Lease implements AutoCloseable {
        private final AdapterRegistry registry;
        private final Entry entry;
        private boolean released;

        private Lease(AdapterRegistry registry, Entry entry) {
            this.registry = registry;
            this.entry = entry;
        }

        /** The adapter. Closing it is the registry's business. */
        public Adapter adapter() {
            return entry.adapter;
        }

        /** Ends the lease. Sequences that were made with the adapter keep it. Closing again does nothing. */
        @Override
        public void close() {
            synchronized (registry.entries) {
                if (!released) {
                    released = true;
                    registry.release(entry);
                }
            }
        }
    }

    /** A file as it was at some time. */
    private record Key(Path file, long size, FileTime modified) {
        static Key of(Path file) {
            try {
                var real = file.toRealPath();
                var attributes = Files.readAttributes(real, BasicFileAttributes.class);
                return new Key(real, attributes.size(), attributes.lastModifiedTime());
            } catch (NoSuchFileException e) {
                throw new AdapterException(file + ": no such file", e);
            } catch (IOException e) {
                throw new AdapterException(file + " can't be read: " + LlamaException.reason(e), e);
            }
        }
    }

    /** An adapter that is loaded or about to be. All fields but the future are guarded by {@link #entries}. */
    private static final class Entry {
        final Key key;
        /** Completed without the lock, after {@link #adapter} is set. */
        final CompletableFuture<Void> loaded = new CompletableFuture<>();
        /** What is counted against the budget: expected bytes while it is being loaded. */
        long bytes;
        int leases;
        /** Null while it is being loaded; written once, before {@link #loaded} completes. */
        volatile Adapter adapter;

        Entry(Key key) {
            this.key = key;
        }
    }

    private final Model model;
    private final long budget;
    private final Function<Path, Adapter> loader;
    /** Least recently asked for first; the lock of all state. */
    private final LinkedHashMap<Key, Entry> entries = new LinkedHashMap<>();
    private boolean closed;

    private final Object hashing = new Object();
    private String modelHash;

    /**
     * An empty registry.
     *
     * @param model  stays the caller's, and open as long as this registry
     * @param budget most bytes of native memory that adapters may take, at least 1; see {@link Adapter#sizeBytes}
     */
    public AdapterRegistry(Model model, long budget) {
        this(model, budget, file -> Adapter.load(model, file));
    }

    /** @param loader loads a LoRA file for the model */
    AdapterRegistry(Model model, long budget, Function<Path, Adapter> loader) {
        if (budget < 1) {
            throw new IllegalArgumentException("the budget is " + budget + " bytes; it must be at least 1");
        }
        this.model = model;
        this.budget = budget;
        this.loader = loader;
    }

    /**
     * Asks for an adapter. It is loaded by a virtual thread, unless it is in memory; a file that several ask for is loaded once.
     *
     * @return completes with a lease, which the caller closes; cancelling it gives the adapter back. Or it completes with
     *         {@link AdapterException} if the file is missing, no adapter, not for this model, or doesn't fit the budget beside what is in
     *         use, with {@link io.github.panamallama.runtime.gguf.GgufException} if it breaks the format, or with {@link ClosedException}
     *         if this registry or the model is closed
     */
    public CompletableFuture<Lease> acquire(Path file) {
        var future = new CompletableFuture<Lease>();
        Thread.startVirtualThread(() -> {
            try {
                var lease = lease(file);
                if (!future.complete(lease)) {
                    lease.close();  // cancelled meanwhile
                }
            } catch (Throwable e) {
                future.completeExceptionally(e);
            }
        });
        return future;
    }

    private Lease lease(Path file) {
        var key = Key.of(file);
        Entry entry;
        boolean load = false;
        synchronized (entries) {
            requireOpen();
            entry = entries.remove(key);
            if (entry == null || entry.adapter != null && entry.adapter.closed()) {
                entry = new Entry(key);
                load = true;
            }
            entry.leases++;
            entries.put(key, entry);    // as the most recent
        }
        if (load) {
            load(entry);
        }
        try {
            entry.loaded.join();
        } catch (CompletionException e) {
            throw e.getCause() instanceof RuntimeException cause ? cause : e;
        }
        return new Lease(this, entry);
    }

    private void load(Entry entry) {
        Adapter adapter = null;
        try {
            var gguf = GgufFile.read(entry.key.file);
            // checked first, so that a file that can't be loaded displaces nothing
            if (NolaAdapter.isNola(gguf)) {
                var nola = NolaAdapter.read(entry.key.file);
                nola.check(model.parts(), modelHash());
                reserve(entry, nola.expandedSize());
                adapter = load(nola);
            } else {
                var file = AdapterFile.read(entry.key.file);
                file.check(model.parts());
                reserve(entry, file.byteSize());
                adapter = loader.apply(entry.key.file);
            }
            reserve(entry, adapter.sizeBytes());    // padding, and conversions
            synchronized (entries) {
                requireOpen();
                entry.adapter = adapter;
            }
            entry.loaded.complete(null);
        } catch (Throwable e) {
            synchronized (entries) {
                entries.remove(entry.key, entry);
            }
            if (adapter != null) {
                adapter.close();
            }
            entry.loaded.completeExceptionally(e);
        }
    }

    /** Reads the whole model the first time. */
    private String modelHash() {
        synchronized (hashing) {
            if (modelHash == null) {
                modelHash = NolaAdapter.baseHash(model.parts());
            }
            return modelHash;
        }
    }

    private Adapter load(NolaAdapter nola) {
        try {
            var expanded = Files.createTempFile("panama-llama-", ".gguf");
            try {
                nola.expand().write(expanded, GgmlType.F32);
                return loader.apply(expanded);
            } finally {
                Files.deleteIfExists(expanded);
            }
        } catch (IOException e) {
            throw new AdapterException("NOLA adapter \"" + nola.name() + "\" can't be expanded into a temporary file: "
                    + LlamaException.reason(e), e);
        }
    }

    /** Makes room, if need be by closing adapters, and counts {@code bytes} for this entry. */
    private void reserve(Entry entry, long bytes) {
        synchronized (entries) {
            requireOpen();
            if (bytes > budget) {
                throw new AdapterException(entry.key.file + " takes " + bytes + " bytes; the registry's budget is " + budget
                        + " bytes: raise it");
            }
            long others = used() - entry.bytes;
            for (var victim : List.copyOf(entries.values())) {
                if (others + bytes <= budget) {
                    break;
                }
                if (victim != entry && closeIfUnused(victim)) {
                    others -= victim.bytes;
                }
            }
            if (others + bytes > budget) {
                throw new AdapterException(entry.key.file + " takes " + bytes + " bytes, but of the registry's budget of " + budget
                        + " bytes " + others
                        + " are in use by " + (entries.size() - 1) + " other adapters; close sequences, or raise the budget");
            }
            entry.bytes = bytes;
        }
    }

    /** Whether the entry was unused and is gone. Called under the lock. */
    private boolean closeIfUnused(Entry entry) {
        if (entry.leases > 0 || entry.adapter == null) {
            return false;
        }
        try {
            entry.adapter.close();
        } catch (AdapterInUseException e) {
            return false;
        }
        entries.remove(entry.key);
        return true;
    }

    /** Called under the lock. */
    private void release(Entry entry) {
        entry.leases--;
        if (closed) {
            closeIfUnused(entry);
        }
    }

    private void requireOpen() {
        if (closed) {
            throw new ClosedException("the adapter registry is closed");
        }
    }

    /** Called under the lock. */
    private long used() {
        return entries.values().stream().mapToLong(entry -> entry.bytes).sum();
    }

    /** The most bytes that adapters may take. */
    public long budget() {
        return budget;
    }

    /** The bytes that adapters take now, those being loaded included; at most {@link #budget}. */
    public long usedBytes() {
        synchronized (entries) {
            return used();
        }
    }

    /** The files whose adapters are in memory, the one asked for longest ago first. */
    public List<Path> resident() {
        synchronized (entries) {
            return entries.values().stream().filter(entry -> entry.adapter != null).map(entry -> entry.key.file).toList();
        }
    }

    /**
     * Closes all adapters that are not in use and loads no more. One that a lease still holds is closed when the lease is.
     *
     * @throws LlamaException if open sequences use adapters: those stay open until they are unused and this is called again
     */
    @Override
    public void close() {
        long used;
        synchronized (entries) {
            closed = true;
            List.copyOf(entries.values()).forEach(this::closeIfUnused);
            used = entries.values().stream().filter(entry -> entry.adapter != null && entry.leases == 0).count();
        }
        if (used > 0) {
            throw new LlamaException(used + (used == 1 ? " adapter is" : " adapters are")
                    + " in use by open sequences; close these, then the registry again");
        }
    }
}
