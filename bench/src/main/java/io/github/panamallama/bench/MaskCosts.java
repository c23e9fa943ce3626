package io.github.panamallama.bench;

import io.github.panamallama.bench.Report.TokenCost;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.Vocabulary;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarException;
import io.github.panamallama.sampling.grammar.GrammarVocabulary;
import io.github.panamallama.sampling.grammar.JsonOptions;
import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/**
 * The time to find the tokens that a JSON Schema allows next, over a folder of schemas with instances (MaskBench), and llama.cpp's own
 * time on the same places of a part of them. One thread, after a pass over a part of the schemas that warms the JIT up.
 */
final class MaskCosts {
    /** Every so many schemas go through llama.cpp's engine, which takes hundreds of times longer. */
    private static final int BASELINE_STEP = 10;
    /** Masks of one text that llama.cpp computes at most. */
    private static final int BASELINE_MASKS = 40;
    private static final int BASELINE_SECONDS = 60;

    private final Path home;
    private final Upstream upstream;
    private final List<Task> tasks = new ArrayList<>();

    /** @param instances valid ones, compact */
    private record Task(String name, String schema, List<String> instances) {
    }

    /** Nanoseconds of one schema; {@code masks} by text and token. Null if the schema is refused. */
    private record Times(long compile, long[][] masks) {
    }

    MaskCosts(Path home, Path data, Upstream upstream) throws IOException {
        this.home = home;
        this.upstream = upstream;
        if (!Files.isDirectory(data)) {
            throw new IOException("no folder " + data + " with MaskBench files; name one with --masks-data");
        }
        var json = JsonMapper.shared();
        try (var files = Files.list(data)) {
            for (var file : files.filter(f -> f.toString().endsWith(".json")).sorted().toList()) {
                var root = json.readTree(file.toFile());
                var instances = new ArrayList<String>();
                for (JsonNode test : root.path("tests")) {
                    if (test.path("valid").asBoolean()) {
                        instances.add(json.writeValueAsString(test.path("data")));
                    }
                }
                tasks.add(new Task(file.getFileName().toString(), json.writeValueAsString(root.path("schema")), instances));
            }
        }
    }

    List<TokenCost> measure(List<String> vocabularies) throws IOException, InterruptedException {
        var costs = new ArrayList<TokenCost>();
        var program = compileBaseline();
        for (var name : vocabularies) {
            var path = home.resolve("ggml-src/upstream/models/ggml-vocab-" + name + ".gguf");
            try (var model = Model.load(path, ModelOptions.defaults().withVocabularyOnly(true))) {
                measure(name, path, model.vocabulary(), program, costs);
            }
        }
        return costs;
    }

    private void measure(String name, Path path, Vocabulary vocabulary, Path program, List<TokenCost> costs)
            throws IOException, InterruptedException {
        long start = System.nanoTime();
        var prepared = GrammarVocabulary.of(vocabulary);
        double preparation = (System.nanoTime() - start) / 1e3;
        for (int i = 0; i < tasks.size(); i += 4) {
            times(tasks.get(i), vocabulary, prepared);
        }
        var all = new ArrayList<Times>();
        int refused = 0;
        for (var task : tasks) {
            var times = times(task, vocabulary, prepared);
            all.add(times);
            refused += times == null ? 1 : 0;
        }
        var compiled = all.stream().filter(t -> t != null).toList();
        var masks = compiled.stream().flatMap(t -> Arrays.stream(t.masks)).flatMapToLong(Arrays::stream).sorted().toArray();
        var first = compiled.stream().filter(t -> t.masks.length > 0 && t.masks[0].length > 0).mapToLong(t -> t.masks[0][0]).sorted()
                .toArray();
        var opening = compiled.stream().mapToLong(t -> t.compile + (t.masks.length > 0 && t.masks[0].length > 0 ? t.masks[0][0] : 0))
                .sorted().toArray();
        var where = ", " + name;
        costs.add(cost("vocabulary prepared once" + where, preparation, Double.POSITIVE_INFINITY));
        costs.add(cost("mask, average of " + masks.length + where, average(masks), 50));
        costs.add(cost("mask, median" + where, quantile(masks, 0.5), Double.POSITIVE_INFINITY));
        costs.add(cost("mask, 99 %" + where, quantile(masks, 0.99), 500));
        costs.add(cost("mask, longest" + where, quantile(masks, 1), Double.POSITIVE_INFINITY));
        costs.add(cost("first mask, average of " + compiled.size() + " schemas (" + refused + " refused)" + where, average(first), 2_000));
        costs.add(cost("schema compiled and first mask, average" + where, average(opening), Double.POSITIVE_INFINITY));
        costs.add(cost("schema compiled and first mask, longest" + where, quantile(opening, 1), 200_000));
        if (program != null) {
            baseline(name, path, vocabulary, program, all, costs);
        }
    }

    private static TokenCost cost(String name, double micros, double limit) {
        return new TokenCost(name, micros, Double.NaN, "µs", limit);
    }

    private static double average(long[] nanos) {
        return Arrays.stream(nanos).average().orElse(0) / 1e3;
    }

    private static double quantile(long[] sorted, double q) {
        return sorted.length == 0 ? 0 : sorted[(int) Math.min(sorted.length - 1, (long) (q * sorted.length))] / 1e3;
    }

