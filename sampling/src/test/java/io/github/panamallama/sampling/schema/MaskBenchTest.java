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

/** MaskBench's schemas with their valid and invalid instances, written compactly, in the order of properties that the instance has. */
class MaskBenchTest {
    @Test
    void everySchemaThatCompilesTellsValidFromInvalid() throws IOException {
        Path folder = Verdicts.data("maskbench");
        assumeTrue(folder != null, "skipped: ../shared/data/maskbench is not there");
        List<Path> files;
        try (Stream<Path> all = Files.list(folder)) {
            files = all.filter(f -> f.toString().endsWith(".json")).sorted().toList();
        }
        var wrong = new ArrayList<String>();
        var lines = new ArrayList<String>();
        int compiled = 0;
        int right = 0;
        for (Path file : files) {
            JsonNode bench = Documents.JSON.readTree(Files.readString(file));
            Verdicts verdicts;
            try {
                // the instances were judged with formats asserted
                verdicts = new Verdicts(bench.get("schema").toString(), JsonOptions.DEFAULT.formats(true));
            } catch (Refusal e) {
                lines.add("refused\t" + file.getFileName() + "\t" + e.pointer());
                continue;
            }
            compiled++;
            for (JsonNode test : bench.get("tests")) {
                if (verdicts.accepts(test.get("data")) == test.get("valid").booleanValue()) {
                    right++;
                } else {
                    wrong.add(file.getFileName() + ": " + test.get("data"));
                }
            }
        }
        assertEquals(List.of(), wrong);
        assertTrue(compiled >= 0.85 * files.size(), "compiled: " + compiled + " of " + files.size());
        lines.add("compiled\t" + compiled + "\t" + files.size());
        lines.add("right\t" + right);
        Ratchet.compare("maskbench.tsv", lines);
    }
}
