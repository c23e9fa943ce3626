package io.github.panamallama.bench;

import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.OptionalLong;
import java.util.SplittableRandom;

/** What adapters cost: swaps, loads, memory, decode and prefill under one, and batches that mix eight, beside llama.cpp's own way. */
final class AdapterCosts implements AutoCloseable {
    private static final int RANK = 16;
    private static final int SEQUENCES = 8;
    private static final int CONTEXT = 2048;
    private static final int SWAPS = 2_000;
    private static final int RESIDENT = 100;
    private static final int RESIDENT_STEPS = 20;
    private static final int RESIDENT_RANK = 8;

    private final BenchModels.BenchModel bench;
    private final Path home;
    private final Path natives;
    private final int threads;
    private final double seconds;
    private final Path folder;
    private final Model model;
    private final Engine engine;
    private final List<Path> files = new ArrayList<>();
    private final List<Adapter> adapters = new ArrayList<>();
    private final int[] prompt;
    private double loadMillis;

    AdapterCosts(BenchModels.BenchModel bench, Path home, Path natives, int threads, double seconds, int promptLength) throws IOException {
        this.bench = bench;
        this.home = home;
        this.natives = natives;
        this.threads = threads;
        this.seconds = seconds;
        folder = Files.createTempDirectory("panama-llama-adapters");
        model = Model.load(bench.path());
        engine = Engine.open(model, EngineOptions.defaults().withContextSize(CONTEXT).withThreads(threads).withMaxSequences(2 * SEQUENCES));
        var loads = new ArrayList<Double>();
        for (int i = 0; i < SEQUENCES; i++) {
            var file = folder.resolve("adapter-" + i + ".gguf");
            write(file, RANK, i);
            files.add(file);
            long begin = System.nanoTime();
            adapters.add(Adapter.load(model, file));
            loads.add((System.nanoTime() - begin) / 1e6);
        }
        loadMillis = loads.getFirst();
        prompt = new SplittableRandom(1).ints(promptLength, 300, Math.min(model.vocabulary().size(), 4000)).toArray();
    }

    private void write(Path path, int rank, long seed) {
        new RandomAdapter(rank, 0.1, GgmlType.F16, seed).write(model.gguf(), path);
    }

    /** All of it. */
    void measure(int pairs, SplittableRandom random, Report report) throws IOException, InterruptedException {
        var rate = decode(AdapterSet.of(adapters.getFirst()), 4);
        int tokens = (int) Math.clamp(seconds * rate, 8, 256);
        decode(AdapterSet.none(), tokens);
        var one = AdapterSet.of(adapters.getFirst());
        var size = String.format(Locale.ROOT, "rank %d on all projections, F16, %.1f MB", RANK, Files.size(files.getFirst()) / 1e6);
        compare("decode", one, tokens + " tokens one by one; " + size, pairs, random, report, 0.93, set -> decode(set, tokens));
        int prompts = (int) Math.clamp(seconds * rate * 8 / prompt.length, 1, 50);
        prefill(one, prompts);
        compare("prefill", one, prompt.length + " tokens in one batch; " + size, pairs, random, report, 0.90, set -> prefill(set, prompts));
        mixed(tokens, pairs, random, report, size);
        var costs = new ArrayList<Report.TokenCost>();
        costs.addAll(swaps());
        costs.add(loads());
        costs.addAll(resident());
        costs.forEach(cost -> System.out.printf(Locale.ROOT, "  %s: %.3f %s%n", cost.name(), cost.value(), cost.unit()));
        report.add(costs);
    }

    private interface Rate {
        double of(AdapterSet set);
    }

    private void compare(String what, AdapterSet set, String work, int pairs, SplittableRandom random, Report report, double target,
            Rate rate)
            throws IOException {
        var measured = new ArrayList<Comparison.Pair>();
        for (int i = 0; i < pairs; i++) {
            boolean first = random.nextBoolean();
            double ours = first ? rate.of(set) : 0;
            double base = rate.of(AdapterSet.none());
            measured.add(new Comparison.Pair(first ? ours : rate.of(set), base, first));
        }
        add(report, new Comparison("adapters, " + what, bench.name(), work, threads, "one adapter", "none", bench.shipped() ? 0 : target,
                measured));
    }

    private static void add(Report report, Comparison comparison) throws IOException {
        System.out.printf(Locale.ROOT, "  %s: %.2f t/s, %s %.2f, ratio %.4f%n", comparison.part(), comparison.medianOurs(),
                comparison.baseline(), comparison.medianBaseline(), comparison.ratio());
        report.add(comparison);
    }

