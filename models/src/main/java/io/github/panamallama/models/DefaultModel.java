package io.github.panamallama.models;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.Locale;
import java.util.Map;

/**
 * java-tiny: 5.8 million parameters that imitate Java, Q8_0, 6 MB. Its card lies beside the class as {@code META-INF/java-tiny/README.md}.
 *
 * <p>Native code maps files, not resources: {@link #path} unpacks the model once into the user's cache, in a folder named by its
 * content, so that versions live side by side. Safe for use by several threads and processes at once.
 */
public final class DefaultModel {
    /** The name of the file, in the jar and in the cache. */
    public static final String FILE_NAME = "java-tiny-q8_0.gguf";
    /** SHA-256 of the file, hexadecimal. */
    public static final String SHA256 = "81d3c9894af4074cb71c3627c2a83d399ab3194e632eb34706a99a6216d47bef";
    /** The size of the file, in bytes. */
    public static final long SIZE = 6_241_408;

    private DefaultModel() {
    }

    /**
     * The model as a file: where the classes lie in a folder that one, otherwise a copy in the cache folder, which is
     * {@code $PANAMA_LLAMA_CACHE}, {@code $XDG_CACHE_HOME/panama-llama} or the platform's usual place.
     *
     * @throws UncheckedIOException if the cache can't be written; the message names the folder
     */
    public static Path path() {
        var resource = DefaultModel.class.getResource(FILE_NAME);
        if (resource == null) {
            throw new IllegalStateException("the jar of " + DefaultModel.class.getName() + " has no " + FILE_NAME
                    + "; it was repackaged without it");
        }
        if (resource.getProtocol().equals("file")) {
            try {
                return Path.of(new URI(resource.toString()));
            } catch (URISyntaxException e) {
                throw new IllegalStateException(resource + " is no URI", e);
            }
        }
        return unpack(cacheFolder());
    }

    /** Puts the model into {@code cache}, unless it is there. */
    static Path unpack(Path cache) {
        var folder = cache.resolve("models").resolve(SHA256.substring(0, 16));
        var file = folder.resolve(FILE_NAME);
        try {
            // written under another name and moved, so a file of this name and size is complete
            if (Files.isRegularFile(file) && Files.size(file) == SIZE) {
                return file;
            }
            Files.createDirectories(folder);
            var unfinished = Files.createTempFile(folder, FILE_NAME, ".part");
            try {
                copyTo(unfinished);
                move(unfinished, file);
            } finally {
                Files.deleteIfExists(unfinished);
            }
            return file;
        } catch (IOException e) {
            throw new UncheckedIOException("can't unpack " + FILE_NAME + " to " + folder
                    + "; make it writable or set PANAMA_LLAMA_CACHE to another folder", e);
        }
    }

    private static void copyTo(Path target) throws IOException {
        MessageDigest digest;
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every JDK has SHA-256", e);
        }
        try (var in = DefaultModel.class.getResourceAsStream(FILE_NAME); var out = Files.newOutputStream(target)) {
            var buffer = new byte[1 << 16];
            for (int count = in.read(buffer); count >= 0; count = in.read(buffer)) {
                digest.update(buffer, 0, count);
                out.write(buffer, 0, count);
            }
        }
        var hash = HexFormat.of().formatHex(digest.digest());
        if (!hash.equals(SHA256)) {
            throw new IOException(FILE_NAME + " in the jar has SHA-256 " + hash + ", not " + SHA256 + ": the jar is damaged");
        }
    }

    private static void move(Path from, Path to) throws IOException {
        try {
            Files.move(from, to, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } catch (FileAlreadyExistsException | AccessDeniedException e) {
            // on Windows a file that another process has mapped can't be replaced; it has the same bytes
            if (!Files.isRegularFile(to) || Files.size(to) != SIZE) {
                throw e;
            }
        }
    }

    /** The cache folder of all parts of the project, which is to be had without unpacking the model. */
    public static Path cacheFolder() {
        return cache(System.getenv(), System.getProperty("os.name"), System.getProperty("user.home"));
    }

    static Path cache(Map<String, String> environment, String osName, String home) {
        var own = environment.get("PANAMA_LLAMA_CACHE");
        if (own != null && !own.isBlank()) {
            return Path.of(own);
        }
        var xdg = environment.get("XDG_CACHE_HOME");
        if (xdg != null && !xdg.isBlank()) {
            return Path.of(xdg, "panama-llama");
        }
        var os = osName.toLowerCase(Locale.ROOT);
        var local = environment.get("LOCALAPPDATA");
        if (os.startsWith("windows") && local != null && !local.isBlank()) {
            return Path.of(local, "panama-llama");
        }
        if (os.startsWith("mac")) {
            return Path.of(home, "Library", "Caches", "panama-llama");
        }
        return Path.of(home, ".cache", "panama-llama");
    }
}
