package io.github.panamallama.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Properties;

/** What a reader of a figure needs to know about where it was measured. */
final class Machine {
    private Machine() {
    }

    static String describe() {
        var cpuInfo = Path.of("/proc/cpuinfo");
        var processor = System.getProperty("os.arch");
        try {
            processor = lines(cpuInfo).stream().filter(line -> line.startsWith("model name"))
                    .map(line -> line.substring(line.indexOf(':') + 1).strip()).findFirst().orElse(processor);
        } catch (IOException e) {
            // not Linux: the architecture says enough
        }
        return processor + ", " + Runtime.getRuntime().availableProcessors() + " processors, " + System.getProperty("os.name") + " "
                + System.getProperty("os.version");
    }

    /** From the {@code natives.properties} beside the folder of the programs. */
    static String nativeBuild(Path bin) throws IOException {
        var file = bin.resolveSibling("natives.properties");
        var properties = new Properties();
        try (var in = Files.newInputStream(file)) {
            properties.load(in);
        }
        return "llama.cpp " + properties.getProperty("version") + ", " + properties.getProperty("platform") + ", "
                + properties.getProperty("flavour") + ", Release, OpenMP off, instruction sets "
                + properties.getProperty("cpu.features");
    }

    private static List<String> lines(Path file) throws IOException {
        return Files.readAllLines(file);
    }
}
