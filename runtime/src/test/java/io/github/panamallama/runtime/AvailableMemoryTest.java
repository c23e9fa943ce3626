package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AvailableMemoryTest {
    private static final long GIB = 1L << 30;

    @TempDir
    Path root;

    @Test
    void thisMachineHasSome() {
        assertTrue(AvailableMemory.now() > 1 << 20);
    }

    @Test
    void withoutGroupsTheKernelsNumberCounts() throws IOException {
        file("proc/meminfo", "MemTotal:       16000000 kB\nMemFree:         100000 kB\nMemAvailable:    8388608 kB\n");
        assertEquals(8 * GIB, AvailableMemory.linux(root));
    }

    @Test
    void aGroupOfVersion2LimitsAndItsFileCacheCountsAsFree() throws IOException {
        file("proc/meminfo", "MemAvailable:    8388608 kB\n");
        file("proc/self/cgroup", "0::/user.slice/app\n");
        file("sys/fs/cgroup/user.slice/app/memory.max", 2 * GIB + "\n");
        file("sys/fs/cgroup/user.slice/app/memory.current", GIB + "\n");
        file("sys/fs/cgroup/user.slice/app/memory.stat", "anon 1\nfile 900000000\ninactive_anon 5\ninactive_file " + GIB / 4
                + "\nactive_file " + GIB / 4 + "\n");
        assertEquals(GIB + GIB / 2, AvailableMemory.linux(root));
    }

    @Test
    void theTightestOfNestedGroupsCounts() throws IOException {
        file("proc/meminfo", "MemAvailable:    8388608 kB\n");
        file("proc/self/cgroup", "0::/a/b\n");
        file("sys/fs/cgroup/a/memory.max", GIB + "\n");
        file("sys/fs/cgroup/a/memory.current", GIB / 2 + "\n");
        file("sys/fs/cgroup/a/b/memory.max", "max\n");
        file("sys/fs/cgroup/a/b/memory.current", "0\n");
        assertEquals(GIB / 2, AvailableMemory.linux(root));
    }

    @Test
    void inAContainerTheGroupIsMountedAtTheTop() throws IOException {
        file("proc/meminfo", "MemAvailable:    8388608 kB\n");
        file("proc/self/cgroup", "0::/../outside/of/here\n");
        file("sys/fs/cgroup/memory.max", 3 * GIB + "\n");
        file("sys/fs/cgroup/memory.current", GIB + "\n");
        assertEquals(2 * GIB, AvailableMemory.linux(root));
    }

    @Test
    void aGroupOfVersion1Limits() throws IOException {
        file("proc/meminfo", "MemAvailable:    8388608 kB\n");
        file("proc/self/cgroup", "12:cpu,cpuacct:/x\n5:memory:/docker/abc\n");
        file("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", 2 * GIB + "\n");
        file("sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", 3 * GIB / 2 + "\n");
        file("sys/fs/cgroup/memory/docker/abc/memory.stat", "total_inactive_file " + GIB / 2 + "\n");
        assertEquals(GIB, AvailableMemory.linux(root));
    }

    @Test
    void noLimitIsNoLimit() throws IOException {
        file("proc/meminfo", "MemAvailable:    8388608 kB\n");
        file("proc/self/cgroup", "5:memory:/\n0::/\n");
        file("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        file("sys/fs/cgroup/memory/memory.usage_in_bytes", GIB + "\n");
        file("sys/fs/cgroup/memory.max", "max\n");
        file("sys/fs/cgroup/memory.current", GIB + "\n");
        assertEquals(8 * GIB, AvailableMemory.linux(root));
    }

    @Test
    void aGroupOverItsLimitLeavesNothing() throws IOException {
        file("proc/meminfo", "MemAvailable:    8388608 kB\n");
        file("proc/self/cgroup", "0::/\n");
        file("sys/fs/cgroup/memory.max", GIB + "\n");
        file("sys/fs/cgroup/memory.current", 2 * GIB + "\n");
        assertEquals(0, AvailableMemory.linux(root));
    }

    private void file(String name, String text) throws IOException {
        var path = root.resolve(name);
        Files.createDirectories(path.getParent());
        Files.writeString(path, text);
    }
}
