package io.github.panamallama.bench;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.EnumMap;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.regex.Pattern;
import javax.management.JMException;
import javax.management.ObjectName;

/**
 * What this JVM says it holds, in bytes, by {@code -XX:NativeMemoryTracking=summary}: pages of its mappings that are resident and belong to
 * no file, and what it has from the C library. The native memory of Java code (arenas, direct buffers) is not the JVM's and not in here.
 *
 * @param heap      resident pages of the heap
 * @param parts     mappings and allocations together
 * @param allocated what of {@code parts} is from the C library, and so in what that has handed out
 * @param arenas    resident pages of what the C library shares out, {@code allocated} and what it keeps free included
 * @param mapped    resident pages of no file that are neither: mappings of native libraries, stacks of their threads, their data; and
 *                  blocks so large that the C library maps each by itself
 */
record JvmMemory(long heap, Map<Part, Long> parts, long allocated, long arenas, long mapped) {
    /** Of what it holds; the words are those of the soak's table. */
    enum Part {
        CODE("code"), CLASSES("classes"), COMPILERS("compilers"), COLLECTOR("garbage collector"), THREADS("threads"), SYMBOLS("symbols"),
        OTHER("other");

        private final String words;

        Part(String words) {
            this.words = words;
        }

        @Override
        public String toString() {
            return words;
        }

        /** Of the name that a mapping has in {@code System.map}. */
        private static Part ofMapping(String name) {
            return switch (name.replaceFirst("[,-].*", "")) {
                case "CODE" -> CODE;
                case "META", "CLASS", "CDS" -> CLASSES;
                case "GC", "CARDTBL" -> COLLECTOR;
                case "STACK" -> THREADS;
                default -> OTHER;
            };
        }

        /** Of a category of {@code VM.native_memory}. */
        private static Part ofCategory(String name) {
            return switch (name) {
                case "Code" -> CODE;
                case "Class", "Metaspace", "Module", "Shared class space" -> CLASSES;
                case "Compiler", "Arena Chunk" -> COMPILERS;    // chunks: pooled between compilations
                case "GC", "GCCardSet" -> COLLECTOR;
                case "Thread" -> THREADS;
                case "Symbol" -> SYMBOLS;
                default -> OTHER;
            };
        }
    }

    private static final String JAVA_CODE = "Other";    // the category of Unsafe.allocateMemory, which arenas and direct buffers use
    private static final Pattern CATEGORY = Pattern.compile("(?m)^-\\s+(\\S.*?) \\(reserved=");
    private static final Pattern ALLOCATED = Pattern.compile("\\((?:malloc|arena|tracking overhead)=(\\d+)");
    private static final Pattern COMMITTED = Pattern.compile("\\((?:mmap|stack): reserved=\\d+, committed=(\\d+)");
    private static final Pattern TOTAL = Pattern.compile("malloc: (\\d+) ");
    private static final Pattern MAPPING = Pattern.compile("(?m)^0x(\\p{XDigit}+)-0x\\p{XDigit}+ +\\d+ \\S+ +\\d+ +\\d+ \\S+ +\\S+ +(\\S+) ");
    private static final Pattern AREA =
            Pattern.compile("(?m)^(\\p{XDigit}+)-\\p{XDigit}+ (\\S+) .*?(\\[heap\\])?$|^Anonymous: +(\\d+) kB");
    /** glibc's arenas lie in areas of 64 MiB, aligned to that, of which a first part may be read and written. */
    private static final long ARENA_MASK = (64L << 20) - 1;

    /** Empty where the JVM was started without that option, and on other systems than Linux. */
    static Optional<JvmMemory> now() throws IOException {
        var areas = Path.of("/proc/self/smaps");
        if (!Files.isReadable(areas)) {
            return Optional.empty();
        }
        var memory = diagnosed("vmNativeMemory", "summary", "scale=b");
        return TOTAL.matcher(memory).find() ? Optional.of(of(Files.readString(areas), diagnosed("systemMap"), memory)) : Optional.empty();
    }

    /**
     * @param areas    {@code /proc/self/smaps}
     * @param mappings what {@code System.map} prints
     * @param memory   what {@code VM.native_memory summary scale=b} prints
     */
    static JvmMemory of(String areas, String mappings, String memory) {
        var names = new TreeMap<Long, String>();
        MAPPING.matcher(mappings).results().forEach(found -> names.put(Long.parseUnsignedLong(found.group(1), 16), found.group(2)));
        var mapped = new EnumMap<Part, Long>(Part.class);
        long heap = 0;
        long arenas = 0;
        long others = 0;
        var name = "-";
        boolean arena = false;
        for (var line : AREA.matcher(areas).results().toList()) {
            if (line.group(1) != null) {
                long start = Long.parseUnsignedLong(line.group(1), 16);
                name = names.getOrDefault(start, "-");
                arena = line.group(3) != null || (start & ARENA_MASK) == 0 && line.group(2).equals("rw-p");
                continue;
            }
            long bytes = 1024 * Long.parseLong(line.group(4));
            if (name.equals("JAVAHEAP")) {
                heap += bytes;
            } else if (!name.equals("-")) {
                mapped.merge(Part.ofMapping(name), bytes, Long::sum);
            } else if (arena) {
                arenas += bytes;
            } else {
                others += bytes;
            }
        }

        long allocated = 0;
        var parts = new EnumMap<Part, Long>(Part.class);
        var committed = new EnumMap<Part, Long>(Part.class);
        var categories = CATEGORY.matcher(memory).results().toList();
        for (int i = 0; i < categories.size(); i++) {
            var category = categories.get(i).group(1);
            var text = memory.substring(categories.get(i).start(), i + 1 < categories.size() ? categories.get(i + 1).start()
                    : memory.length());
            if (!category.equals(JAVA_CODE)) {
                long bytes = sum(ALLOCATED, text);
                parts.merge(Part.ofCategory(category), bytes, Long::sum);
                committed.merge(Part.ofCategory(category), sum(COMMITTED, text), Long::sum);
                allocated += bytes;
            }
        }
        for (var part : Part.values()) {
            // the system joins neighbours to one mapping, whoever made them: what is beyond the JVM's own count is not its own
            long resident = mapped.getOrDefault(part, 0L);
            long own = Math.min(resident, committed.getOrDefault(part, 0L));
            parts.merge(part, own, Long::sum);
            others += resident - own;
        }
        return new JvmMemory(heap, parts, allocated, arenas, others);
    }

    private static long sum(Pattern number, String text) {
        return number.matcher(text).results().mapToLong(found -> Long.parseLong(found.group(1))).sum();
    }

    /** All that the JVM holds beside the heap. */
    long total() {
        return parts.values().stream().mapToLong(Long::longValue).sum();
    }

    private static String diagnosed(String command, String... arguments) {
        try {
            return (String) ManagementFactory.getPlatformMBeanServer().invoke(new ObjectName("com.sun.management:type=DiagnosticCommand"),
                    command, new Object[] {arguments}, new String[] {String[].class.getName()});
        } catch (JMException e) {
            throw new UncheckedIOException(new IOException(command + " of the JVM failed", e));
        }
    }
}
