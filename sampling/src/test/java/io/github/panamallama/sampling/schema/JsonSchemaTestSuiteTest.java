package io.github.panamallama.sampling.schema;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.sampling.grammar.JsonOptions;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;

/**
 * The JSON-Schema-Test-Suite, draft 2020-12 with all optional tests. A test counts as decided if its schema compiles and the verdict
 * is right; formats are asserted in the suite's format folder only, as it asks for.
 */
class JsonSchemaTestSuiteTest {
    @Test
    void everySchemaThatCompilesGivesTheRightVerdicts() throws IOException {
        Path suite = Verdicts.data("json-schema-test-suite");
        assumeTrue(suite != null, "skipped: ../shared/data/json-schema-test-suite is not there");
        var remotes = Verdicts.remotes(suite.resolve("remotes"));
        Path tests = suite.resolve("tests/draft2020-12");
        List<Path> files;
        try (Stream<Path> all = Files.walk(tests)) {
            files = all.filter(f -> f.toString().endsWith(".json")).sorted().toList();
        }
        var wrong = new ArrayList<String>();
        var lines = new ArrayList<String>();
        int total = 0;
        int decided = 0;
        for (Path file : files) {
            String name = tests.relativize(file).toString().replace('\\', '/');
            var options = JsonOptions.DEFAULT.formats(name.startsWith("optional/format/"));
            for (var remote : remotes.entrySet()) {
                options = options.document(remote.getKey(), remote.getValue());
            }
            int all = 0;
            int right = 0;
            for (JsonNode group : Documents.JSON.readTree(Files.readString(file))) {
                all += group.get("tests").size();
                Verdicts verdicts;
                try {
                    verdicts = new Verdicts(group.get("schema").toString(), options);
                } catch (Refusal e) {
                    continue;
                }
                for (JsonNode test : group.get("tests")) {
                    if (verdicts.accepts(test.get("data")) == test.get("valid").booleanValue()) {
                        right++;
                    } else {
                        wrong.add(name + ": " + group.get("description") + ", " + test.get("description"));
                    }
                }
            }
            lines.add(name + "\t" + right + "\t" + all);
            total += all;
            decided += right;
        }
        assertEquals(List.of(), wrong);
        lines.add("total\t" + decided + "\t" + total);
        assertTrue(decided >= 1_400, "decided: " + decided);
        Ratchet.compare("json-schema-test-suite.tsv", lines);
    }
}
