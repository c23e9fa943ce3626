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
        try (var files = Files.list(Path.of("/proc/self/fd"))) {
            return (int) files.count() - 1;     // without the one that lists
        } catch (IOException e) {
            return -1;
        }
    }
}
