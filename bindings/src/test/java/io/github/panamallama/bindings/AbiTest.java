package io.github.panamallama.bindings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AbiTest {
    @TempDir
    Path folder;

    @Test
    void theBuiltLibraryAgreesWithTheBindings() throws Exception {
        assertEquals(List.of(), Abi.differences(BuiltLibraries.open()));
        assertEquals(Structs.FINGERPRINT, Abi.fingerprintOfLayouts());
    }

    @Test
    void theTableOfTheBuiltLibraryHasEveryStructAndField() throws Exception {
        var library = BuiltLibraries.open();
        // Without the fingerprint the whole table is compared.
        assertEquals(List.of(), Abi.differences((SymbolLookup) name -> name.equals("pl_abi_fingerprint") ? java.util.Optional.empty()
                : library.find(name)));
    }

    /** A second witness beside the library's own table: a program of the C compiler over the same headers. */
    @Test
    void sizesAndOffsetsAreThoseOfTheCCompiler() throws Exception {
        var rows = Abi.rowsOfLayouts();
        assertTrue(rows.size() > 200, rows.size() + " rows");
        var source = new StringBuilder("#include <stdio.h>\n#include \"panama_llama.h\"\n#include \"ggml-alloc.h\"\nint main(void) {\n");
        for (var row : rows) {
            var type = row.struct().equals("ggml_bf16_t") || row.struct().equals("ggml_fp16_t") ? row.struct() : "struct " + row.struct();
            source.append(row.field().isEmpty()
                    ? "printf(\"%s  %%zu 0\\n\", sizeof(%s));\n".formatted(row.struct(), type)
                    : "printf(\"%s %s %%zu %%zu\\n\", sizeof(((%s *) 0)->%s), offsetof(%s, %s));\n".formatted(row.struct(), row.field(),
                            type, row.field(),
                            type, row.field()));
        }
        var program = folder.resolve("probe");
        BuiltLibraries.compile(Files.writeString(folder.resolve("probe.c"), source.append("return 0;\n}\n")), program);
        var printed = new String(new ProcessBuilder(program.toString()).start().getInputStream().readAllBytes());
        var expected = rows.stream().map(row -> row.struct() + " " + row.field() + " " + row.size() + " " + row.offset() + "\n")
                .collect(Collectors.joining());
        assertEquals(expected, printed);
    }

    @Test
    void aMovedFieldIsNamedWithItsStruct() throws Exception {
        var differences = Abi.differences(fakeLibrary(row -> row.struct().equals("llama_batch") && row.field().equals("pos")
                ? new Abi.Row(row.struct(), row.field(), row.size(), row.offset() + 8) : row));
        assertEquals(List.of("struct llama_batch, field pos: expected size 8 at offset 24, but the library has size 8 at offset 32"),
                differences);
    }

    @Test
    void aGrownStructIsNamed() throws Exception {
        var differences = Abi.differences(fakeLibrary(row -> row.struct().equals("llama_model_params") && row.field().isEmpty()
                ? new Abi.Row(row.struct(), row.field(), row.size() + 8, 0) : row));
        assertEquals(1, differences.size());
        assertTrue(differences.getFirst().startsWith("struct llama_model_params: expected size "), differences::toString);
    }

    @Test
    void aRenamedFieldIsMissingAndUnknown() throws Exception {
        var differences = Abi.differences(fakeLibrary(row -> row.struct().equals("pl_flags") && row.field().equals("cancel")
                ? new Abi.Row(row.struct(), "stop", row.size(), row.offset()) : row));
        assertEquals(2, differences.size());
        assertTrue(differences.get(0).contains("struct pl_flags, field cancel: expected size 4 at offset 0, but the library does not have it"), differences::toString);
        assertTrue(differences.get(1).contains("struct pl_flags, field stop: unknown to these bindings"), differences::toString);
    }

    @Test
    void aLibraryWithoutATableIsRefused() {
        assertEquals(List.of("the library has no table of its structs (pl_abi_table)"),
                Abi.differences((SymbolLookup) name -> java.util.Optional.empty()));
    }

    /** A library with only a table, the bindings' own with each row passed through {@code change}. */
    private SymbolLookup fakeLibrary(UnaryOperator<Abi.Row> change) throws Exception {
        var rows = Abi.rowsOfLayouts().stream().map(change)
                .map(row -> "{ \"%s\", %s, %d, %d },\n".formatted(row.struct(), row.field().isEmpty() ? "0" : "\"" + row.field() + "\"",
                        row.size(), row.offset()))
                .collect(Collectors.joining());
        var source = """
                #include <stddef.h>
                struct row { const char * structure; const char * field; size_t size; size_t offset; };
                static const struct row table[] = { %s };
                const struct row * pl_abi_table(size_t * n) { *n = sizeof(table) / sizeof(table[0]); return table; }
                unsigned long long pl_abi_fingerprint(void) { return 1; }
                """.formatted(rows);
        var library = folder.resolve(System.mapLibraryName("fake"));
        BuiltLibraries.compile(Files.writeString(folder.resolve("fake.c"), source), library, "-shared", "-fPIC");
        return SymbolLookup.libraryLookup(library, Arena.global());
    }
}
