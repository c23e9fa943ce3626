package io.github.panamallama.runtime.natives;

import io.github.panamallama.bindings.Abi;
import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.NativeLibraries;
import io.github.panamallama.runtime.NativeLibraryException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;

/**
 * Loads the native libraries, once per process. Every class that calls native code calls {@link #load} first, from its static
 * initialiser.
 *
 * <p>They come from the folder that the system property {@value NativesFolder#PROPERTY} or the environment variable
 * {@value NativesFolder#VARIABLE} names, else from the natives jar, which is unpacked once into the user's cache folder.
 */
public final class Natives {
    /** The logger of what keeps back ends of devices from being used, which a user should see. */
    private static final String DEVICES = "panamallama.devices";
    private static NativesFolder folder;
    private static NativeLibraryException failure;

    private Natives() {}

    /**
     * Makes native code callable. Cheap after the first call. Safe from any thread.
     *
     * @throws NativeLibraryException if there are no libraries for this platform, they are of another version, were built for
     *     another processor, or cannot be opened; the same again on every later call
     */
    public static synchronized void load() {
        if (failure != null) {
            throw new NativeLibraryException(failure.getMessage(), failure);
        }
        if (folder == null) {
            try {
                folder = open(NativesFolder.find());
            } catch (NativeLibraryException e) {
                failure = e;
                throw e;
            }
        }
    }

    /** Where the loaded libraries are. */
    public static synchronized Path folder() {
        load();
        return folder.libraryFolder();
    }

    /** Content key of the loaded build, for reports. */
    public static synchronized String key() {
        load();
        return folder.key();
    }

    private static NativesFolder open(NativesFolder folder) {
        var missing = CpuFeatures.missing(folder.cpuFeatures());
        if (!missing.isEmpty()) {
            throw new NativeLibraryException("the native libraries in " + folder.libraryFolder()
                    + " were built for another processor: this one lacks "
                    + String.join(", ", missing) + "; build them on this machine with ggml-src/build, or use the portable natives jar");
        }
        try {
            NativeLibraries.load(folder.libraries());
        } catch (IllegalArgumentException e) {
            throw new NativeLibraryException("the native libraries in " + folder.libraryFolder() + " cannot be opened: " + e.getMessage()
                    + "; is the file system mounted noexec, or a library missing or damaged?", e);
        } catch (IllegalCallerException e) {
            throw new NativeLibraryException("native access is denied to panama-llama; start java with --enable-native-access=panamallama.bindings,"
                    + "panamallama.runtime (module path) or --enable-native-access=ALL-UNNAMED (class path)", e);
        }
        checkAbi(folder);
        NativeLog.install(System.getLogger(NativeLog.NAME));
        var error = new NativeError();
        try (var arena = Arena.ofConfined()) {
            var modules = folder.hasModules() ? arena.allocateFrom(folder.libraryFolder().toString()) : MemorySegment.NULL;
            LlamaH.pl_backend_init(modules, error.segment());
        }
        if (error.failed()) {
            throw new NativeLibraryException("llama.cpp did not start: " + error.message());
        }
        boolean told = false;
        for (var plugin : folder.plugins()) {
            told |= warnIfUseless(plugin, error.message());
        }
        if (!told && !error.message().isEmpty()) {
            System.getLogger(DEVICES).log(System.Logger.Level.WARNING, error.message());
        }
        return folder;
    }

    /**
     * A plug-in whose driver or device is missing is no error: everything runs on the processor then.
     *
     * @param reason what native code said; may be empty
     */
    private static boolean warnIfUseless(String plugin, String reason) {
        try (var arena = Arena.ofConfined()) {
            var registry = LlamaH.ggml_backend_reg_by_name(arena.allocateFrom(plugin.equals("cuda") ? "CUDA" : "Vulkan"));
            boolean loaded = !registry.equals(MemorySegment.NULL);
            if (loaded && LlamaH.ggml_backend_reg_dev_count(registry) > 0) {
                return false;
            }
            var why = loaded ? "no device for it was found"
                    : "it could not be loaded: its driver or runtime libraries are missing or too old";
            System.getLogger(DEVICES).log(System.Logger.Level.WARNING, "the " + plugin + " plug-in is there, but " + why
                    + (reason.isEmpty() ? "" : " (" + reason + ")") + "; models run on the processor");
            return true;
        }
    }

    private static void checkAbi(NativesFolder folder) {
        var differences = Abi.differences();
        if (!differences.isEmpty()) {
            throw new NativeLibraryException("the native libraries in " + folder.libraryFolder()
                    + " are of another version than this one expects ("
                    + differences.size() + " differences): " + String.join("; ", differences.subList(0, Math.min(5, differences.size())))
                    + "; use the natives jar of the same release, or build them again with ggml-src/build");
        }
    }
}
