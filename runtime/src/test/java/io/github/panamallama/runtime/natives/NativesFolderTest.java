package io.github.panamallama.runtime.natives;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.NativeLibraryException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class NativesFolderTest {
    private static final String PLATFORM = "linux-x86_64";

    @TempDir
    Path folder;

    private Path jar;
    private Path cache;

    /** A class path entry that looks like a natives jar with two small files. */
    @BeforeEach
    void makeNatives() throws Exception {
        jar = folder.resolve("jar");
        cache = folder.resolve("cache");
        var natives = Files.createDirectories(jar.resolve("natives").resolve(PLATFORM));
        var text = new StringBuilder("version=0.5.0\nkey=abc\nsources=s1\nlibraries=liba.so,libb.so\nmodules=\ncpu.features=avx2,fma\n");
        for (var name : List.of("liba.so", "libb.so")) {
            var bytes = name.repeat(1000).getBytes();
            Files.write(natives.resolve(name), bytes);
            text.append("size.").append(name).append('=').append(bytes.length).append('\n');
            text.append("sha256.").append(name).append('=').append(HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes))).append('\n');
        }
        Files.writeString(natives.resolve("natives.properties"), text);
    }

    private ClassLoader loader() throws Exception {
        return new URLClassLoader(new URL[] {jar.toUri().toURL()}, null);
    }

    @Test
    void theJarIsUnpackedOnceAndFoundAgain() throws Exception {
        var first = NativesFolder.ofResources(PLATFORM, loader(), cache);
        assertEquals(List.of("liba.so", "libb.so"), first.libraries().stream().map(p -> p.getFileName().toString()).toList());
        assertArrayEquals(Files.readAllBytes(jar.resolve("natives/linux-x86_64/liba.so")),
                Files.readAllBytes(first.libraries().getFirst()));
        assertTrue(first.libraryFolder().startsWith(cache), first.libraryFolder()::toString);
        assertEquals(List.of("avx2", "fma"), first.cpuFeatures());
        assertFalse(first.hasModules());

        var written = Files.getLastModifiedTime(first.libraries().getFirst());
        var second = NativesFolder.ofResources(PLATFORM, loader(), cache);
        assertEquals(first.libraryFolder(), second.libraryFolder());
        assertEquals(written, Files.getLastModifiedTime(second.libraries().getFirst()));
    }

    @Test
    void aTruncatedFileInTheCacheIsReplaced() throws Exception {
        var library = NativesFolder.ofResources(PLATFORM, loader(), cache).libraries().getLast();
        Files.write(library, new byte[10]);
        var again = NativesFolder.ofResources(PLATFORM, loader(), cache).libraries().getLast();
        assertEquals(library, again);
        assertArrayEquals(Files.readAllBytes(jar.resolve("natives/linux-x86_64/libb.so")), Files.readAllBytes(again));
        assertOnlyTheFolderIsLeft();
    }

    @Test
    void aMissingFileInTheCacheIsReplaced() throws Exception {
        var library = NativesFolder.ofResources(PLATFORM, loader(), cache).libraries().getLast();
        Files.delete(library);
        NativesFolder.ofResources(PLATFORM, loader(), cache);
        assertTrue(Files.exists(library));
    }

    @Test
    void aDamagedJarIsRefusedAndLeavesNothingBehind() throws Exception {
        var file = jar.resolve("natives/linux-x86_64/libb.so");
        var bytes = Files.readAllBytes(file);
        bytes[17] ^= 1;
        Files.write(file, bytes);
        var error = assertThrows(NativeLibraryException.class, () -> NativesFolder.ofResources(PLATFORM, loader(), cache));
        assertTrue(error.getMessage().contains("libb.so") && error.getMessage().contains("damaged"), error::getMessage);
        try (Stream<Path> left = Files.list(cache.resolve("unpacked"))) {
            assertEquals(0, left.count());
        }
    }

    @Test
    void aJarThatLacksALibraryIsRefusedByName() throws Exception {
        Files.delete(jar.resolve("natives/linux-x86_64/liba.so"));
        var error = assertThrows(NativeLibraryException.class, () -> NativesFolder.ofResources(PLATFORM, loader(), cache));
        assertTrue(error.getMessage().contains("lacks liba.so"), error::getMessage);
    }

    @Test
    void aCacheThatCannotBeWrittenCostsOnlyATemporaryFolder() throws Exception {
        Files.writeString(folder.resolve("file"), "not a folder");
        var found = NativesFolder.ofResources(PLATFORM, loader(), folder.resolve("file"));
        assertTrue(Files.exists(found.libraries().getFirst()));
        assertFalse(found.libraryFolder().startsWith(folder), found.libraryFolder()::toString);
    }

    @Test
    void manyAtOnceUnpackToOneIntactFolder() throws Exception {
        Callable<Path> unpack = () -> NativesFolder.ofResources(PLATFORM, loader(), cache).libraryFolder();
        try (var executor = Executors.newFixedThreadPool(16)) {
            var folders = executor.invokeAll(IntStream.range(0, 16).mapToObj(i -> unpack).toList());
            for (var found : folders) {
                assertEquals(folders.getFirst().get(), found.get());
            }
        }
        assertOnlyTheFolderIsLeft();
    }

    private void assertOnlyTheFolderIsLeft() throws Exception {
        try (Stream<Path> left = Files.list(cache.resolve("unpacked"))) {
            assertEquals(1, left.count());
        }
    }

    @Test
    void aPlugInOfTheSameSourcesIsUnpackedBesideTheLibraries() throws Exception {
        var without = NativesFolder.ofResources(PLATFORM, loader(), cache);
        assertEquals(List.of(), without.plugins());
        addPlugIn("s1");
        var with = NativesFolder.ofResources(PLATFORM, loader(), cache);
        assertEquals(List.of("cuda"), with.plugins());
        assertTrue(with.hasModules());
        assertEquals(without.libraries().size(), with.libraries().size());
        assertArrayEquals("module".getBytes(), Files.readAllBytes(with.libraryFolder().resolve("libggml-cuda.so")));
        assertFalse(Files.exists(without.libraryFolder().resolve("libggml-cuda.so")), "a program without the plug-in does not load it");
    }

    @Test
    void aPlugInOfOtherSourcesIsRefused() throws Exception {
        addPlugIn("s2");
        var error = assertThrows(NativeLibraryException.class, () -> NativesFolder.ofResources(PLATFORM, loader(), cache));
        assertTrue(error.getMessage().contains("plug-in cuda"), error::getMessage);
        assertTrue(error.getMessage().contains("(s2)") && error.getMessage().contains("(s1)"), error::getMessage);
    }

    private void addPlugIn(String sources) throws Exception {
        var natives = jar.resolve("natives").resolve(PLATFORM);
        var bytes = "module".getBytes();
        Files.write(natives.resolve("libggml-cuda.so"), bytes);
        var sha256 = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
        Files.writeString(natives.resolve("plugin-cuda.properties"), "sources=" + sources
                + "\nmodules=libggml-cuda.so\nsize.libggml-cuda.so="
                + bytes.length + "\nsha256.libggml-cuda.so=" + sha256 + "\n");
    }

    @Test
    void anUnknownPlatformIsNamedWithWhatIsThere() throws Exception {
        var error = assertThrows(NativeLibraryException.class, () -> NativesFolder.ofResources("linux-riscv64", loader(), cache));
        assertTrue(error.getMessage().contains("no native libraries for linux-riscv64"), error::getMessage);
        assertTrue(error.getMessage().contains("natives/linux-riscv64/natives.properties"), error::getMessage);
        assertTrue(error.getMessage().contains("only linux-x86_64 is present"), error::getMessage);
        assertTrue(error.getMessage().contains("classifier linux-riscv64"), error::getMessage);
    }

    @Test
    void noNativesAtAllSayHowToGetThem() throws Exception {
        var empty = new URLClassLoader(new URL[0], null);
        var error = assertThrows(NativeLibraryException.class, () -> NativesFolder.ofResources(PLATFORM, empty, cache));
        assertTrue(error.getMessage().contains("add the dependency panama-llama-natives with classifier linux-x86_64"), error::getMessage);
    }

    @Test
    void aNamedFolderMayHoldTheLibrariesDirectlyOrInLib() throws Exception {
        var flat = jar.resolve("natives").resolve(PLATFORM);
        assertEquals(flat.toAbsolutePath(), NativesFolder.ofFolder(flat).libraryFolder());

        var installed = Files.createDirectories(folder.resolve("installed/lib")).getParent();
        Files.copy(flat.resolve("natives.properties"), installed.resolve("natives.properties"));
        Files.copy(flat.resolve("liba.so"), installed.resolve("lib/liba.so"));
        Files.copy(flat.resolve("libb.so"), installed.resolve("lib/libb.so"));
        assertEquals(installed.resolve("lib").toAbsolutePath(), NativesFolder.ofFolder(installed).libraryFolder());
    }

    @Test
    void aNamedFolderWithoutLibrariesIsRefused() throws Exception {
        var error = assertThrows(NativeLibraryException.class, () -> NativesFolder.ofFolder(folder));
        assertTrue(error.getMessage().contains("no natives.properties in " + folder), error::getMessage);

        var flat = jar.resolve("natives").resolve(PLATFORM);
        Files.delete(flat.resolve("libb.so"));
        error = assertThrows(NativeLibraryException.class, () -> NativesFolder.ofFolder(flat));
        assertTrue(error.getMessage().contains("no library " + flat.resolve("libb.so").toAbsolutePath()), error::getMessage);
    }

    @Test
    void theCacheFolderFollowsTheEnvironment() {
        var home = System.getProperty("user.home");
        assertEquals(Path.of("/x"), NativesFolder.cacheRoot("Linux", Map.of("PANAMA_LLAMA_CACHE", "/x", "XDG_CACHE_HOME", "/y")::get));
        assertEquals(Path.of("/y/panama-llama"), NativesFolder.cacheRoot("Linux", Map.of("XDG_CACHE_HOME", "/y")::get));
        assertEquals(Path.of(home, ".cache/panama-llama"), NativesFolder.cacheRoot("Linux", Map.<String, String>of()::get));
        assertEquals(Path.of(home, "Library/Caches/panama-llama"), NativesFolder.cacheRoot("Mac OS X", Map.<String, String>of()::get));
        assertEquals(Path.of("/z/panama-llama"), NativesFolder.cacheRoot("Windows 11", Map.of("LOCALAPPDATA", "/z")::get));
    }

    @Test
    void platformsHaveTheNamesOfTheJars() {
        assertEquals("linux-x86_64", Platform.of("Linux", "amd64"));
        assertEquals("macos-aarch64", Platform.of("Mac OS X", "aarch64"));
        assertEquals("windows-x86_64", Platform.of("Windows 11", "amd64"));
        assertEquals("linux-riscv64", Platform.of("Linux", "riscv64"));
    }
}
