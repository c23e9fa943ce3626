package io.github.panamallama.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;

/** What the operating system counts for a process, from Linux's {@code /proc}; other systems say nothing here. */
final class Resident {
    private Resident() {
    }

    /** Bytes by their names in {@code /proc/PID/status}, such as {@code VmHWM} and {@code RssAnon}; none where it is gone. */
    static Map<String, Long> bytes(long pid) {
        var found = new LinkedHashMap<String, Long>();
        try {
            for (var line : Files.readAllLines(Path.of("/proc", Long.toString(pid), "status"))) {
                if (line.endsWith(" kB")) {
                    found.put(line.substring(0, line.indexOf(':')), 1024 * Long.parseLong(line.replaceAll("\\D+", "")));
                }
            }
        } catch (IOException e) {
            // ended, or no Linux
        }
        return found;
    }

    /** Open files, sockets and pipes of this process; -1 where it can't be told. */
    static int handles() {
        int listed = entries("fd");
        return listed > 0 ? listed - 1 : -1;     // without the one that lists
    }

    /** Threads of this process, those of native libraries included; -1 where it can't be told. */
    static int threads() {
        return entries("task");
    }

    private static int entries(String folder) {
        try (var all = Files.list(Path.of("/proc/self", folder))) {
            return (int) all.count();
        } catch (IOException e) {
            return -1;
        }
    }
}
