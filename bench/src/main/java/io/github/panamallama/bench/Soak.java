package io.github.panamallama.bench;

import io.github.panamallama.GenerationOptions;
import io.github.panamallama.IsolatedLlama;
import io.github.panamallama.IsolationOptions;
import io.github.panamallama.Llama;
import io.github.panamallama.LlamaOptions;
import io.github.panamallama.TextModel;
import io.github.panamallama.WorkerDiedException;
import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.DecodeCancelledException;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import io.github.panamallama.sampling.grammar.Grammar;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.ToLongFunction;
import org.knowm.xchart.XYChart;
import org.knowm.xchart.XYChartBuilder;
import org.knowm.xchart.style.Styler;
import org.knowm.xchart.style.markers.SeriesMarkers;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Everything at random for a long time, on the shipped model: does memory grow, do file handles? Rounds of operations on several threads;
 * between rounds nothing is open but two models, one of them in a worker, and what this process holds is counted. Exit code 3 if it grew.
 */
@Command(name = "bench/run soak", mixinStandardHelpOptions = true, sortOptions = false, showDefaultValues = true,
        description = "Runs generations, forks, cancels, adapters, closes and killed workers at random; watches memory and file handles.")
public final class Soak implements Callable<Integer> {
    /** What a round is made of; each takes some tenths of a second. */
    private enum Operation { text, cancelled, infilled, constrained, chat, forks, adapter, reopened, isolated, killed }

    private static final String PROMPT = "public final class Point {\n    private final int x;\n\n    public ";
    private static final Grammar NUMBERS = Grammar.regex("[0-9]{1,6}(, [0-9]{1,6})*;");
    private static final int CONTEXT = 512;
    /** Where its report goes, from the root of the checkout. */
    static final String REPORT = "bench/target/soak";
    /** Of what is in use after the first third, the JVM's own memory left out: what caches may still add. */
    private static final double GROWTH = 0.03;
    /** Of resident pages of mappings that are neither files', nor the JVM's, nor the C library's. */
    private static final double MORE_PAGES = 0.05;
    private static final int MORE_HANDLES = 8;
    private static final int MORE_THREADS = 4;

    @Option(names = "--minutes", description = "how long", defaultValue = "30")
    double minutes;

    @Option(names = "--threads", description = "operations at once", defaultValue = "4")
    int threads;

    @Option(names = "--operations", description = "per round", defaultValue = "60")
    int operations;

    @Option(names = "--seed", description = "of the choice of operations", defaultValue = "1")
    long seed;

    @Option(names = "--home", paramLabel = "DIR", description = "root of the checkout", defaultValue = "")
    Path home;

    @Option(names = "--report", paramLabel = "DIR", description = "where the report goes", defaultValue = REPORT)
    Path folder;

    private final Map<Operation, LongAdder> done = new EnumMap<>(Operation.class);
    private Path adapter;
    private Llama llama;
    private IsolatedLlama isolated;

    /**
     * What this process holds between two rounds, in bytes; -1 where the system doesn't tell.
     *
     * @param resident all pages, of which the heap, touched from the start, is the most
     * @param files    those of files: the model, libraries, class data
     * @param kept     those that the C library had free and did not give back before it was told to
     * @param stuck    those that it has free between blocks that are in use, or cannot give back
     * @param jvm      what the JVM holds beside its heap
     * @param mapped   resident and none of these, nor from the C library's arenas: mappings of native libraries
     * @param inUse    objects of the heap and what the C library has handed out, but not to the JVM; whether touched or not
     */
    private record Sample(double minutes, long resident, long files, long kept, long stuck, Optional<JvmMemory> jvm, long mapped,
            long inUse, int handles, int threads) {
        long held() {
            return jvm.map(JvmMemory::total).orElse(-1L);
        }
    }

    public static void main(String[] arguments) {
        CommandLines.run(new Soak(), arguments);
    }