    /** Tokens per second, one by one behind a prompt. */
    private double decode(AdapterSet set, int tokens) {
        try (var sequence = engine.newSequence(set)) {
            var row = engine.newRow();
            sequence.append(prompt, row);
            sequence.append(prompt[0], row);
            long begin = System.nanoTime();
            for (int i = 0; i < tokens; i++) {
                sequence.append(prompt[i % prompt.length], row);
            }
            return tokens * 1e9 / (System.nanoTime() - begin);
        }
    }

    private double prefill(AdapterSet set, int repetitions) {
        var row = engine.newRow();
        long nanos = 0;
        for (int i = -1; i < repetitions; i++) {
            try (var sequence = engine.newSequence(set)) {
                long begin = System.nanoTime();
                sequence.append(prompt, row);
                nanos += i < 0 ? 0 : System.nanoTime() - begin;
            }
        }
        return (double) prompt.length * repetitions * 1e9 / nanos;
    }

    // --- eight sequences, each under an adapter of its own ----------------------------------------------------------------

    private void mixed(int tokens, int pairs, SplittableRandom random, Report report, String size) throws IOException,
            InterruptedException {
        var program = compile();
        int steps = Math.max(8, tokens / 2);
        var ours = new ArrayList<Comparison.Pair>();
        var upstream = new ArrayList<Comparison.Pair>();
        step(true, steps);
        step(false, steps);
        for (int i = 0; i < pairs; i++) {
            boolean first = random.nextBoolean();
            double mixed = first ? step(true, steps) : 0;
            double plain = step(false, steps);
            mixed = first ? mixed : step(true, steps);
            ours.add(new Comparison.Pair(mixed, plain, first));
            upstream.add(new Comparison.Pair(mixed, upstream(program, Math.max(4, steps / 4)), true));
        }
        var work = SEQUENCES + " sequences, a token each per step, behind 16; " + size;
        add(report, new Comparison("adapters, mixed batch", bench.name(), work, threads, SEQUENCES + " adapters", "none",
                bench.name().contains("Q8_0") && !bench.shipped() ? 0.8 : 0, ours));
        add(report, new Comparison("adapters, mixed batch", bench.name(), work, threads, SEQUENCES + " adapters in one batch",
                "llama_set_adapters_lora, one after the other", bench.name().contains("Q8_0") && !bench.shipped() ? 3 : 0, upstream));
    }

    /** Tokens per second of all sequences together. */
    private double step(boolean adapted, int steps) {
        var sequences = new ArrayList<Sequence>();
        var rows = new Row[SEQUENCES];
        try {
            var appends = new Append[SEQUENCES];
            for (int i = 0; i < SEQUENCES; i++) {
                sequences.add(engine.newSequence(adapted ? AdapterSet.of(adapters.get(i)) : AdapterSet.none()));
                rows[i] = engine.newRow();
                appends[i] = Append.of(sequences.get(i), Arrays.copyOf(prompt, 16), rows[i]);
            }
            engine.decode(appends);
            var token = new int[1];
            long begin = 0;
            for (int s = -2; s < steps; s++) {
                if (s == 0) {
                    begin = System.nanoTime();
                }
                token[0] = prompt[(s + 2) % prompt.length];
                for (int i = 0; i < SEQUENCES; i++) {
                    appends[i] = Append.of(sequences.get(i), token, rows[i]);
                }
                engine.decode(appends);
            }
            return (double) steps * SEQUENCES * 1e9 / (System.nanoTime() - begin);
        } finally {
            sequences.forEach(Sequence::close);
        }
    }

    private Path compile() throws IOException, InterruptedException {
        var program = folder.resolve("adapters");
        var lib = natives.resolve("lib").toString();
        Programs.run(home, List.of(System.getenv().getOrDefault("CC", "cc"), "-std=gnu11", "-O2", "-I" + natives.resolve("include"),
                home.resolve("bench/src/main/c/adapters.c").toString(), "-o", program.toString(), "-L" + lib, "-lllama", "-lggml",
                "-lggml-cpu", "-lggml-base", "-Wl,-rpath," + lib, "-Wl,-rpath-link," + lib));
        return program;
    }

    private double upstream(Path program, int steps) throws IOException, InterruptedException {
        var command = new ArrayList<>(List.of(program.toString(), bench.path().toString(), Integer.toString(threads),
                Integer.toString(steps), "16"));
        files.forEach(file -> command.add(file.toString()));
        return Double.parseDouble(Programs.run(home, command).out().strip());
    }

    // --- swaps, loads, memory ---------------------------------------------------------------------------------------------

