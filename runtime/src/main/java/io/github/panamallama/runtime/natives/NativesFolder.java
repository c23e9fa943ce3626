package io.github.panamallama.runtime.natives;

import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.NativeLibraryException;
import java.io.IOException;
import java.io.InputStream;
import java.io.StringReader;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.DigestOutputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.UUID;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;

/**
 * A folder with the native libraries and the properties that describe them, as {@code ggml-src/build} writes them.
 *
 * <p>Unpacking is safe between processes: everything is written and verified beside the target and takes its name in one step.
 */
final class NativesFolder {
    static final String PROPERTY = "panamallama.natives";
    static final String VARIABLE = "PANAMA_LLAMA_NATIVES";
    static final String DESCRIPTION = "natives.properties";

    /** Back ends that may come in jars of their own, with {@code plugin-NAME.properties}, as {@code ggml-src/build --plugin} writes it. */
    private static final List<String> PLUGINS = List.of("cuda", "vulkan");

    private static final List<String> PLATFORMS = List.of("linux-x86_64", "linux-aarch64", "macos-aarch64", "macos-x86_64",
            "windows-x86_64");

    private final Path libraryFolder;
    private final Properties properties;

    private NativesFolder(Path libraryFolder, Properties properties) {
        this.libraryFolder = libraryFolder;
        this.properties = properties;
    }

    Path libraryFolder() {
        return libraryFolder;
    }

    String key() {
        return properties.getProperty("key", "unknown");
    }

    /** What to open, dependencies first. */
    List<Path> libraries() {
        return list(properties, "libraries").stream().map(libraryFolder::resolve).toList();
    }

    /** Whether ggml has to load back ends from the folder itself. */
    boolean hasModules() {
        return !list(properties, "modules").isEmpty();
    }

    /** The back ends that came as plug-ins. */
    List<String> plugins() {
        return list(properties, "plugins");
    }

    List<String> cpuFeatures() {
        return list(properties, "cpu.features");
    }

    /** The folder that the user names, else the natives jar's contents. */
    static NativesFolder find() {
        var named = System.getProperty(PROPERTY, System.getenv(VARIABLE));
        if (named != null && !named.isBlank()) {
            return ofFolder(Path.of(named));
        }
        return ofResources(Platform.current(), Natives.class.getClassLoader(), cacheRoot(System.getProperty("os.name"), System::getenv));
    }

    /** A folder as {@code ggml-src/build} prints it, or with the libraries directly inside. */
    static NativesFolder ofFolder(Path folder) {
        var description = folder.resolve(DESCRIPTION);
        var how = "; " + PROPERTY + " (or " + VARIABLE + ") must name a folder that ggml-src/build printed";
        if (!Files.isRegularFile(description)) {
            throw new NativeLibraryException("no " + DESCRIPTION + " in " + folder.toAbsolutePath() + how);
        }
        try {
            var properties = parse(Files.readString(description));
            var libraries = Files.isDirectory(folder.resolve("lib")) ? folder.resolve("lib") : folder;
            var found = new NativesFolder(libraries.toAbsolutePath(), properties);
            for (var library : found.libraries()) {
                if (!Files.isRegularFile(library)) {
                    throw new NativeLibraryException("no library " + library + how);
                }
            }
            return found;
        } catch (IOException e) {
            throw new NativeLibraryException("cannot read " + description + ": " + LlamaException.reason(e), e);
        }
    }

    static NativesFolder ofResources(String platform, ClassLoader loader, Path cacheRoot) {
        var description = resource(loader, platform, DESCRIPTION);
        if (description == null) {
            var others = PLATFORMS.stream().filter(other -> resource(loader, other, DESCRIPTION) != null).toList();
            throw new NativeLibraryException("no native libraries for " + platform + ": looked for natives/" + platform + "/" + DESCRIPTION
                    + " on the class and module path" + (others.isEmpty() ? "" : ", where only " + String.join(", ", others)
                            + " is present")
                    + "; add the dependency panama-llama-natives with classifier " + platform
                            + ", or build them with ggml-src/build and name the"
                    + " folder it prints by -D" + PROPERTY + "=");
        }
        try {
            var text = read(description);
            var properties = parse(new String(text, StandardCharsets.UTF_8));
            var digest = sha256();
            digest.update(text);
            for (var plugin : PLUGINS) {
                addPlugin(plugin, platform, loader, properties, digest);
            }
            var name = properties.getProperty("version") + "-" + platform + "-" + hex(digest.digest()).substring(0, 16);
            Path folder;
            try {
                folder = unpack(platform, loader, properties, cacheRoot.resolve("unpacked"), name);
            } catch (IOException e) {
                // A cache that cannot be written (read-only home, full disk) costs an unpacking per process, not the program.
                var temporary = Files.createTempDirectory("panama-llama-");
                folder = unpack(platform, loader, properties, temporary, name);
                Runtime.getRuntime().addShutdownHook(new Thread(() -> delete(temporary)));
            }
            return new NativesFolder(folder.toAbsolutePath(), properties);
        } catch (IOException e) {
            throw new NativeLibraryException("cannot unpack the native libraries for " + platform + " to " + cacheRoot
                    + " or the temporary folder: " + LlamaException.reason(e), e);
        }
    }