    @Override
    public Integer call() throws Exception {
        for (var operation : Operation.values()) {
            done.put(operation, new LongAdder());
        }
        adapter = Files.createTempFile("soak", ".gguf");
        RandomAdapter.of(seed).write(GgufFile.read(DefaultModel.path()), adapter);
        var options = LlamaOptions.defaults().withEngine(EngineOptions.defaults().withContextSize(4 * CONTEXT).withThreads(1)
                .withMaxSequences(32));
        var random = new SplittableRandom(seed);
        var samples = new ArrayList<Sample>();
        long start = System.nanoTime();
        try (var here = Llama.loadDefault(options);
                var there = Llama.isolatedDefault(options, IsolationOptions.defaults().withHeap(128).withRestarts(Integer.MAX_VALUE)
                        .withBackOff(Duration.ofMillis(1), Duration.ofMillis(100)))) {
            llama = here;
            isolated = there;
            while (samples.isEmpty() || samples.getLast().minutes < minutes) {
                round(random);
                samples.add(sample((System.nanoTime() - start) / 6e10));
                var now = samples.getLast();
                System.out.printf(Locale.ROOT, "%5.1f min  resident %s MiB: files %s, free in the C library %s, not given back %s, "
                        + "the JVM's %s, other mappings %s; in use %s; %d handles, %d threads  %s%n", now.minutes, mebibytes(now.resident),
                        mebibytes(now.files), mebibytes(now.kept), mebibytes(now.stuck), mebibytes(now.held()), mebibytes(now.mapped),
                        mebibytes(now.inUse), now.handles, now.threads, done);
            }
        } finally {
            Files.delete(adapter);
        }
        return write(samples) ? 0 : 3;
    }

    private void round(SplittableRandom random) throws Exception {
        try (var pool = Executors.newFixedThreadPool(threads)) {
            var all = new ArrayList<Callable<Void>>();
            for (int i = 0; i < operations; i++) {
                var operation = Operation.values()[random.nextInt(Operation.values().length)];
                var own = random.split();
                all.add(() -> {
                    run(operation, own);
                    done.get(operation).increment();
                    return null;
                });
            }
            for (var ended : pool.invokeAll(all)) {
                ended.get();
            }
        }
    }

    private void run(Operation operation, SplittableRandom random) throws Exception {
        var options = GenerationOptions.defaults().withMaxTokens(random.nextInt(1, 48)).withSeed(random.nextLong())
                .withTemperature(random.nextBoolean() ? 0 : 0.8f);
        switch (operation) {
            case text -> llama.complete(PROMPT, options.withLogProbs(random.nextInt(3))).text();
            case cancelled -> cancel(llama, options, random);
            case infilled -> llama.infill(PROMPT, "\n}\n", options).text();
            case constrained -> llama.generate("int[] sizes = ", NUMBERS, options.withMaxTokens(40));
            case chat -> {
                try (var chat = llama.chat()) {
                    for (int i = random.nextInt(1, 4); i > 0; i--) {
                        chat.send("What is a `List`?", Grammar.regex("[a-z ]{1,40}"));
                    }
                }
            }
            case forks -> fork(random);
            case adapter -> {
                try (var own = Adapter.load(llama.model(), adapter)) {
                    llama.complete(PROMPT, options.withAdapters(AdapterSet.of(own, random.nextBoolean() ? 1 : 0.5f))).text();
                }
            }
            case reopened -> {
                try (var other = Llama.loadDefault(LlamaOptions.defaults().withContextSize(CONTEXT).withThreads(1))) {
                    other.complete(PROMPT, options).text();
                }
            }
            case isolated -> surviving(() -> isolated.complete(PROMPT, options).text());
            case killed -> {
                surviving(() -> cancel(isolated, options, random));
                ProcessHandle.of(isolated.workerPid()).ifPresent(ProcessHandle::destroyForcibly);
                surviving(() -> isolated.complete(PROMPT, options).text());
            }
        }
    }

    private interface Call {
        void run();
    }

    /** Another thread may kill the worker at any time. */
    private static void surviving(Call call) {
        try {
            call.run();
        } catch (WorkerDiedException e) {
            // what it is for
        }
    }

    private static void cancel(TextModel model, GenerationOptions options, SplittableRandom random) {
        try (var completion = model.complete(PROMPT, options)) {
            int pieces = random.nextInt(4);
            for (var pieceOf = completion.iterator(); pieces > 0 && pieceOf.hasNext(); pieces--) {
                pieceOf.next();
            }
        }
    }

