package io.github.panamallama.runtime.natives;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.bindings.LlamaH;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.List;
import java.util.Objects;
import java.util.Properties;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A plug-in jar on a machine that cannot use it: the module of this one is no library at all. */
class PlugInTest {
    @TempDir
    Path folder;

    @Test
    void aPlugInThatCannotBeLoadedCostsOneWarningAndTheProcessorGoesOn() throws Exception {
        var platform = Platform.current();
        var description = new Properties();
        try (var in = Natives.class.getClassLoader().getResourceAsStream("natives/" + platform + "/natives.properties")) {
            description.load(in);
        }
        var natives = Files.createDirectories(folder.resolve("jar/natives").resolve(platform));
        var bytes = "no library".getBytes(StandardCharsets.UTF_8);
        Files.write(natives.resolve("libggml-cuda.so"), bytes);
        var sha256 = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
        Files.writeString(natives.resolve("plugin-cuda.properties"), "sources=" + description.getProperty("sources")
                + "\nmodules=libggml-cuda.so\nsize.libggml-cuda.so=" + bytes.length + "\nsha256.libggml-cuda.so=" + sha256 + "\n");

        var path = Stream.of("java.class.path", "jdk.module.path", "jdk.module.main.path").map(System::getProperty).filter(Objects::nonNull)
                .collect(Collectors.joining(File.pathSeparator));
        var classes = Path.of(Child.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        var java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
        var command = List.of(java, "--enable-native-access=ALL-UNNAMED", "-cp", path + File.pathSeparator + classes + File.pathSeparator
                + folder.resolve("jar"), Child.class.getName());
        var builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().put("PANAMA_LLAMA_CACHE", folder.resolve("cache").toString());
        var process = builder.start();
        var out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(0, process.waitFor(), out);
        assertTrue(out.contains("devices: 1"), out);
        assertEquals(1, out.lines().filter(line -> line.contains("the cuda plug-in is there, but it could not be loaded")).count(), out);
    }

    /** What the other process runs. */
    static final class Child {
        public static void main(String[] args) {
            Natives.load();
            System.out.println("devices: " + LlamaH.ggml_backend_dev_count());
        }
    }
}
