package io.github.panamallama.bench;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.regex.Pattern;

/**
 * Memory that this process has asked for and not given back, in bytes: the objects of the heap after a collection of garbage, and what the
 * C library's allocator has handed out. Unlike what the operating system counts it does not depend on which pages were touched before.
 */
final class MemoryInUse {
    private static final Pattern TOTAL = Pattern.compile("<(total|system) type=\"(\\w+)\"(?: count=\"\\d+\")? size=\"(\\d+)\"/>");

    private MemoryInUse() {
    }

    /**
     * Tells the C library to give the pages that it keeps free back to the system; what is resident after that is in use, or not its own.
     *
     * @return whether there is such a function: glibc has it
     */
    static boolean trim() {
        var linker = Linker.nativeLinker();
        var function = linker.defaultLookup().find("malloc_trim");
        if (function.isEmpty()) {
            return false;
        }
        var trim = linker.downcallHandle(function.get(), FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.JAVA_LONG));
        try {
            int released = (int) trim.invokeExact(0L);
            return released >= 0;
        } catch (RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new AssertionError(e); // it throws nothing
        }
    }

    /** What the C library has handed out, in bytes: in its arenas, and as mappings of one block each. */
    record Allocated(long inArenas, long mapped) {
        long bytes() {
            return inArenas + mapped;
        }
    }

    /** Empty where the C library is not glibc, which alone says it. */
    static OptionalLong bytes() throws IOException {
        long heap = heap();
        var allocated = allocated();
        return allocated.isEmpty() ? OptionalLong.empty() : OptionalLong.of(heap + allocated.get().bytes());
    }

    /** Objects of the heap, after a collection of garbage. */
    static long heap() {
        for (int i = 0; i < 3; i++) {
            System.gc(); // what the first finds is cleared behind it by the next
        }
        return Runtime.getRuntime().totalMemory() - Runtime.getRuntime().freeMemory();
    }

    /** By {@code malloc_info}, whose last lines are sums over all arenas; empty where the C library has no such function. */
    static Optional<Allocated> allocated() throws IOException {
        var linker = Linker.nativeLinker();
        var lookup = linker.defaultLookup();
        var info = lookup.find("malloc_info");
        if (info.isEmpty()) {
            return Optional.empty();
        }
        var open = linker.downcallHandle(lookup.findOrThrow("fopen"),
                FunctionDescriptor.of(ValueLayout.ADDRESS, ValueLayout.ADDRESS, ValueLayout.ADDRESS));
        var write = linker.downcallHandle(info.get(),
                FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.JAVA_INT, ValueLayout.ADDRESS));
        var close = linker.downcallHandle(lookup.findOrThrow("fclose"), FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.ADDRESS));
        var file = Files.createTempFile("malloc", ".xml");
        try (var arena = Arena.ofConfined()) {
            var stream = (MemorySegment) open.invokeExact(arena.allocateFrom(file.toString()), arena.allocateFrom("w"));
            if (stream.equals(MemorySegment.NULL)) {
                throw new IOException(file + " can't be written");
            }
            int written = (int) write.invokeExact(0, stream);
            int closed = (int) close.invokeExact(stream);
            if (written != 0 || closed != 0) {
                throw new IOException("malloc_info failed");
            }
            return Optional.of(inUse(Files.readString(file)));
        } catch (IOException | RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new AssertionError(e); // these functions throw nothing
        } finally {
            Files.delete(file);
        }
    }

    /** What came from the system in arenas and is not free there, and what was mapped for one block each. */
    private static Allocated inUse(String xml) {
        long inArenas = 0;
        long mapped = 0;
        var totals = TOTAL.matcher(xml.substring(Math.max(0, xml.lastIndexOf("</heap>"))));
        while (totals.find()) {
            long size = Long.parseLong(totals.group(3));
            switch (totals.group(2)) {
                case "current" -> inArenas += size;
                case "fast", "rest" -> inArenas -= size;
                case "mmap" -> mapped += size;
                default -> { }
            }
        }
        return new Allocated(inArenas, mapped);
    }
}
