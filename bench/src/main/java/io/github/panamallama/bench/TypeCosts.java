package io.github.panamallama.bench;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.function.ToDoubleFunction;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.knowm.xchart.CategoryChart;
import org.knowm.xchart.CategoryChartBuilder;

/**
 * A random model in a 2:4 sparse type beside the same shape in the dense types that it competes with: decoding, prefill, how much of the
 * memory's bandwidth decoding uses, memory at load.
 */
final class TypeCosts implements AutoCloseable {
    private static final int CONTEXT = 1024;
    /** That are decoded in one measurement, however long they take. */
    private static final int LEAST_TOKENS = 8;
    /** Most that a load may take beyond the file and what llama.cpp needs beside any file, in per cent of the file. */
    private static final double MOST_MEMORY = 5;
    private static final Pattern BANDWIDTH = Pattern.compile("^read .* ([\\d.]+) GB/s", Pattern.MULTILINE);

    /**
     * @param decode  what decoding is to reach against it: with one thread, with several; 0 where that is only reported
     * @param prefill the same for prefill with any number of threads
     */
    private record Rival(GgmlType type, double decodeAlone, double decode, double prefill) {
    }

    private final BenchModels.BenchModel bench;
    private final Path home;
    private final Upstream upstream;
    private final double seconds;
    private final int promptLength;
    private final List<Rival> rivals;
    private final Map<GgmlType, BenchModels.BenchModel> files = new LinkedHashMap<>();
    private final Map<GgmlType, Model> models = new LinkedHashMap<>();
    private final Path folder;

    /** @param only the dense types to measure among those that the model competes with; null for all */
    TypeCosts(BenchModels.BenchModel bench, Path home, Upstream upstream, double seconds, int promptLength, Set<GgmlType> only)
            throws IOException {
        this.bench = bench;
        this.home = home;
        this.upstream = upstream;
        this.seconds = seconds;
        this.promptLength = promptLength;
        rivals = rivals(bench, only);
        files.put(bench.random().type(), bench);
        for (var rival : rivals) {
            files.put(rival.type(), BenchModels.inType(bench, rival.type()));
        }
        folder = Files.createTempDirectory("panama-llama-types");
    }

    /** @throws IOException if a model can't be measured, before any is */
    static void check(List<BenchModels.BenchModel> models, Set<GgmlType> only) throws IOException {
        for (var model : models) {
            rivals(model, only);
        }
    }

    private static List<Rival> rivals(BenchModels.BenchModel bench, Set<GgmlType> only) throws IOException {
        if (bench.random() == null || !bench.random().type().isSparse()) {
            throw new IOException("'types' compares random models in 2:4 sparse types, 1b-s24_q4 for instance, not " + bench.name());
        }
        var all = rivals(bench.random().type());
        var rivals = all.stream().filter(rival -> only == null || only.contains(rival.type())).toList();
        if (rivals.isEmpty()) {
            throw new IOException(bench.random().type() + " competes with none of the types of --rivals; it does with "
                    + all.stream().map(rival -> rival.type().toString()).collect(Collectors.joining(", ")));
        }
        return rivals;
    }

    private static List<Rival> rivals(GgmlType type) {
        return switch (type) {
            case S24_Q4 -> List.of(new Rival(GgmlType.Q4_0, 1.15, 1.3, 0.9), new Rival(GgmlType.Q4_K, 0, 0, 0),
                    new Rival(GgmlType.Q3_K, 1, 1, 0), new Rival(GgmlType.Q2_K, 0, 0, 0), new Rival(GgmlType.IQ3_S, 1, 1, 0));
            case S24_Q8 -> List.of(new Rival(GgmlType.Q8_0, 1.5, 1.5, 0), new Rival(GgmlType.Q4_0, 0, 0, 0.9));
            case S24_T -> List.of(new Rival(GgmlType.TQ2_0, 1.2, 1.2, 0), new Rival(GgmlType.Q2_K, 0, 0, 0),
                    new Rival(GgmlType.Q4_0, 0, 0, 0.9));
            default -> throw new IllegalArgumentException("no types are known that " + type + " competes with");
        };
    }

    /** Tokens per second of one type in one round, and its place in the order of that. */
    private record Rates(double decode, double prefill, int place) {
    }

    /** @param bandwidth bytes per second that loads alone reach, median of the rounds */
    private record Rounds(List<Map<GgmlType, Rates>> rates, double bandwidth) {
        double median(GgmlType type, ToDoubleFunction<Rates> rate) {
            return Statistics.median(rates.stream().map(round -> round.get(type)).mapToDouble(rate).toArray());
        }
    }

