package io.github.panamallama.bindings;

import java.lang.foreign.AddressLayout;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.GroupLayout;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;

/**
 * Compares the layouts of these bindings with the ones that the loaded library was compiled with. A field that moved would be read
 * as garbage or overwrite its neighbour, so the loader refuses a library with any difference.
 */
public final class Abi {
    /** Size in bytes, and offset from the start of the struct; the struct itself has an empty field name and offset 0. */
    record Row(String struct, String field, long size, long offset) {
        @Override
        public String toString() {
            return "size " + size + (field.isEmpty() ? "" : " at offset " + offset);
        }

        String key() {
            return field.isEmpty() ? "struct " + struct : "struct " + struct + ", field " + field;
        }
    }

    /** {@code struct pl_abi_entry}, by hand: it is what tells whether generated layouts can be trusted. */
    private static final long ENTRY_SIZE = 32;

    private Abi() {}

    /** What differs between these bindings and the loaded libraries, one line each, naming struct and field; empty if nothing does. */
    public static List<String> differences() {
        return differences(NativeLibraries.lookup());
    }

    static List<String> differences(SymbolLookup library) {
        try {
            var fingerprint = library.find("pl_abi_fingerprint");
            if (fingerprint.isPresent() && Structs.FINGERPRINT
                    == (long) Linker.nativeLinker().downcallHandle(fingerprint.get(), FunctionDescriptor.of(ValueLayout.JAVA_LONG)).invokeExact()) {
                return List.of();
            }
            var table = library.find("pl_abi_table");
            if (table.isEmpty()) {
                return List.of("the library has no table of its structs (pl_abi_table)");
            }
            return differences(rowsOfLayouts(), rowsOfLibrary(table.get()));
        } catch (Error | RuntimeException e) {
            throw e;
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }

    private static List<String> differences(List<Row> expected, List<Row> actual) {
        var found = new LinkedHashMap<String, Row>();
        actual.forEach(row -> found.put(row.key(), row));
        var lines = new ArrayList<String>();
        for (var row : expected) {
            var other = found.remove(row.key());
            if (other == null) {
                lines.add(row.key() + ": expected " + row + ", but the library does not have it");
            } else if (!other.equals(row)) {
                lines.add(row.key() + ": expected " + row + ", but the library has " + other);
            }
        }
        found.values().forEach(row -> lines.add(row.key() + ": unknown to these bindings, but the library has it with " + row));
        return lines;
    }

    private static List<Row> rowsOfLibrary(MemorySegment function) throws Throwable {
        var pointer = ValueLayout.ADDRESS.withTargetLayout(MemoryLayout.sequenceLayout(Long.MAX_VALUE, ValueLayout.JAVA_BYTE));
        var handle = Linker.nativeLinker().downcallHandle(function, FunctionDescriptor.of(pointer, ValueLayout.ADDRESS));
        var rows = new ArrayList<Row>();
        try (var arena = Arena.ofConfined()) {
            var n = arena.allocate(ValueLayout.JAVA_LONG);
            var table = (MemorySegment) handle.invokeExact(n);
            for (long at = 0, end = n.get(ValueLayout.JAVA_LONG, 0) * ENTRY_SIZE; at < end; at += ENTRY_SIZE) {
                rows.add(new Row(string(table, at, pointer), string(table, at + 8, pointer), table.get(ValueLayout.JAVA_LONG, at + 16),
                        table.get(ValueLayout.JAVA_LONG, at + 24)));
            }
        }
        return rows;
    }

    private static String string(MemorySegment table, long at, AddressLayout pointer) {
        var text = table.get(pointer, at);
        return text.address() == 0 ? "" : text.getString(0);
    }

    static List<Row> rowsOfLayouts() {
        var rows = new ArrayList<Row>();
        Structs.layouts().forEach((name, layout) -> {
            rows.add(new Row(name, "", layout.byteSize(), 0));
            addFields(name, layout, 0, rows);
        });
        return rows;
    }

    private static void addFields(String struct, GroupLayout layout, long base, List<Row> rows) {
        long offset = base;
        boolean union = layout instanceof java.lang.foreign.UnionLayout;
        for (var member : layout.memberLayouts()) {
            var name = member.name().orElse("");
            if (member instanceof GroupLayout group && (name.isEmpty() || name.startsWith("$anon"))) {
                addFields(struct, group, offset, rows);
            } else if (!name.isEmpty()) {
                rows.add(new Row(struct, name, member.byteSize(), offset));
            }
            offset += union ? 0 : member.byteSize();
        }
    }

    /** FNV-1a over the rows, as {@code pl_abi_fingerprint} computes it: lets the usual start skip the comparison. */
    public static long fingerprintOfLayouts() {
        long hash = 0xcbf29ce484222325L;
        for (var row : rowsOfLayouts()) {
            for (var text : List.of(row.struct, row.field)) {
                for (byte b : (text + "\0").getBytes(StandardCharsets.UTF_8)) {
                    hash = (hash ^ (b & 0xff)) * 0x100000001b3L;
                }
            }
            for (long number : new long[] {row.size, row.offset}) {
                for (int shift = 0; shift < 64; shift += 8) {
                    hash = (hash ^ (number >>> shift & 0xff)) * 0x100000001b3L;
                }
            }
        }
        return hash;
    }
}
