package io.github.panamallama.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What the JVM holds is told from what Java code and native libraries hold. */
class JvmMemoryTest {
    private static final long MIB = 1 << 20;

    private static final String AREAS = """
            c0000000-c0001000 rw-p 00000000 00:00 0
            Rss:                9000 kB
            Anonymous:          1000 kB
            e0000000-f0000000 rw-p 00000000 00:00 0
            Anonymous:          2000 kB
            7f0000000000-7f0000010000 rw-p 00000000 00:00 0
            Anonymous:           300 kB
            7f0000020000-7f0000030000 rw-p 00000000 00:00 0
            Anonymous:            70 kB
            7f0000040000-7f0000050000 r--p 00000000 08:01 77   /lib/libllama.so
            Anonymous:             5 kB
            7f0000060000-7f0000070000 rw-p 00000000 00:00 0
            Anonymous:           800 kB
            7f0004000000-7f0004010000 rw-p 00000000 00:00 0
            Anonymous:            60 kB
            7f0004010000-7f0008000000 ---p 00000000 00:00 0
            Anonymous:             0 kB
            555500001000-555500002000 rw-p 00000000 00:00 0          [heap]
            Anonymous:             9 kB
            ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0   [vsyscall]
            Anonymous:             0 kB
            """;
    private static final String MAPPINGS = """
            from               to                        vsize prot          rss      hugetlb pgsz notes   info               file
            ======================================================================================================================
            0x00000000c0000000-0x00000000c0001000      1048576 rw-p      1048576            0 4K   com     CLASS              -
            0x00000000e0000000-0x00000000f0000000    268435456 rw-p    268435456            0 4K   com     JAVAHEAP           -
            0x00007f0000000000-0x00007f0000010000        65536 rw-p        65536            0 4K   com     GC,CODE            -
            0x00007f0000020000-0x00007f0000030000        65536 rw-p        65536            0 4K   com     STACK-7-Some-Name  -
            0x00007f0000040000-0x00007f0000050000        65536 r--p        65536            0 4K   -       -                  /lib/libllama.so
            0x00007f0000060000-0x00007f0000070000        65536 rw-p        65536            0 4K   -       -                  -
            """;
    private static final String MEMORY = """
            Total: reserved=9, committed=9
                   malloc: 100000 #5, peak=100000 #5
                   mmap:   reserved=9, committed=9

            -                 Java Heap (reserved=2048000, committed=2048000)
                                        (mmap: reserved=2048000, committed=2048000, at peak)

            -                     Class (reserved=9, committed=9)
                                        (malloc=1000 tag=Class #1) (at peak)
                                        (mmap: reserved=9999999, committed=9999999, peak=9999999)
                                        (  Metadata:   )
                                        (    reserved=67108864, committed=11272192)

            -                        GC (reserved=9, committed=9)
                                        (malloc=2000 tag=GC #1) (peak=99999 #2)
                                        (mmap: reserved=204800, committed=102400, at peak)
                                        (arena=500 #1) (peak=800 #2)

            -                    Thread (reserved=9, committed=9)
                                        (threads #1)
                                        (stack: reserved=999999, committed=71680, peak=71680)

            -                  Compiler (reserved=9, committed=9)
                                        (malloc=10000 tag=Compiler #1) (at peak)
                                        (arena=20000 #1) (at peak)

            -                     Other (reserved=50000, committed=50000)
                                        (malloc=50000 tag=Other #1) (at peak)

            -    Native Memory Tracking (reserved=9, committed=9)
                                        (malloc=500 tag=Native Memory Tracking #1) (at peak)
                                        (tracking overhead=16000)
            """;

    @Test
    void partsAreSumsOfMappingsAndAllocations() {
        var memory = JvmMemory.of(AREAS, MAPPINGS, MEMORY);
        var parts = memory.parts();
        assertEquals(2000 * 1024, memory.heap());
        assertEquals(1000 * 1024 + 1000, parts.get(JvmMemory.Part.CLASSES));
        assertEquals(30000, parts.get(JvmMemory.Part.COMPILERS));
        assertEquals(70 * 1024, parts.get(JvmMemory.Part.THREADS));
        assertEquals(0, parts.get(JvmMemory.Part.SYMBOLS));
        assertEquals(16500, parts.get(JvmMemory.Part.OTHER));
        assertEquals(1000 + 2500 + 30000 + 16500, memory.allocated(), "what is for Java code is not the JVM's");
    }

    @Test
    void pagesBeyondWhatTheJvmCountsInAMappingAreOutside() {
        var memory = JvmMemory.of(AREAS, MAPPINGS, MEMORY);
        assertEquals(102400 + 2500, memory.parts().get(JvmMemory.Part.COLLECTOR));
        assertEquals((300 + 5 + 800) * 1024 - 102400, memory.mapped());
        assertEquals((60 + 9) * 1024, memory.arenas());
        assertEquals((1000 + 2000 + 300 + 70 + 5 + 800 + 60 + 9) * 1024,
                memory.heap() + memory.total() - memory.allocated() + memory.arenas() + memory.mapped(), "nothing twice, nothing lost");
    }

    @Test
    void thisJvmSaysNothingUntilItIsAskedTo() throws IOException {
        assertTrue(JvmMemory.now().isEmpty());
    }

    /** Run by the test below: memory of Java code grows by 64 MiB. */
    static final class Child {
        public static void main(String[] arguments) throws IOException {
            JvmMemory.now().orElseThrow();
            print();
            try (var arena = Arena.ofConfined()) {
                arena.allocate(64 * MIB).fill((byte) 1);
                print();
            }
        }

        private static void print() throws IOException {
            var memory = JvmMemory.now().orElseThrow();
            long resident = Resident.bytes(ProcessHandle.current().pid()).get("RssAnon");
            System.out.println(memory.heap() + " " + (memory.total() - memory.allocated()) + " " + memory.mapped() + " "
                    + memory.arenas() + " " + resident);
        }
    }

    @Test
    void memoryOfJavaCodeIsOutsideAndAllPartsAreWhatIsResident() throws IOException, InterruptedException {
        assumeTrue(Files.isReadable(Path.of("/proc/self/smaps")), "skipped: only Linux tells");
        var lines = Programs.run(Path.of("."), List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-XX:NativeMemoryTracking=summary", "-Xms64m", "-Xmx64m", "-XX:+AlwaysPreTouch", "-cp",
                        String.join(File.pathSeparator, "target/classes", "target/test-classes"),
                Child.class.getName())).out().lines().map(line -> List.of(line.split(" ")).stream().mapToLong(Long::parseLong).toArray())
                .toList();
        var before = lines.get(0);
        var after = lines.get(1);
        assertEquals(64 * MIB, before[0], 2.0 * MIB, "the heap, touched from the start");
        assertTrue(before[1] > 10 * MIB, "the JVM's own: " + before[1]);
        assertEquals(64 * MIB, after[2] - before[2], 8.0 * MIB, "one block, mapped by itself");
        assertEquals(0, after[1] - before[1], 8.0 * MIB, "the JVM's own");
        for (var line : lines) {
            assertEquals(line[4], line[0] + line[1] + line[2] + line[3], 8.0 * MIB, "the parts together");
        }
    }
}
