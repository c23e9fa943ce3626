package io.github.panamallama.sampling.schema;

import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.sampling.automaton.NodePool;
import io.github.panamallama.sampling.automaton.Recogniser;
import io.github.panamallama.sampling.grammar.JsonOptions;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Random;
import java.util.stream.Stream;
import tools.jackson.core.StreamWriteFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** A compiled schema asked byte by byte. */
final class Verdicts {
    private static final JsonMapper COMPACT = JsonMapper.builder().enable(StreamWriteFeature.WRITE_BIGDECIMAL_AS_PLAIN).build();

    private final String schema;
    private final Recogniser recogniser;

    Verdicts(String schema, JsonOptions options) {
        this(schema, options, new Budget(200_000, 5_000_000, 10_000_000_000L));
    }

    Verdicts(String schema, JsonOptions options, Budget budget) {
        this.schema = schema;
        var nodes = new NodePool();
        int root = JsonSchemas.compile(schema, options, nodes, budget);
        recogniser = new Recogniser(nodes, root, Recogniser.Limits.DEFAULT);
    }

    static String compact(JsonNode data) {
        return COMPACT.writeValueAsString(data);
    }

    boolean accepts(JsonNode data) {
        return accepts(compact(data));
    }

    boolean accepts(String text) {
        int state = recogniser.start();
        for (byte b : text.getBytes(StandardCharsets.UTF_8)) {
            state = recogniser.push(state, b);
            if (state == Recogniser.DEAD) {
                return false;
            }
        }
        return recogniser.isComplete(state);
    }

    /** How far the text is a beginning of something valid, in bytes. */
    int prefix(String text) {
        int state = recogniser.start();
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        for (int i = 0; i < bytes.length; i++) {
            state = recogniser.push(state, bytes[i]);
            if (state == Recogniser.DEAD) {
                return i;
            }
        }
        return bytes.length;
    }

    /** A random text of the language, as short as it can be from {@code length} bytes on; null if it does not end soon after. */
    String draw(Random random, int length) {
        var text = new ByteArrayOutputStream();
        int state = recogniser.start();
        while (text.size() < 2 * length) {
            if (recogniser.isComplete(state) && random.nextInt(4) == 0) {
                return text.toString(StandardCharsets.UTF_8);
            }
            // what closes comes often, so that texts end
            int b = -1;
            if (random.nextInt(3) == 0 || text.size() > length) {
                int[] closing = {'"', '}', ']', ':', ','};
                for (int c : closing) {
                    if (b < 0 && recogniser.isLive(state, c)) {
                        b = c;
                    }
                }
            }
            if (b < 0) {
                int n = 0;
                for (int c = 0; c < 256; c++) {
                    if (recogniser.isLive(state, c) && random.nextInt(++n) == 0) {
                        b = c;
                    }
                }
            }
            if (b < 0) {
                assertTrue(recogniser.isComplete(state), () -> "a dead end after " + text.toString(StandardCharsets.UTF_8)
                        + " of " + schema);
                return text.toString(StandardCharsets.UTF_8);
            }
            text.write(b);
            state = recogniser.push(state, b);
        }
        return null;
    }

    Recogniser recogniser() {
        return recogniser;
    }

    /** A folder of the conformance data, which lies beside the repository; null if it is not there. */
    static Path data(String name) {
        for (Path p = Path.of("").toAbsolutePath(); p != null; p = p.getParent()) {
            Path found = p.resolve("../shared/data").resolve(name).normalize();
            if (Files.isDirectory(found)) {
                return found;
            }
        }
        return null;
    }

    /** The suite's remote documents, by the address it gives them. */
    static Map<String, String> remotes(Path folder) throws java.io.IOException {
        var all = new java.util.TreeMap<String, String>();
        try (Stream<Path> files = Files.walk(folder)) {
            for (Path file : files.filter(f -> f.toString().endsWith(".json")).toList()) {
                all.put("http://localhost:1234/" + folder.relativize(file).toString().replace('\\', '/'), Files.readString(file));
            }
        }
        return all;
    }
}