    /** From the call until the sequence can decode, in microseconds; and what the next decode takes longer. */
    private List<Report.TokenCost> swaps() {
        var sets = adapters.stream().map(AdapterSet::of).toList();
        var micros = new double[SWAPS];
        for (int i = -SWAPS; i < SWAPS; i++) {
            long begin = System.nanoTime();
            var sequence = engine.newSequence(sets.get(Math.floorMod(i, sets.size())));
            double taken = (System.nanoTime() - begin) / 1e3;
            if (i >= 0) {
                micros[i] = taken;
            }
            sequence.close();
        }
        int decodes = (int) Math.clamp(seconds * 20, 40, 400);
        var same = new double[decodes];
        var swapped = new double[decodes];
        try (var a = engine.newSequence(sets.get(0)); var b = engine.newSequence(sets.get(1)); var c = engine.newSequence(sets.get(1))) {
            var row = engine.newRow();
            for (var sequence : List.of(a, b, c)) {
                sequence.append(Arrays.copyOf(prompt, 16), row);
            }
            for (int i = 0; i < decodes; i++) {
                a.append(prompt[i % prompt.length], row);
                long begin = System.nanoTime();
                b.append(prompt[i % prompt.length], row);           // another adapter than the step before
                swapped[i] = System.nanoTime() - begin;
                begin = System.nanoTime();
                c.append(prompt[i % prompt.length], row);           // the same one
                same[i] = System.nanoTime() - begin;
            }
        }
        double extra = 100 * (Statistics.median(swapped) / Statistics.median(same) - 1);
        return List.of(new Report.TokenCost("swap of a resident adapter, " + bench.name(), Statistics.median(micros), 0, "us, median of "
                + SWAPS, 20), new Report.TokenCost("next decode after a swap, longer by, " + bench.name(), extra, 0, "% of a decode", 5));
    }

    private Report.TokenCost loads() throws IOException {
        var millis = new ArrayList<Double>();
        millis.add(loadMillis);
        for (int i = 0; i < 15; i++) {
            long begin = System.nanoTime();
            try (var adapter = Adapter.load(model, files.get(i % SEQUENCES)); var sequence = engine.newSequence(AdapterSet.of(adapter))) {
                millis.add((System.nanoTime() - begin) / 1e6);
                sequence.close();
                engine.newSequence().close();
                flush();
            }
        }
        return new Report.TokenCost(String.format(Locale.ROOT,
                "load of an adapter of %.1f MB until it is resident, %s (the very first: %.1f ms)",
                Files.size(files.getFirst()) / 1e6, bench.name(), loadMillis),
                Statistics.median(millis.stream().mapToDouble(Double::doubleValue).toArray()), 0, "ms, median of 16", 50);
    }

    /** What was posted to the engine before is done when this returns. */
    private void flush() {
        try (var sequence = engine.newSequence()) {
            sequence.append(prompt[0], null);
        }
    }

    /**
     * Memory that a resident adapter takes beyond the bytes of its file, in percent: the median over steps of a few adapters each, since
     * the JVM's own memory comes and goes meanwhile. Nothing where {@link MemoryInUse} can't say it.
     */
    private List<Report.TokenCost> resident() throws IOException {
        var many = new ArrayList<Adapter>();
        var users = new ArrayList<Sequence>();
        try {
            var file = folder.resolve("small.gguf");
            write(file, RESIDENT_RANK, 99);
            for (int i = 0; i < RESIDENT; i++) { // whatever is compiled or made once
                Adapter.load(model, file).close();
            }
            long bytes = RESIDENT / RESIDENT_STEPS * Files.size(file);
            var percent = new double[RESIDENT_STEPS];
            var before = reside(0, file, many, users);
            for (int step = 0; step < RESIDENT_STEPS; step++) {
                var after = reside(RESIDENT / RESIDENT_STEPS, file, many, users);
                if (after.isEmpty()) {
                    return List.of();
                }
                percent[step] = 100.0 * (after.getAsLong() - before.getAsLong() - bytes) / bytes;
                before = after;
            }
            return List.of(new Report.TokenCost(String.format(Locale.ROOT, "%d resident adapters of %.2f MB, beyond their bytes, %s",
                    RESIDENT, Files.size(file) / 1e6, bench.name()), Statistics.median(percent), 0, "%", 1));
        } finally {
            users.forEach(Sequence::close);
            flush();
            many.forEach(Adapter::close);
        }
    }

    /** Makes so many more adapters resident, and returns the memory in use then. */
    private OptionalLong reside(int count, Path file, List<Adapter> adapters, List<Sequence> users) throws IOException {
        for (int i = 0; i < count; i++) {
            adapters.add(Adapter.load(model, file));
            users.add(engine.newSequence(AdapterSet.of(adapters.getLast())));
        }
        flush();
        return MemoryInUse.bytes();
    }

    @Override
    public void close() throws IOException {
        engine.close();
        adapters.forEach(Adapter::close);
        model.close();
        try (var all = Files.list(folder)) {
            for (var file : all.toList()) {
                Files.delete(file);
            }
        }
        Files.delete(folder);
    }
}