    /** With one thread and with {@code threads}. */
    void measure(int threads, int pairs, SplittableRandom random, Report report) throws IOException, InterruptedException {
        var rows = new ArrayList<List<String>>();
        var memory = memory(report);
        for (var file : files.entrySet()) {
            models.put(file.getKey(), Model.load(file.getValue().path()));
        }
        var decoded = new LinkedHashMap<String, List<Double>>();
        for (int t : threads == 1 ? new int[] {1} : new int[] {1, threads}) {
            var rounds = rounds(t, pairs, random);
            for (var rival : rivals) {
                compare(rival, t, rounds.rates(), report);
            }
            var rates = new ArrayList<Double>();
            for (var type : files.keySet()) {
                double decode = rounds.median(type, Rates::decode);
                double read = decode * weightBytes(type);
                rates.add(decode);
                rows.add(List.of(type.label(), String.format(Locale.ROOT, "%.4g", type.bitsPerElement()), Integer.toString(t),
                        String.format(Locale.ROOT, "%.2f", decode), String.format(Locale.ROOT, "%.1f", read / 1e9),
                        String.format(Locale.ROOT, "%.2f", read / rounds.bandwidth()),
                        String.format(Locale.ROOT, "%.1f", rounds.median(type, Rates::prefill)), memory.get(type).get(0),
                        memory.get(type).get(1)));
            }
            decoded.put(t == 1 ? "1 thread" : t + " threads", rates);
        }
        report.add(new Report.Table("Types, " + bench.name(), "Medians of " + pairs + " rounds, every type once in each, in random order; "
                + "bandwidth is what loads alone reach with the same threads (matmul's `read`), in the same rounds. Weights read per token "
                + "are all matrices but the embedding. Peak memory is llama-bench's, beyond the file's size.",
                List.of("type", "bits per weight", "threads", "decode t/s", "GB/s of weights", "of bandwidth", "prefill t/s",
                        "peak beyond the file, mapped, MB", "read, MB"), rows));
        report.save(chart(decoded), "types-" + bench.name().replaceAll("[^a-zA-Z0-9]+", "-"));
    }

    private CategoryChart chart(Map<String, List<Double>> decoded) {
        var chart = new CategoryChartBuilder().width(900).height(480).title("Decoding, " + bench.name().replaceAll(",.*", ""))
                .xAxisTitle("type (bits per weight)").yAxisTitle("tokens/s").build();
        var names = files.keySet().stream().map(type -> String.format(Locale.ROOT, "%s (%.3g)", type, type.bitsPerElement())).toList();
        decoded.forEach((name, rates) -> chart.addSeries(name, names, rates));
        return chart;
    }

    private Rounds rounds(int threads, int pairs, SplittableRandom random) throws IOException, InterruptedException {
        var program = matmul();
        var bandwidths = new double[pairs];
        var tokens = new LinkedHashMap<GgmlType, Integer>();
        double expected = 0;
        for (var type : files.keySet()) { // the first pass touches all weights
            var first = rates(type, threads, LEAST_TOKENS, 0);
            int count = (int) Math.clamp(seconds * first.decode(), LEAST_TOKENS, CONTEXT - promptLength - 8);
            tokens.put(type, count);
            expected += count / first.decode() + Math.max(seconds, promptLength / first.prefill());
        }
        System.out.printf(Locale.ROOT, "  %s with %d threads: about %.0f minutes%n", pairs + " rounds", threads,
                Math.ceil(pairs * expected / 60));
        var rounds = new ArrayList<Map<GgmlType, Rates>>();
        for (int i = 0; i < pairs; i++) {
            var order = new ArrayList<>(files.keySet());
            Collections.shuffle(order, new Random(random.nextLong()));
            var round = new LinkedHashMap<GgmlType, Rates>();
            for (int place = 0; place < order.size(); place++) {
                var type = order.get(place);
                round.put(type, rates(type, threads, tokens.get(type), place));
            }
            rounds.add(round);
            bandwidths[i] = bandwidth(program, threads);
        }
        return new Rounds(rounds, Statistics.median(bandwidths));
    }

    private void compare(Rival rival, int threads, List<Map<GgmlType, Rates>> rounds, Report report) throws IOException {
        var type = bench.random().type();
        var decode = new ArrayList<Comparison.Pair>();
        var prefill = new ArrayList<Comparison.Pair>();
        for (var round : rounds) {
            var ours = round.get(type);
            var theirs = round.get(rival.type());
            decode.add(new Comparison.Pair(ours.decode(), theirs.decode(), ours.place() < theirs.place()));
            prefill.add(new Comparison.Pair(ours.prefill(), theirs.prefill(), ours.place() < theirs.place()));
        }
        for (var comparison : List.of(
                new Comparison("types, decode", bench.name(), "tokens one by one behind " + promptLength, threads, type.label(),
                        rival.type().label(), threads == 1 ? rival.decodeAlone() : rival.decode(), decode),
                new Comparison("types, prefill", bench.name(), promptLength + " tokens in one batch", threads, type.label(),
                        rival.type().label(), rival.prefill(), prefill))) {
            System.out.printf(Locale.ROOT, "  %s, %d threads: %.2f t/s, %s %.2f, ratio %.4f%n", comparison.part(), threads,
                    comparison.medianOurs(), comparison.baseline(), comparison.medianBaseline(), comparison.ratio());
            report.add(comparison);
        }
    }

    /** Bytes that a token reads: of the embedding it is one row. */
    private double weightBytes(GgmlType type) {
        return GgufFile.read(files.get(type).path()).tensors().stream().filter(tensor -> !tensor.name().equals("token_embd.weight"))
                .mapToLong(GgufTensor::byteSize).sum();
    }