    private void fork(SplittableRandom random) {
        var engine = llama.engine();
        var row = engine.newRow();
        try (var trunk = engine.newSequence()) {
            trunk.append(llama.model().vocabulary().tokenize(PROMPT, true, false), row);
            for (int i = random.nextInt(1, 5); i > 0; i--) {
                try (var branch = trunk.fork()) {
                    branch.append(random.nextInt(300, 1000), row);
                    branch.truncate(random.nextInt(1, branch.length()));
                    branch.append(random.nextInt(300, 1000), row);
                    if (random.nextBoolean()) {
                        branch.cancel();
                        branch.append(random.nextInt(300, 1000), row);
                    }
                } catch (DecodeCancelledException e) {
                    // was asked for
                }
            }
        }
    }

    private static Sample sample(double minutes) throws IOException {
        long heap = MemoryInUse.heap();     // collects garbage first
        long pid = ProcessHandle.current().pid();
        var before = Resident.bytes(pid);
        boolean known = MemoryInUse.trim() && before.containsKey("RssAnon");
        long kept = known ? Math.max(0, before.get("RssAnon") - Resident.bytes(pid).get("RssAnon")) : -1;
        var jvm = JvmMemory.now();
        var allocated = MemoryInUse.allocated();
        known = known && jvm.isPresent() && allocated.isPresent();
        return new Sample(minutes, before.getOrDefault("VmRSS", -1L), before.getOrDefault("RssFile", -1L), kept,
                known ? Math.max(0, jvm.get().arenas() - allocated.get().inArenas()) : -1, jvm, known ? jvm.get().mapped() : -1,
                known ? heap + allocated.get().bytes() - jvm.get().allocated() : -1, Resident.handles(), Resident.threads());
    }

    /** How much more the last third holds than the second; 0 where nothing tells. */
    private static double growth(List<Sample> early, List<Sample> late, ToLongFunction<Sample> figure) {
        double before = median(early, figure);
        return before > 0 ? median(late, figure) / before - 1 : 0;
    }

