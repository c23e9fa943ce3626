package io.github.panamallama.bindings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The scripts {@code vendor} and {@code build} of ggml-src, in a copy of that folder with a cache of its own. */
class NativeBuildTest {
    private record Result(int code, String out, String err) {}

    @TempDir
    Path folder;

    private Path copy;

    @BeforeEach
    void copyTheSources() throws Exception {
        assumeFalse(System.getProperty("os.name").startsWith("Windows"), "the scripts need a Unix shell");
        copy = Files.createDirectories(folder.resolve("ggml-src"));
        var source = Path.of("../ggml-src");
        try (Stream<Path> files = Files.walk(source).filter(f -> !f.startsWith(source.resolve("upstream"))
                && !f.startsWith(source.resolve("target")))) {
            for (var file : (Iterable<Path>) files.filter(Files::isRegularFile)::iterator) {
                var target = copy.resolve(source.relativize(file));
                Files.createDirectories(target.getParent());
                Files.copy(file, target, java.nio.file.StandardCopyOption.COPY_ATTRIBUTES);
            }
        }
    }

    private Result run(Map<String, String> environment, String... command) throws Exception {
        var builder = new ProcessBuilder(command).directory(copy.toFile());
        builder.environment().put("PANAMA_LLAMA_CACHE", folder.resolve("cache").toString());
        builder.environment().remove("PANAMA_LLAMA_UPSTREAM");
        builder.environment().putAll(environment);
        var err = folder.resolve("stderr");
        var process = builder.redirectError(err.toFile()).start();
        var out = new String(process.getInputStream().readAllBytes());
        return new Result(process.waitFor(), out.strip(), Files.readString(err));
    }

    @Test
    void aCheckoutOfAnotherTreeIsRefusedWithBothHashes() throws Exception {
        var checkout = Files.createDirectories(folder.resolve("checkout/include"));
        Files.writeString(checkout.resolve("llama.h"), "// not llama.cpp\n");
        var result = run(Map.of(), "./vendor", checkout.getParent().toString());
        assertEquals(1, result.code());
        assertTrue(result.err().contains("hash to tree "), result::err);
        assertTrue(result.err().contains("not to fd570ef54b10ec5fecb739e7e04c8ce44a6f415a"), result::err);
        assertFalse(Files.exists(copy.resolve("upstream")));
        assertFalse(Files.exists(folder.resolve("cache/upstream")));
    }

    @Test
    void aCheckoutThatIsNotThereIsNamed() throws Exception {
        var result = run(Map.of("PANAMA_LLAMA_UPSTREAM", "/no/such/checkout"), "./vendor");
        assertEquals(1, result.code());
        assertTrue(result.err().contains("checkout /no/such/checkout: no such folder"), result::err);
    }

    @Test
    void withoutAnyRouteAllAreListedWithTheirReasons() throws Exception {
        var tools = Files.createDirectories(folder.resolve("tools"));
        Files.writeString(tools.resolve("npm"), "#!/bin/sh\necho 'registry is down' >&2\nexit 1\n");
        assertTrue(tools.resolve("npm").toFile().setExecutable(true));
        var result = run(Map.of("PATH", tools + ":" + System.getenv("PATH"),
                "GIT_CONFIG_COUNT", "1", "GIT_CONFIG_KEY_0", "url.file:///nowhere/.insteadOf", "GIT_CONFIG_VALUE_0", "https://"),
                        "./vendor");
        assertEquals(1, result.code());
        assertTrue(result.err().contains("npm package node-llama-cpp@3.22.1: npm pack failed: registry is down"), result::err);
        assertTrue(result.err().contains("git clone of https://github.com/ggml-org/llama.cpp, tag v0.5.0: "), result::err);
        assertTrue(result.err().contains("PANAMA_LLAMA_UPSTREAM=/path/to/llama.cpp"), result::err);
    }

    @Test
    void theKeyFollowsTheContentsAndFlagsAndNothingElse() throws Exception {
        var key = key();
        assertEquals(key, key());
        assertNotEquals(key, key("--portable"));
        assertNotEquals(key, key("--vulkan"));

        var notes = copy.resolve("patches/README.md");
        Files.writeString(notes, Files.readString(notes) + "more\n");
        assertEquals(key, key());

        var header = copy.resolve("ext/panama_llama.h");
        var text = Files.readString(header);
        Files.writeString(header, text + "\n");
        assertNotEquals(key, key());
        Files.writeString(header, text);
        assertEquals(key, key());

        Files.writeString(copy.resolve("patches/0001-hook.patch"), "");
        assertNotEquals(key, key());
    }

    private String key(String... options) throws Exception {
        var command = Stream.concat(Stream.of("./build", "--print-key"), Stream.of(options)).toArray(String[]::new);
        var result = run(Map.of(), command);
        assertEquals(0, result.code(), result::err);
        assertTrue(result.out().matches("[0-9a-f]{16}"), result::out);
        return result.out();
    }

    @Test
    void aSecondBuildDoesNothingAndPrintsTheFolder() throws Exception {
        // This build's own cache, and so the sources themselves: their build is complete.
        var installed = BuiltLibraries.folder();
        var before = Files.getLastModifiedTime(installed.resolve("natives.properties"));
        var builder = new ProcessBuilder("../ggml-src/build").redirectErrorStream(true);
        if (installed.getParent().endsWith("native")) {
            builder.environment().put("PANAMA_LLAMA_CACHE", installed.getParent().getParent().toString());
        }
        var process = builder.start();
        assertEquals(installed.toString(), new String(process.getInputStream().readAllBytes()).strip());
        assertEquals(0, process.waitFor());
        assertEquals(before, Files.getLastModifiedTime(installed.resolve("natives.properties")));
    }

    @Test
    void aMissingToolIsNamedWithHowToInstallIt() throws Exception {
        var result = run(Map.of("PATH", shellOnly()), "./build");
        assertEquals(1, result.code());
        assertTrue(result.err().contains("cmake not found"), result::err);
        assertTrue(result.err().contains("install"), result::err);

        result = run(Map.of("CXX", "no-such-compiler"), "./build");
        assertEquals(1, result.code());
        assertTrue(result.err().contains("no-such-compiler not found"), result::err);
    }

    @Test
    void anUnknownOptionIsNamed() throws Exception {
        var result = run(Map.of(), "./build", "--warp");
        assertEquals(2, result.code());
        assertTrue(result.err().contains("unknown option --warp"), result::err);
    }

    @Test
    void nativesForAnotherPlatformAreRefused() throws Exception {
        var result = run(Map.of(), "./build", "--classifier", "plan9-mips");
        assertEquals(1, result.code());
        assertTrue(result.err().contains("asked to build for 'plan9-mips', but this machine is "), result::err);
    }

    /** A PATH with what the script needs before it looks for tools, and nothing else. */
    private String shellOnly() throws IOException {
        var tools = Files.createDirectories(folder.resolve("shell"));
        for (var name : List.of("bash", "dirname", "uname", "sed", "cc", "c++")) {
            for (var part : System.getenv("PATH").split(":")) {
                if (Files.isExecutable(Path.of(part, name)) && !Files.exists(tools.resolve(name))) {
                    Files.writeString(tools.resolve(name), "#!/bin/sh\nexec '" + Path.of(part, name) + "' \"$@\"\n");
                    assertTrue(tools.resolve(name).toFile().setExecutable(true));
                }
            }
        }
        return tools.toString();
    }
}
