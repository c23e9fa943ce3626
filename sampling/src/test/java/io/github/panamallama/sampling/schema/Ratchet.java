package io.github.panamallama.sampling.schema;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** A checked-in table of results. A test that does better than the table fails too, so that the table keeps what was reached. */
final class Ratchet {
    private Ratchet() { }

    /** Compares line by line; a line beginning with # is a comment. */
    static void compare(String table, List<String> results) {
        List<String> expected = new ArrayList<>();
        try (var in = Ratchet.class.getResourceAsStream(table)) {
            for (String line : new String(in.readAllBytes(), StandardCharsets.UTF_8).split("\n")) {
                if (!line.startsWith("#") && !line.isBlank()) {
                    expected.add(line);
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        assertEquals(String.join("\n", expected), String.join("\n", results),
                () -> table + " differs: what got worse is a bug, what got better goes into the table");
    }
}
