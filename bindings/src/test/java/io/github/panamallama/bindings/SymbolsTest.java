package io.github.panamallama.bindings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

class SymbolsTest {
    @Test
    void everyBoundSymbolIsInTheBuiltLibrariesOrExcused() throws Exception {
        var libraries = BuiltLibraries.open();
        var bound = boundSymbols();
        assertTrue(bound.size() > 900, "only " + bound.size() + " symbols found in the generated classes");

        var missing = bound.stream().filter(name -> libraries.find(name).isEmpty()).toList();
        assertEquals(List.copyOf(excused().keySet()), missing);
    }

    @Test
    void everyExcuseHasItsReason() throws Exception {
        excused().forEach((name, reason) -> assertTrue(reason.length() > 10, name));
    }

    /** Each bound function has a nested class of its name. */
    private static List<String> boundSymbols() {
        var names = new ArrayList<String>();
        for (Class<?> c = LlamaH.class; c != Object.class; c = c.getSuperclass()) {
            Arrays.stream(c.getDeclaredClasses()).map(Class::getSimpleName).forEach(names::add);
        }
        return names.stream().sorted().toList();
    }

    private static Map<String, String> excused() throws Exception {
        var excused = new TreeMap<String, String>();
        try (var in = SymbolsTest.class.getResourceAsStream("unexported-symbols.txt")) {
            new String(in.readAllBytes(), StandardCharsets.UTF_8).lines().filter(line -> !line.isBlank() && !line.startsWith("#"))
                    .forEach(line -> excused.put(line.split("\\s+", 2)[0], line.split("\\s+", 2)[1]));
        }
        return excused;
    }
}
