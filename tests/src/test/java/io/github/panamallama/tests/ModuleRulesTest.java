package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.module.ModuleDescriptor;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/**
 * Imports point one way, {@code bindings <- runtime <- sampling, adapters, layers, quantization <- llama <- examples}, and only runtime
 * sees bindings.
 */
class ModuleRulesTest {
    private static final String BINDINGS = "panamallama.bindings";

    /** From the inside out; bench comes last because nothing but the tests may see it. */
    private static final List<String> ORDER = List.of(BINDINGS, "panamallama.runtime", "panamallama.sampling",
            "panamallama.adapters", "panamallama.layers", "panamallama.quantization", "panamallama", "panamallama.examples",
            "panamallama.bench");

    @Test
    void arrowsPointOneWay() throws IOException {
        var modules = modules();
        for (var module : modules.values()) {
            for (var needed : ours(module)) {
                if (ORDER.contains(module.name()) && ORDER.contains(needed)) {
                    assertTrue(ORDER.indexOf(needed) < ORDER.indexOf(module.name()),
                            module.name() + " requires " + needed + ", which is further out");
                }
            }
        }
    }

    @Test
    void onlyRuntimeSeesTheBindings() throws IOException {
        var modules = modules();
        var readers = modules.values().stream().filter(module -> ours(module).contains(BINDINGS)).map(ModuleDescriptor::name)
                .collect(Collectors.toSet());
        assertEquals(Set.of("panamallama.runtime"), readers);

        var bindings = modules.get(BINDINGS);
        assertTrue(!bindings.isOpen() && bindings.opens().isEmpty(), "nobody may reflect into the bindings");
        assertTrue(!bindings.exports().isEmpty());
        for (var export : bindings.exports()) {
            assertEquals(Set.of("panamallama.runtime"), export.targets(), "who sees " + export.source());
        }
        var runtime = modules.get("panamallama.runtime");
        for (var requirement : runtime.requires()) {
            if (requirement.name().equals(BINDINGS)) {
                assertTrue(!requirement.modifiers().contains(ModuleDescriptor.Requires.Modifier.TRANSITIVE),
                        "runtime must not hand the bindings on");
            }
        }
        for (var export : runtime.exports()) {
            assertTrue(!export.source().contains(".natives"), "the loading of natives is runtime's own affair: " + export);
        }
    }

    @Test
    void everyPartWithCodeIsAModule() throws IOException {
        var without = new ArrayList<String>();
        try (var parts = Files.list(Project.HOME)) {
            for (var part : parts.toList()) {
                var sources = part.resolve("src/main/java");
                if (Files.isDirectory(sources) && !Files.exists(sources.resolve("module-info.java"))) {
                    without.add(part.getFileName().toString());
                }
            }
        }
        assertEquals(List.of(), without);
        assertTrue(modules().keySet().containsAll(ORDER), "missing among " + modules().keySet());
    }

    private static Set<String> ours(ModuleDescriptor module) {
        return module.requires().stream().map(ModuleDescriptor.Requires::name).filter(name -> name.startsWith("panamallama"))
                .collect(Collectors.toSet());
    }

    private static Map<String, ModuleDescriptor> modules() throws IOException {
        var modules = new HashMap<String, ModuleDescriptor>();
        try (var parts = Files.list(Project.HOME)) {
            for (var part : parts.toList()) {
                var file = part.resolve("target/classes/module-info.class");
                if (Files.exists(file)) {
                    try (var in = Files.newInputStream(file)) {
                        var module = ModuleDescriptor.read(in);
                        modules.put(module.name(), module);
                    }
                }
            }
        }
        return modules;
    }
}