    private int[] prompt(Model model) {
        return IntStream.range(0, promptLength).map(i -> 300 + i * 37 % (model.vocabulary().size() - 300)).toArray();
    }

    /** In an engine of its own: two engines' threads would spin against each other. */
    private Engine engine(GgmlType type, int threads) {
        return Engine.open(models.get(type), EngineOptions.defaults().withContextSize(CONTEXT).withThreads(threads));
    }

    /** Prompts until the time is over, then tokens behind the last of them. */
    private Rates rates(GgmlType type, int threads, int tokens, int place) {
        int[] prompt = prompt(models.get(type));
        try (var engine = engine(type, threads)) {
            var row = engine.newRow();
            long evaluated = 0;
            double nanos;
            long begin = System.nanoTime();
            while (true) {
                try (var sequence = engine.newSequence()) {
                    sequence.append(prompt, row);
                    evaluated += promptLength;
                    nanos = System.nanoTime() - begin;
                    if (nanos < seconds * 1e9) {
                        continue;
                    }
                    sequence.append(prompt[0], row);    // the graph of one token is built here
                    begin = System.nanoTime();
                    for (int i = 0; i < tokens; i++) {
                        sequence.append(prompt[i % prompt.length], row);
                    }
                    return new Rates(tokens * 1e9 / (System.nanoTime() - begin), evaluated * 1e9 / nanos, place);
                }
            }
        }
    }

    private Path matmul() throws IOException, InterruptedException {
        var program = folder.resolve("matmul");
        if (!Files.exists(program)) {
            var natives = upstream.folder().getParent();
            var lib = natives.resolve("lib").toString();
            Programs.run(home, List.of(System.getenv().getOrDefault("CC", "cc"), "-std=gnu11", "-O2", "-I" + natives.resolve("include"),
                    home.resolve("bench/src/main/c/matmul.c").toString(), "-o", program.toString(), "-L" + lib, "-lggml", "-lggml-cpu",
                    "-lggml-base", "-Wl,-rpath," + lib, "-Wl,-rpath-link," + lib));
        }
        return program;
    }

    /** Bytes per second. */
    private double bandwidth(Path program, int threads) throws IOException, InterruptedException {
        var out = Programs.run(folder, List.of(program.toString(), "65536", "8192", "1", Integer.toString(threads), "9", "read")).out();
        var found = BANDWIDTH.matcher(out);
        if (!found.find()) {
            throw new IOException("no bandwidth in: " + out);
        }
        return 1e9 * Double.parseDouble(found.group(1));
    }

    /** What loading takes at its peak beyond the file: of each type, mapped and read. */
    private Map<GgmlType, List<String>> memory(Report report) throws IOException, InterruptedException {
        if (!Files.isReadable(Path.of("/proc/self/status"))) {
            System.out.println("no /proc: memory is skipped");
            var unknown = new LinkedHashMap<GgmlType, List<String>>();
            files.keySet().forEach(type -> unknown.put(type, List.of("unknown", "unknown")));
            return unknown;
        }
        var modes = List.of("mmap", "none");
        var peaks = new LinkedHashMap<GgmlType, List<Long>>();
        for (var file : files.entrySet()) {
            var beyond = new ArrayList<Long>();
            for (var mode : modes) {
                var command = new ArrayList<String>();
                command.add(upstream.folder().resolve("llama-bench").toString());
                command.addAll(Upstream.benchArguments(file.getValue().path(), 0, LEAST_TOKENS, 1, 2));
                command.addAll(List.of("--no-warmup", "-lm", mode));
                beyond.add(MemoryUse.peak(home, command).get("VmHWM") - Files.size(file.getValue().path()));
            }
            peaks.put(file.getKey(), beyond);
        }
        var type = bench.random().type();
        var costs = new ArrayList<Report.TokenCost>();
        for (int i = 0; i < modes.size(); i++) {
            // read or mapped, whichever is less: where a type's layout changes, mapping holds it twice
            long dense = rivals.stream().flatMap(rival -> peaks.get(rival.type()).stream()).mapToLong(Long::longValue).min().orElseThrow();
            double percent = 100.0 * (peaks.get(type).get(i) - dense) / Files.size(bench.path());
            costs.add(new Report.TokenCost("peak memory at load beyond the file and what a dense type takes beyond its own, "
                    + (i == 0 ? "mapped, " : "read, ") + bench.name(), percent, Double.NaN, "% of the file", MOST_MEMORY));
        }
        costs.forEach(cost -> System.out.printf(Locale.ROOT, "  %s: %.2f %s%n", cost.name(), cost.value(), cost.unit()));
        report.add(costs);
        var text = new LinkedHashMap<GgmlType, List<String>>();
        peaks.forEach((each, bytes) -> text.put(each, bytes.stream().map(b -> String.format(Locale.ROOT, "%.0f", b / 1e6)).toList()));
        return text;
    }

    @Override
    public void close() throws IOException {
        models.values().forEach(Model::close);
        Files.deleteIfExists(folder.resolve("matmul"));
        Files.delete(folder);
    }
}
