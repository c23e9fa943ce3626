package io.github.panamallama.runtime;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;

/** How many threads matrix products profit from: hyper-threads of one core share its vector units. */
final class Cores {
    private Cores() {
    }

    /** Physical cores that this process may use; at most {@link Runtime#availableProcessors}, at least 1. */
    static int physical() {
        int logical = Runtime.getRuntime().availableProcessors();
        return Math.max(1, Math.min(logical, onLinux(Path.of("/sys/devices/system/cpu"), logical)));
    }

    private static int onLinux(Path cpus, int fallback) {
        var cores = new HashSet<String>();
        try (var entries = Files.newDirectoryStream(cpus, "cpu[0-9]*")) {
            for (var cpu : entries) {
                var siblings = cpu.resolve("topology/thread_siblings_list");
                if (Files.isReadable(siblings)) {
                    cores.add(Files.readString(siblings).strip());
                }
            }
        } catch (IOException e) {
            return fallback;
        }
        return cores.isEmpty() ? fallback : cores.size();
    }
}
