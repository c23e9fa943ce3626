package io.github.panamallama.sampling.grammar;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.junit.jupiter.api.Test;

/** Runs the fuzz target over its corpus, then over mutations of it for a bounded number of runs. */
class GrammarFuzzTest {
    private static final int RUNS = Integer.getInteger("panamallama.fuzz.runs", 6_000);
    private static final int HANGS_AFTER_SECONDS = 60;
    private static final String[] DICTIONARY = {"root ::= ", " ::= ", "\"a\"", "[a-z]", "[^\"]", "(", ")", "*", "+", "?", "{0,3}", "{2,}",
            "|", "\n", "a ",
        "root", "\\u00e9", "\\x00", "<[3]>", "!<[260]>", ".", "# c\n", "^", "$", "(?=", "(?!", "(?:", "\\d", "\\p{L}",
                "{\"type\":\"object\"}",
        "{\"type\":\"string\",\"pattern\":\"a+\"}", "\"properties\":{\"a\":", "\"anyOf\":[", "\"$ref\":\"#\"", "\"not\":",
                "\"maxLength\":3", "\"enum\":[1,\"x\"]",
        "\"items\":", "\"required\":[\"a\"]", "true", "{}", "[]", ",", ":", "}", "]", "\u00ff"};

    private static List<byte[]> corpus() throws IOException {
        var seeds = new ArrayList<byte[]>();
        try (var files = Files.list(Path.of("src/test/resources/fuzz/grammar"))) {
            for (var file : files.sorted().toList()) {
                seeds.add(Files.readAllBytes(file));
            }
        }
        return seeds;
    }

    private static byte[] mutate(byte[] seed, List<byte[]> seeds, Random random) {
        var data = seed;
        for (int n = 1 + random.nextInt(4); n > 0; n--) {
            int at = 1 + random.nextInt(Math.max(1, data.length));
            at = Math.min(at, data.length);
            int length = random.nextInt(Math.max(1, Math.min(20, data.length - at + 1)));
            data = switch (random.nextInt(7)) {
                case 0 -> splice(data, at, length, new byte[0]);
                case 1 -> splice(data, at, 0, Arrays.copyOfRange(data, at, Math.min(data.length, at + length)));
                case 2 -> splice(data, at, 0, new byte[] {(byte) random.nextInt(256)});
                case 3 -> {
                    var changed = data.clone();
                    if (at < data.length) {
                        changed[at] ^= (byte) (1 << random.nextInt(8));
                    }
                    yield changed;
                }
                case 4, 5 -> splice(data, at, 0, DICTIONARY[random.nextInt(DICTIONARY.length)].getBytes(
                        random.nextInt(20) == 0 ? StandardCharsets.ISO_8859_1 : StandardCharsets.UTF_8));
                default -> {
                    var other = seeds.get(random.nextInt(seeds.size()));
                    int from = random.nextInt(other.length);
                    yield splice(data, at, 0, Arrays.copyOfRange(other, from, Math.min(other.length, from + 30)));
                }
            };
        }
        return data.length > 4096 ? Arrays.copyOf(data, 4096) : data;
    }

    private static byte[] splice(byte[] data, int at, int removed, byte[] added) {
        int end = Math.min(data.length, at + removed);
        var result = new byte[data.length - (end - at) + added.length];
        System.arraycopy(data, 0, result, 0, at);
        System.arraycopy(added, 0, result, at, added.length);
        System.arraycopy(data, end, result, at + added.length, data.length - end);
        return result;
    }

    @Test
    void nothingBreaksOrHangs() throws Exception {
        long seed = new Random().nextLong();
        System.out.println("GrammarFuzzTest seed " + seed);
        var random = new Random(seed);
        var seeds = corpus();
        assertTrue(seeds.size() > 10, "corpus of " + seeds.size());
        // a platform thread with the usual stack, as programs have
        try (var thread = Executors.newSingleThreadExecutor()) {
            for (int run = 0; run < seeds.size() + RUNS; run++) {
                var data = run < seeds.size() ? seeds.get(run) : mutate(seeds.get(random.nextInt(seeds.size())), seeds, random);
                var future = thread.submit(() -> GrammarFuzz.fuzzerTestOneInput(data));
                try {
                    future.get(HANGS_AFTER_SECONDS, TimeUnit.SECONDS);
                } catch (ExecutionException e) {
                    fail("seed " + seed + ", run " + run + ", input " + new String(data, StandardCharsets.UTF_8), e.getCause());
                } catch (TimeoutException e) {
                    System.out.println("hangs: " + new String(data, StandardCharsets.UTF_8));
                    System.out.flush();
                    thread.shutdownNow();
                    fail("seed " + seed + ", run " + run + " takes longer than " + HANGS_AFTER_SECONDS + " s: "
                            + new String(data, StandardCharsets.UTF_8));
                }
            }
        }
    }
}
