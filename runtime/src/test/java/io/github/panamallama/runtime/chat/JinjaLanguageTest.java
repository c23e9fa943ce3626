package io.github.panamallama.runtime.chat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Clock;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** The template language: upstream's own cases, read from its test source. */
class JinjaLanguageTest {
    /** Cases that fail, with the reason. */
    private static final Map<String, String> KNOWN = Map.of(
            "is escaped", "there is no markup type: nothing is ever escaped");

    record Case(String name, String template, Map<String, Object> variables, String expected) {}

    static List<Case> cases() throws Exception {
        var source = CppSource.of(Upstream.root().resolve("tests/test-jinja.cpp"));
        var cases = new ArrayList<Case>();
        while (!source.atEnd()) {
            if (source.next().is("test_template") && source.peek().is("(") && source.peek(1).is("t")
                    && source.peek(3).kind() == CppSource.Kind.STRING) {
                source.expect("(");
                source.next();
                source.expect(",");
                String name = source.string();
                source.expect(",");
                String template = source.string();
                source.expect(",");
                var variables = new LinkedHashMap<String, Object>();
                if (source.json() instanceof Map<?, ?> map) {
                    map.forEach((k, v) -> variables.put((String) k, PyValues.fromJava(v)));
                }
                source.expect(",");
                cases.add(new Case(name, template, variables, source.string()));
            }
        }
        return cases;
    }

    @Test
    void upstreamsLanguageCasesRenderAsItsTestsExpect() throws Exception {
        var failures = new ArrayList<String>();
        int passed = 0;
        var cases = cases();
        for (var c : cases) {
            String got;
            try {
                got = new JinjaTemplate(c.template).render(c.variables, Clock.systemUTC(), 1000);
            } catch (ChatTemplateException e) {
                got = "(" + e.getMessage() + ")";
            }
            if (got.equals(c.expected)) {
                passed++;
            } else if (!KNOWN.containsKey(c.name)) {
                failures.add(c.name + ": " + c.template + "\n  expected " + c.expected + "\n  found    " + got);
            }
        }
        System.out.println("Jinja language cases: " + passed + " of " + cases.size() + " pass; known: " + KNOWN);
        assertEquals(List.of(), failures);
        assertTrue(cases.size() >= 200, cases.size() + " cases found");
        assertEquals(cases.size() - KNOWN.size(), passed);
    }
}
