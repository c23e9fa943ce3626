package io.github.panamallama.models;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DefaultModelTest {
    @TempDir
    Path folder;

    @Test
    void pathIsAFileWithTheAnnouncedContent() throws Exception {
        var path = DefaultModel.path();
        assertEquals(DefaultModel.SIZE, Files.size(path));
        assertEquals(DefaultModel.SHA256, sha256(path));
    }

    @Test
    void unpackingGivesTheSameBytesAndHappensOnce() throws Exception {
        var first = DefaultModel.unpack(folder);
        assertEquals(DefaultModel.SHA256, sha256(first));
        var time = Files.getLastModifiedTime(first);
        assertEquals(first, DefaultModel.unpack(folder));
        assertEquals(time, Files.getLastModifiedTime(first));
        try (var files = Files.list(first.getParent())) {
            assertEquals(1, files.count(), "no left-overs beside the model");
        }
    }

    @Test
    void aFileOfTheWrongSizeIsReplaced() throws Exception {
        var file = DefaultModel.unpack(folder);
        Files.writeString(file, "GGUF");
        assertEquals(DefaultModel.SHA256, sha256(DefaultModel.unpack(folder)));
    }

    @Test
    void manyThreadsMayUnpackAtOnce() throws Exception {
        try (var executor = Executors.newVirtualThreadPerTaskExecutor()) {
            Callable<Path> task = () -> DefaultModel.unpack(folder);
            for (var result : executor.invokeAll(IntStream.range(0, 8).mapToObj(i -> task).toList())) {
                assertEquals(DefaultModel.SHA256, sha256(result.get()));
            }
        }
    }

    @Test
    void aCacheThatCannotBeWrittenIsNamed() throws Exception {
        var notAFolder = Files.writeString(folder.resolve("file"), "x");
        var failure = assertThrows(UncheckedIOException.class, () -> DefaultModel.unpack(notAFolder));
        assertTrue(failure.getMessage().contains(notAFolder.toString()), failure.getMessage());
        assertTrue(failure.getMessage().contains("PANAMA_LLAMA_CACHE"), failure.getMessage());
    }

    @Test
    void theCacheFollowsTheEnvironmentAndThePlatform() {
        assertEquals(Path.of("own"), DefaultModel.cache(Map.of("PANAMA_LLAMA_CACHE", "own", "XDG_CACHE_HOME", "xdg"), "Linux", "home"));
        assertEquals(Path.of("xdg", "panama-llama"), DefaultModel.cache(Map.of("XDG_CACHE_HOME", "xdg"), "Linux", "home"));
        assertEquals(Path.of("home", ".cache", "panama-llama"), DefaultModel.cache(Map.of(), "Linux", "home"));
        assertEquals(Path.of("home", "Library", "Caches", "panama-llama"), DefaultModel.cache(Map.of(), "Mac OS X", "home"));
        assertEquals(Path.of("local", "panama-llama"), DefaultModel.cache(Map.of("LOCALAPPDATA", "local"), "Windows 11", "home"));
    }

    @Test
    void theCardAndTheLicenceAreInTheJar() {
        assertNotNull(DefaultModel.class.getResource("/META-INF/java-tiny/README.md"));
        assertNotNull(DefaultModel.class.getResource("/META-INF/java-tiny/LICENSE"));
    }

    private static String sha256(Path file) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(Files.readAllBytes(file)));
    }
}
