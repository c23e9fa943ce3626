package io.github.panamallama.runtime;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;

/**
 * How much memory this process may still take without pushing anything out: on Linux the kernel's MemAvailable, bounded by what is
 * left in every control group that the process is in, where file cache counts as free. All in bytes.
 */
final class AvailableMemory {
    private static final Path ROOT = Path.of("/");

    private AvailableMemory() {
    }

    static long now() {
        var system = System.getProperty("os.name").toLowerCase(Locale.ROOT);
        if (system.startsWith("linux")) {
            long available = linux(ROOT);
            if (available < Long.MAX_VALUE) {
                return available;
            }
        }
        if (ManagementFactory.getOperatingSystemMXBean() instanceof OperatingSystemMXBean bean) {
            // macOS counts file cache as used, so its number of free bytes would refuse what fits
            return system.startsWith("mac") ? bean.getTotalMemorySize() : bean.getFreeMemorySize();
        }
        return Long.MAX_VALUE;
    }

    /** @param root where {@code /proc} and {@code /sys} are found */
    static long linux(Path root) {
        long available = field(lines(root.resolve("proc/meminfo")), "MemAvailable:", 1024);
        for (var line : lines(root.resolve("proc/self/cgroup"))) {
            // <number>:<controllers>:<path>, version 2 has number 0 and no controllers
            var parts = line.split(":", 3);
            if (parts.length == 3 && parts[0].equals("0") && parts[1].isEmpty()) {
                available = Math.min(available, groups(root.resolve("sys/fs/cgroup"), parts[2], AvailableMemory::version2));
            } else if (parts.length == 3 && List.of(parts[1].split(",")).contains("memory")) {
                available = Math.min(available, groups(root.resolve("sys/fs/cgroup/memory"), parts[2], AvailableMemory::version1));
            }
        }
        return available;
    }

    @FunctionalInterface
    private interface Group {
        long available(Path folder);
    }

    /** A group's limit holds for all below it. In a container the own group is mounted at the top and the path leads nowhere. */
    private static long groups(Path mount, String path, Group group) {
        long available = group.available(mount);
        var folder = mount;
        for (var name : path.split("/")) {
            if (!name.isEmpty() && !name.equals("..")) {
                folder = folder.resolve(name);
                available = Math.min(available, group.available(folder));
            }
        }
        return available;
    }

    private static long version2(Path folder) {
        long limit = number(folder.resolve("memory.max"));
        long used = number(folder.resolve("memory.current"));
        var stat = lines(folder.resolve("memory.stat"));
        return left(limit, used, cache(stat, "inactive_file ") + cache(stat, "active_file "));
    }

    private static long version1(Path folder) {
        long limit = number(folder.resolve("memory.limit_in_bytes"));
        long used = number(folder.resolve("memory.usage_in_bytes"));
        var stat = lines(folder.resolve("memory.stat"));
        return left(limit, used, cache(stat, "total_inactive_file ") + cache(stat, "total_active_file "));
    }

    private static long left(long limit, long used, long cache) {
        // version 1 writes "no limit" as the largest multiple of the page size
        if (limit > 1L << 60 || used == Long.MAX_VALUE) {
            return Long.MAX_VALUE;
        }
        return Math.max(0, limit - Math.max(0, used - cache));
    }

    private static long cache(List<String> stat, String name) {
        long value = field(stat, name, 1);
        return value == Long.MAX_VALUE ? 0 : value;
    }

    /** The number after {@code name} at the start of a line, times {@code unit}; {@link Long#MAX_VALUE} if there is none. */
    private static long field(List<String> lines, String name, long unit) {
        for (var line : lines) {
            if (line.startsWith(name)) {
                var digits = line.substring(name.length()).strip().split("\\s", 2)[0];
                return parse(digits, unit);
            }
        }
        return Long.MAX_VALUE;
    }

    private static long number(Path file) {
        var lines = lines(file);
        return lines.isEmpty() ? Long.MAX_VALUE : parse(lines.getFirst().strip(), 1);
    }

    private static long parse(String digits, long unit) {
        try {
            return Math.multiplyExact(Long.parseLong(digits), unit);
        } catch (NumberFormatException | ArithmeticException e) {
            return Long.MAX_VALUE;
        }
    }

    private static List<String> lines(Path file) {
        try {
            return Files.readAllLines(file);
        } catch (IOException e) {
            return List.of();
        }
    }
}
