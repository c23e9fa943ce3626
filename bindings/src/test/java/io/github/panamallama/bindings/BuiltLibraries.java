package io.github.panamallama.bindings;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.StringReader;
import java.lang.foreign.SymbolLookup;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.TimeUnit;

/** The native build that this build of the bindings belongs to, and the C compiler that made it. */
final class BuiltLibraries {
    private BuiltLibraries() {}

    /** lib/, include/ and natives.properties. */
    static Path folder() throws IOException {
        return Path.of(Files.readString(Path.of("../ggml-src/target/installed")).strip());
    }

    static SymbolLookup open() throws IOException {
        var properties = new Properties();
        properties.load(new StringReader(Files.readString(folder().resolve("natives.properties"))));
        var lib = folder().resolve("lib");
        return NativeLibraries.open(List.of(properties.getProperty("libraries").split(",")).stream().map(lib::resolve).toList());
    }

    /** Compiles one C file; skips the test where there is no compiler. */
    static void compile(Path source, Path output, String... options) throws Exception {
        var compiler = System.getenv().getOrDefault("CC", "cc");
        var command = new java.util.ArrayList<>(List.of(compiler, "-I" + folder().resolve("include"), "-o", output.toString(),
                source.toString()));
        command.addAll(List.of(options));
        Process process;
        try {
            process = new ProcessBuilder(command).redirectErrorStream(true).start();
        } catch (IOException e) {
            assumeTrue(false, "no C compiler (" + compiler + ") on this machine");
            return;
        }
        var text = new String(process.getInputStream().readAllBytes());
        if (!process.waitFor(120, TimeUnit.SECONDS) || process.exitValue() != 0) {
            throw new AssertionError(source + " does not compile:\n" + text);
        }
    }
}
