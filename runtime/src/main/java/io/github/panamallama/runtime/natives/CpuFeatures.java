package io.github.panamallama.runtime.natives;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/**
 * What this machine's processor can do, in the operating system's own names. Libraries that were built for a richer one would end
 * the process with an illegal instruction.
 */
final class CpuFeatures {
    private CpuFeatures() {}

    /** Those of {@code required} that this machine does not list; empty where the operating system has no such list. */
    static List<String> missing(List<String> required) {
        if (required.isEmpty()) {
            return List.of();
        }
        return missing(required, ofThisMachine());
    }

    static List<String> missing(List<String> required, Set<String> present) {
        return present.isEmpty() ? List.of() : required.stream().filter(feature -> !present.contains(feature)).toList();
    }

    private static Set<String> ofThisMachine() {
        try {
            if (Files.isReadable(Path.of("/proc/cpuinfo"))) {
                return ofCpuInfo(Files.readString(Path.of("/proc/cpuinfo"), StandardCharsets.ISO_8859_1));
            }
            if (Platform.current().startsWith("macos")) {
                var sysctl = new ProcessBuilder("/usr/sbin/sysctl", "-a").redirectErrorStream(true).start();
                return ofSysctl(new String(sysctl.getInputStream().readAllBytes(), StandardCharsets.UTF_8));
            }
        } catch (IOException e) {
            // No list, no verdict.
        }
        return Set.of();
    }

    /** The processors of one machine are alike in what programs may use, so the first one's line is enough. */
    static Set<String> ofCpuInfo(String text) {
        return text.lines().filter(line -> line.startsWith("flags") || line.startsWith("Features")).findFirst()
                .map(line -> Set.of(line.substring(line.indexOf(':') + 1).strip().split("\\s+"))).orElse(Set.of());
    }

    /** Arm: {@code hw.optional.arm.FEAT_X: 1}. Intel: the machdep lists, brought to Linux's names. */
    static Set<String> ofSysctl(String text) {
        var found = new HashSet<String>();
        text.lines().forEach(line -> {
            if (line.startsWith("hw.optional.arm.") && line.endsWith(": 1")) {
                found.add(line.substring("hw.optional.arm.".length(), line.indexOf(':')));
            } else if (line.startsWith("machdep.cpu.") && line.contains("features:")) {
                for (var name : line.substring(line.indexOf(':') + 1).strip().toLowerCase(Locale.ROOT).split("\\s+")) {
                    found.add(switch (name) {
                        case "sse3" -> "pni";
                        case "sse4.1" -> "sse4_1";
                        case "sse4.2" -> "sse4_2";
                        case "avx1.0" -> "avx";
                        case "lzcnt" -> "abm";
                        default -> name;
                    });
                }
            }
        });
        return found;
    }
}