    private boolean write(List<Sample> samples) throws IOException {
        int third = samples.size() / 3;
        var early = samples.subList(third, Math.max(third + 1, 2 * third));
        var late = samples.subList(Math.min(2 * third, samples.size() - 1), samples.size());
        var thirds = new LinkedHashMap<String, List<Sample>>();
        thirds.put("first third", samples.subList(0, Math.max(1, third)));
        thirds.put("second third", early);
        thirds.put("last third", late);
        double inUse = growth(early, late, Sample::inUse);
        double mapped = growth(early, late, Sample::mapped);
        double handles = median(late, Sample::handles) - median(early, Sample::handles);
        double more = median(late, Sample::threads) - median(early, Sample::threads);
        boolean known = late.getLast().inUse > 0;    // only glibc tells
        boolean flat = inUse <= GROWTH && mapped <= MORE_PAGES && handles <= MORE_HANDLES && more <= MORE_THREADS;

        var setting = new LinkedHashMap<String, String>();
        setting.put("machine", Machine.describe());
        setting.put("Java", Runtime.version() + ", " + System.getProperty("java.vm.name"));
        setting.put("command", String.format(Locale.ROOT, "`bench/run soak --minutes %s --threads %d --operations %d --seed %d`",
                minutes, threads, operations, seed));
        var report = new Report(home.toAbsolutePath().resolve(folder), setting);
        report.add(new Report.Table("Soak: operations", "How often each was done.", List.of("operation", "times"),
                done.entrySet().stream().map(entry -> List.of(entry.getKey().toString(), entry.getValue().toString())).toList()));
        report.add(new Report.Table("Soak: what the process holds", String.format(Locale.ROOT, "MiB, medians over thirds of the run; "
                + "between rounds, after a collection of garbage. Resident are the heap (%s, touched from the start), pages of files, those that "
                + "the C library keeps free in its arenas and gave back when it was told to, those that it has free and could not give "
                + "back, those that the JVM holds, and other mappings. In use is the heap's objects and what the C library has handed out, "
                + "but not to the JVM. The last third against the second: %s, %+.0f file handles (at most %d), %+.0f threads (at "
                + "most %d): %s", mebibytes(Runtime.getRuntime().totalMemory()), known
                ? String.format(Locale.ROOT, "%+.2f %% in use (at most %.0f %%), %+.2f %% in other mappings (at most %.0f %%)",
                100 * inUse, 100 * GROWTH, 100 * mapped, 100 * MORE_PAGES) : "memory unknown", handles, MORE_HANDLES, more, MORE_THREADS,
                flat ? "flat" : "it grew"),
                List.of("part of the run", "resident", "of files", "free in the C library", "free, not given back", "the JVM's",
                        "other mappings",
                        "in use", "file handles", "threads"),
                thirds.entrySet().stream().map(entry -> row(entry.getKey(), entry.getValue())).toList()));
        if (samples.stream().allMatch(sample -> sample.jvm.isPresent())) {
            var columns = new ArrayList<>(List.of("part of the run"));
            Arrays.stream(JvmMemory.Part.values()).forEach(part -> columns.add(part.toString()));
            report.add(new Report.Table("Soak: what the JVM holds", "MiB, medians over thirds of the run, by the JVM's own count "
                    + "(`-XX:NativeMemoryTracking=summary`): resident pages and what it has from the C library. Code is compiled code and "
                    + "compilers what they work with; both follow what the JIT finds worth compiling, and no rule holds them.", columns,
                    thirds.entrySet().stream().map(entry -> jvmRow(entry.getKey(), entry.getValue())).toList()));
        }
        var chart = new XYChartBuilder().width(900).height(480).title("Memory of the process outside of its heap").xAxisTitle("minutes")
                .yAxisTitle("MiB").build();
        addSeries(chart, "other mappings", samples, Sample::mapped);
        addSeries(chart, "the JVM's", samples, Sample::held);
        addSeries(chart, "free in the C library", samples, Sample::kept);
        addSeries(chart, "free, not given back", samples, Sample::stuck);
        addSeries(chart, "of files", samples, Sample::files);
        addSeries(chart, "in use, objects of the heap included, without the JVM's", samples, Sample::inUse);
        chart.getStyler().setYAxisMin(0.0).setLegendPosition(Styler.LegendPosition.OutsideS);
        report.add(chart, "soak");
        System.out.println(report.markdown());
        return flat;
    }

    private static void addSeries(XYChart chart, String name, List<Sample> samples, ToLongFunction<Sample> figure) {
        chart.addSeries(name, samples.stream().mapToDouble(Sample::minutes).toArray(),
                samples.stream().mapToDouble(sample -> figure.applyAsLong(sample) / 1048576.0).toArray()).setMarker(SeriesMarkers.NONE);
    }

    private static List<String> row(String name, List<Sample> samples) {
        var cells = new ArrayList<>(List.of(name));
        for (var figure : List.<ToLongFunction<Sample>>of(Sample::resident, Sample::files, Sample::kept, Sample::stuck,
                Sample::held, Sample::mapped, Sample::inUse)) {
            cells.add(mebibytes(median(samples, figure)));
        }
        cells.add(String.format(Locale.ROOT, "%.0f", median(samples, Sample::handles)));
        cells.add(String.format(Locale.ROOT, "%.0f", median(samples, Sample::threads)));
        return cells;
    }

    private static List<String> jvmRow(String name, List<Sample> samples) {
        var cells = new ArrayList<>(List.of(name));
        for (var part : JvmMemory.Part.values()) {
            cells.add(mebibytes(median(samples, sample -> sample.jvm.orElseThrow().parts().get(part))));
        }
        return cells;
    }

    private static double median(List<Sample> samples, ToLongFunction<Sample> figure) {
        return Statistics.median(samples.stream().mapToDouble(sample -> figure.applyAsLong(sample)).toArray());
    }

    private static String mebibytes(double bytes) {
        return bytes < 0 ? "unknown" : String.format(Locale.ROOT, "%.1f", bytes / 1048576);
    }
}