    private static Times times(Task task, Vocabulary vocabulary, GrammarVocabulary prepared) {
        long start = System.nanoTime();
        Grammar grammar;
        try {
            grammar = Grammar.jsonSchema(task.schema, JsonOptions.DEFAULT);
        } catch (GrammarException e) {
            return null;
        }
        long compile = System.nanoTime() - start;
        var masks = new long[task.instances.size()][];
        for (int i = 0; i < masks.length; i++) {
            var tokens = vocabulary.tokenize(task.instances.get(i), false, false);
            var constraint = grammar.constraint(prepared);
            masks[i] = new long[tokens.length + 1];
            for (int t = 0; t <= tokens.length; t++) {
                long before = System.nanoTime();
                var mask = constraint.mask();
                masks[i][t] = System.nanoTime() - before;
                if (t < tokens.length) {
                    if (!mask.get(tokens[t])) {
                        throw new IllegalStateException(task.name + ": token " + tokens[t] + " of a valid instance refused " + constraint);
                    }
                    constraint.accept(tokens[t]);
                } else if (!constraint.complete()) {
                    throw new IllegalStateException(task.name + ": the end of a valid instance refused " + constraint);
                }
            }
        }
        return new Times(compile, masks);
    }

    // ---- llama.cpp's side

    private Path compileBaseline() throws IOException, InterruptedException {
        var compiler = System.getenv().getOrDefault("CXX", "c++");
        var tree = home.resolve("ggml-src/upstream");
        var tools = upstream.folder();
        var libraries = tools.resolveSibling("lib");
        var program = Files.createTempDirectory("masks").resolve("masks");
        Programs.run(home, List.of(compiler, "-std=c++17", "-O2", "-I" + tree.resolve("common"), "-I" + tree.resolve("include"),
                "-I" + tree.resolve("ggml/include"), "-I" + tree.resolve("vendor"), home.resolve("bench/src/main/cpp/masks.cpp").toString(),
                "-o", program.toString(), "-L" + tools, "-L" + libraries, "-lllama-common", "-lllama", "-lggml", "-lggml-base",
                "-Wl,-rpath," + tools, "-Wl,-rpath," + libraries, "-Wl,-rpath-link," + libraries));
        return program;
    }

    private void baseline(String name, Path path, Vocabulary vocabulary, Path program, List<Times> ours, List<TokenCost> costs)
            throws IOException {
        var mine = new ArrayList<Long>();
        var theirs = new ArrayList<Long>();
        int refused = 0;
        int ended = 0;
        int schemas = 0;
        Process process = null;
        try {
            for (int i = 0; i < tasks.size(); i += BASELINE_STEP) {
                var task = tasks.get(i);
                if (ours.get(i) == null) {
                    continue;
                }
                schemas++;
                if (process == null || !process.isAlive()) {
                    process = new ProcessBuilder(program.toString(), path.toString(), Integer.toString(BASELINE_MASKS))
                            .redirectError(ProcessBuilder.Redirect.DISCARD).start();
                }
                var asked = process;
                var timer = Thread.ofVirtual().start(() -> {
                    try {
                        TimeUnit.SECONDS.sleep(BASELINE_SECONDS);
                        asked.destroyForcibly();
                    } catch (InterruptedException e) {
                        // answered in time
                    }
                });
                try {
                    send(process, task, vocabulary);
                    var lines = answer(process.inputReader(StandardCharsets.UTF_8));
                    if (lines == null) {
                        ended++;
                        process.destroyForcibly();
                        process = null;
                    } else if (lines.getFirst().equals("refused")) {
                        refused++;
                    } else {
                        for (int text = 1; text < lines.size(); text++) {
                            var numbers = lines.get(text).split(" ");
                            for (int t = 2; t < numbers.length; t++) {
                                theirs.add(Long.parseLong(numbers[t]));
                                mine.add(ours.get(i).masks[text - 1][t - 2]);
                            }
                        }
                    }
                } finally {
                    timer.interrupt();
                }
            }
        } finally {
            if (process != null) {
                process.destroyForcibly();
            }
        }
        var what = String.format(Locale.ROOT, " on %d masks of %d schemas (llama.cpp refuses %d, ends or hangs on %d), %s", theirs.size(),
                schemas, refused, ended, name);
        double here = average(mine.stream().mapToLong(Long::longValue).toArray());
        double there = average(theirs.stream().mapToLong(Long::longValue).toArray());
        costs.add(cost("mask, average" + what, here, Double.POSITIVE_INFINITY));
        costs.add(cost("llama.cpp's grammar sampler, average" + what, there, Double.POSITIVE_INFINITY));
        costs.add(new TokenCost("llama.cpp's time by ours, " + name, there / here, Double.NaN, "times", Double.POSITIVE_INFINITY));
    }

    private static void send(Process process, Task task, Vocabulary vocabulary) {
        try {
            var out = new DataOutputStream(new BufferedOutputStream(process.getOutputStream()));
            var schema = task.schema.getBytes(StandardCharsets.UTF_8);
            out.write(number(schema.length));
            out.write(schema);
            out.write(number(task.instances.size()));
            for (var instance : task.instances) {
                var tokens = vocabulary.tokenize(instance, false, false);
                out.write(number(tokens.length));
                for (int token : tokens) {
                    out.write(number(token));
                }
            }
            out.flush();
        } catch (IOException e) {
            process.destroyForcibly(); // it ended while it was written to: no answer will come
        }
    }

    private static byte[] number(int value) {
        return ByteBuffer.allocate(4).order(ByteOrder.nativeOrder()).putInt(value).array();
    }

    private static List<String> answer(BufferedReader from) {
        var lines = new ArrayList<String>();
        try {
            for (String line; (line = from.readLine()) != null; lines.add(line)) {
                if (line.equals(".")) {
                    return lines;
                }
            }
        } catch (IOException e) {
            // ended
        }
        return null;
    }
}