    /** Adds the module of a plug-in, if its jar is there, to the files of the natives. */
    private static void addPlugin(String plugin, String platform, ClassLoader loader, Properties properties, MessageDigest digest)
            throws IOException {
        var description = resource(loader, platform, "plugin-" + plugin + ".properties");
        if (description == null) {
            return;
        }
        var text = read(description);
        var added = parse(new String(text, StandardCharsets.UTF_8));
        var sources = added.getProperty("sources", "unknown");
        if (!sources.equals(properties.getProperty("sources"))) {
            throw new NativeLibraryException("the plug-in " + plugin + " for " + platform + " was built from other sources (" + sources
                    + ") than the native libraries (" + properties.getProperty("sources")
                            + "); take both jars of one release, or build both");
        }
        digest.update(text);
        for (var name : List.of("modules", "plugins")) {
            var both = new ArrayList<>(list(properties, name));
            both.addAll(name.equals("plugins") ? List.of(plugin) : list(added, name));
            properties.setProperty(name, String.join(",", both));
        }
        for (var module : list(added, "modules")) {
            properties.setProperty("size." + module, added.getProperty("size." + module, "-1"));
            properties.setProperty("sha256." + module, added.getProperty("sha256." + module, "unknown"));
        }
    }

    private static Path unpack(String platform, ClassLoader loader, Properties properties, Path root, String name) throws IOException {
        var target = root.resolve(name);
        if (intact(target, properties)) {
            return target;
        }
        Files.createDirectories(root);
        var fresh = root.resolve("." + name + "-" + UUID.randomUUID());
        try {
            Files.createDirectory(fresh);
            for (var file : files(properties)) {
                copy(loader, platform, file, fresh.resolve(file), properties.getProperty("sha256." + file));
            }
            if (Files.exists(target) && !intact(target, properties)) {
                // Damaged from outside. Moved away in one step: a process that has it open keeps its files.
                var damaged = root.resolve("." + name + "-damaged-" + UUID.randomUUID());
                Files.move(target, damaged, StandardCopyOption.ATOMIC_MOVE);
                delete(damaged);
            }
            try {
                Files.move(fresh, target, StandardCopyOption.ATOMIC_MOVE);
            } catch (IOException e) {
                if (!intact(target, properties)) { // else another process was faster, with the same bytes
                    throw e;
                }
            }
            return target;
        } finally {
            delete(fresh);
        }
    }

    /** Whether all files are there with their sizes; their contents were verified when they got their name. */
    private static boolean intact(Path folder, Properties properties) throws IOException {
        for (var file : files(properties)) {
            try {
                if (Files.size(folder.resolve(file)) != Long.parseLong(properties.getProperty("size." + file, "-1"))) {
                    return false;
                }
            } catch (NoSuchFileException e) {
                return false;
            }
        }
        return true;
    }

    private static void copy(ClassLoader loader, String platform, String file, Path to, String sha256) throws IOException {
        var source = resource(loader, platform, file);
        if (source == null) {
            throw new NativeLibraryException("the natives jar for " + platform + " lacks " + file + "; fetch or build it again");
        }
        var digest = sha256();
        try (var in = open(source); var out = new DigestOutputStream(Files.newOutputStream(to), digest)) {
            in.transferTo(out);
        }
        if (!hex(digest.digest()).equals(sha256)) {
            throw new NativeLibraryException(file + " in the natives jar for " + platform + " is damaged (its SHA-256 is not " + sha256
                    + "); fetch or build it again");
        }
    }

    /** The user's cache folder for this project; {@code ggml-src/common.sh} has the same rule. */
    static Path cacheRoot(String osName, UnaryOperator<String> environment) {
        var named = environment.apply("PANAMA_LLAMA_CACHE");
        if (named != null && !named.isBlank()) {
            return Path.of(named);
        }
        var xdg = environment.apply("XDG_CACHE_HOME");
        if (xdg != null && !xdg.isBlank()) {
            return Path.of(xdg, "panama-llama");
        }
        var home = System.getProperty("user.home");
        return switch (Platform.of(osName, "any").split("-")[0]) {
            case "macos" -> Path.of(home, "Library", "Caches", "panama-llama");
            case "windows" -> {
                var local = environment.apply("LOCALAPPDATA");
                yield Path.of(local != null ? local : home + "\\AppData\\Local", "panama-llama");
            }
            default -> Path.of(home, ".cache", "panama-llama");
        };
    }

    private static List<String> files(Properties properties) {
        var files = new ArrayList<>(list(properties, "libraries"));
        files.addAll(list(properties, "modules"));
        return files;
    }

    private static List<String> list(Properties properties, String key) {
        var value = properties.getProperty(key, "");
        return value.isEmpty() ? List.of() : List.of(value.split(","));
    }

    private static URL resource(ClassLoader loader, String platform, String file) {
        return loader.getResource("natives/" + platform + "/" + file);
    }

    private static byte[] read(URL url) throws IOException {
        try (var in = open(url)) {
            return in.readAllBytes();
        }
    }

    /** Without the JVM-wide cache of jar files, which would keep the jar open. */
    private static InputStream open(URL url) throws IOException {
        var connection = url.openConnection();
        connection.setUseCaches(false);
        return connection.getInputStream();
    }

    private static Properties parse(String text) throws IOException {
        var properties = new Properties();
        properties.load(new StringReader(text));
        return properties;
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError(e);
        }
    }

    private static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }

    private static void delete(Path folder) {
        if (!Files.exists(folder)) {
            return;
        }
        try (Stream<Path> files = Files.walk(folder)) {
            files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
        } catch (IOException e) {
            // What stays behind is litter, not an error.
        }
    }
}
