package io.github.panamallama.bindings;

import java.lang.foreign.Arena;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;

/**
 * The native libraries of this process. Loaded once and never unloaded; every binding finds its symbol here.
 *
 * <p>They are opened as plain files instead of by {@code System.load}, which would tie them to one class loader.
 */
public final class NativeLibraries {
    private static SymbolLookup lookup;

    private NativeLibraries() {}

    /**
     * Opens the libraries.
     *
     * @param libraries absolute paths, each after those it depends on
     * @throws IllegalArgumentException naming the library that cannot be opened
     * @throws IllegalStateException if libraries are loaded already
     */
    public static synchronized void load(List<Path> libraries) {
        if (lookup != null) {
            throw new IllegalStateException("native libraries are loaded already");
        }
        lookup = open(libraries);
    }

    static SymbolLookup open(List<Path> libraries) {
        // The C library last, for the few of its functions that callers bind themselves.
        var found = Linker.nativeLinker().defaultLookup();
        for (var library : libraries) {
            found = SymbolLookup.libraryLookup(library, Arena.global()).or(found);
        }
        return found;
    }

    static synchronized SymbolLookup lookup() {
        if (lookup == null) {
            throw new IllegalStateException("native code used before the native libraries were loaded");
        }
        return lookup;
    }

    /** Looks the libraries up at the first use of a function, so that constants and layouts work without any. */
    static Optional<MemorySegment> find(String name) {
        return lookup().find(name);
    }
}
