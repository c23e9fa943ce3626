package io.github.panamallama.bench;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.sampling.grammar.Grammar;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/**
 * Compares this project with upstream's own programs in one run and writes a report. Exit code 0 when every target is reached, 3
 * when one is missed, 1 when something failed.
 */
@Command(name = "bench/run", mixinStandardHelpOptions = true, sortOptions = false, showDefaultValues = true,
        description = "Compares panama-llama with llama.cpp's own programs, alternating, and writes a report.")
public final class Compare implements Callable<Integer> {
    /** What can be measured. */
    enum Part {
        /** {@code panama-llama bench} with {@code llama-bench}: prefill and decode. */
        bench,
        /** Generation through Engine and Sampler with {@code llama-completion}. */
        generate,
        /** Sixteen generations at once with one. */
        concurrent,
        /** A generation held to a JSON Schema with the same generation without. */
        constrained,
        /** JMH: the cost of a token outside of its evaluation. */
        tokens,
        /** AdaDec, USCD, beams and drafts against greedy decoding. */
        strategies,
        /** Grammar-aligned sampling against a re-run per draw; the shipped model alone. */
        asap,
        /** Adapters: swaps, loads, memory, decode, prefill, mixed batches, with llama.cpp's own way. */
        adapters,
        /** Layer plans: blocks left out, changes of the plan, taps, self-drafts, and on the shipped model what it costs in quality. */
        layers,
        /** What each type of weights costs in quality; the shipped model alone. */
        quality,
        /** Random models of the 2:4 sparse types with the same in dense types. */
        types,
        /** A worker process beside this one. */
        isolated,
        /** From the start of a process to its first token. */
        startup,
        /** The most memory of a process, with {@code llama-completion}. */
        memory,
        /** Several numbers of generations at once. */
        scaling,
        /** The cost of a token by the size of the vocabulary. */
        vocabulary,
        /** Other runtimes for Java; Maven fetches them. */
        runtimes,
        /** What the last {@code bench/run soak} said. */
        soak,
        /** Next lines of held-out files; the shipped model alone. */
        lines,
        /** Finding the tokens that a JSON Schema allows, with llama.cpp's grammar sampler. */
        masks
    }

    /** No text of it ends before a benchmark does. */
    private static final String RECORDS = """
            {"type": "array", "minItems": 10000, "items": {
              "type": "object", "required": ["name", "id", "tags"], "additionalProperties": false,
              "properties": {
                "name": {"type": "string"}, "id": {"type": "integer"}, "score": {"type": "number"},
                "tags": {"type": "array", "items": {"enum": ["new", "old", "unknown"]}}}}}""";

    @Option(names = "--home", paramLabel = "DIR", description = "root of the checkout", defaultValue = "")
    Path home;

    @Option(names = "--parts", split = ",", description = "what to measure: ${COMPLETION-CANDIDATES}",
            defaultValue = "bench,generate,concurrent,tokens,strategies,adapters,layers,quality,isolated,asap,lines,masks")
    List<Part> parts;

    @Option(names = "--layers", split = ",", paramLabel = "WHAT", description = "of the part 'layers': ${COMPLETION-CANDIDATES}",
            defaultValue = "changes,hook,taps,skips,drafts,quality,routers")
    Set<LayerCosts.What> layers;

    @Option(names = {"-m", "--models"}, split = ",", paramLabel = "MODEL",
            description = "'shipped'; '3b-q8_0', '1b-q8_0', '300m-q8_0', '100m-q8_0' and other types, random ones; or paths of GGUF files",
            defaultValue = "shipped,1b-q8_0,1b-q4_0")
    List<String> models;

    @Option(names = "--sparse-models", split = ",", paramLabel = "MODEL", description = "of the part 'types'",
            defaultValue = "1b-s24_q4,1b-s24_q8,1b-s24_t,3b-s24_q4,3b-s24_q8,3b-s24_t")
    List<String> sparseModels;

    @Option(names = "--rivals", split = ",", paramLabel = "TYPE",
            description = "of the part 'types': the dense types to measure, for instance q4_0,q3_k; without it all that compete with a model")
    Set<String> rivals;

    @Option(names = "--pairs", description = "alternations of each comparison", defaultValue = "15")
    int pairs;

    @Option(names = {"-t", "--threads"}, description = "CPU threads of each side; 0 is all processors", defaultValue = "0")
    int threads;

    @Option(names = {"-p", "--prompt"}, description = "tokens of the prefill test", defaultValue = "128")
    int prompt;

    @Option(names = {"-n", "--generate"}, description = "tokens of the decode test", defaultValue = "32")
    int generate;

    @Option(names = "--parallel", description = "generations at once", defaultValue = "16")
    int parallel;

    @Option(names = "--seconds", description = "how long one measurement should take, roughly", defaultValue = "3")
    double seconds;

    @Option(names = "--held-out", paramLabel = "DIR",
            description = "Java files for 'lines', 'layers' and 'quality'; skipped where there is no such folder",
            defaultValue = "../shared/models/heldout")
    Path heldOut;

    @Option(names = "--seed", description = "of the order within pairs and of the draws", defaultValue = "1")
    long seed;

    @Option(names = "--unpatched", description = "baseline: llama.cpp exactly as released, without this project's kernels and patches")
    boolean unpatched;

    @Option(names = "--masks-data", paramLabel = "DIR", description = "folder of MaskBench files for the masks",
            defaultValue = "../shared/data/maskbench")
    Path masksData;

    @Option(names = "--report", paramLabel = "DIR", description = "where the report goes", defaultValue = "bench/target/report")
    Path report;

    public static void main(String[] arguments) {
        CommandLines.run(new Compare(), arguments);
    }

    @Spec
    private CommandSpec spec;

    private Upstream upstream;
    private Report written;
    private SplittableRandom random;

    @Override
    public Integer call() throws Exception {
        home = home.toAbsolutePath().normalize();
        if (pairs < 1 || threads < 0 || prompt < 1 || generate < 2 || parallel < 1 || !(seconds > 0)) {
            throw new IllegalArgumentException("pairs, prompt, parallel and seconds must be positive, generate at least 2");
        }
        threads = threads > 0 ? threads : Runtime.getRuntime().availableProcessors();
        random = new SplittableRandom(seed);
        var wanted = EnumSet.copyOf(parts);
        var beside = EnumSet.of(Part.bench, Part.generate, Part.concurrent, Part.constrained, Part.adapters, Part.masks, Part.memory,
                Part.types);
        beside.retainAll(wanted);
        upstream = beside.isEmpty() ? null : Upstream.build(home, unpatched);    // the others need none of its programs
        var setting = new LinkedHashMap<String, String>();
        var typed = new ArrayList<>(spec.commandLine().getParseResult().originalArgs());
        if (!typed.isEmpty() && typed.getFirst().equals("--home")) {
            typed.subList(0, 2).clear();        // bench/run gives it
        }
        setting.put("command", "`bench/run " + String.join(" ", typed) + "`");
        setting.put("machine", Machine.describe());
        setting.put("Java", Runtime.version() + ", " + System.getProperty("java.vm.name"));
        if (upstream != null) {
            setting.put("native build", Machine.nativeBuild(upstream.folder()));
            setting.put("baseline", "llama-bench and llama-completion, same release, flags and compiler, "
                    + (unpatched ? "exactly as released" : "same kernels and patches"));
        }
        setting.put("seed", Long.toString(seed));
        written = new Report(home.resolve(report), setting);
        setting.forEach((name, value) -> System.out.println(name + ": " + value));

        var ofNoModel = EnumSet.of(Part.tokens, Part.masks, Part.memory, Part.vocabulary, Part.types, Part.soak);
        for (var model : ofNoModel.containsAll(wanted) ? List.<BenchModels.BenchModel>of() : BenchModels.resolve(models)) {
            System.out.printf(Locale.ROOT, "%n%s: %s%n", model.name(), model.shape());
            if (wanted.contains(Part.bench)) {
                compareBench(model);
            }
            if (wanted.contains(Part.generate) || wanted.contains(Part.concurrent) || wanted.contains(Part.constrained)) {
                compareGeneration(model, wanted);
            }
            if (wanted.contains(Part.strategies)) {
                try (var costs = new StrategyCosts(model, home, threads, model.shipped() ? 256 : generate)) {
                    costs.measure(model.name(), threads, pairs, random, written);
                }
            }
            if (wanted.contains(Part.adapters)) {
                try (var costs = new AdapterCosts(model, home, upstream.folder().getParent(), threads, seconds, prompt)) {
                    costs.measure(pairs, random, written);
                }
            }
            if (wanted.contains(Part.layers)) {
                try (var costs = new LayerCosts(model, threads, seconds)) {
                    costs.measure(layers, pairs, random, written);
                }
                if (layers.contains(LayerCosts.What.routers) && model.shipped() && hasHeldOut("routers are")) {
                    try (var quality = new RouterQuality(model.path(), home.resolve(heldOut).normalize(), threads, seed)) {
                        quality.measure(model.name(), written);
                    }
                }
                if (layers.contains(LayerCosts.What.routers) && model.shipped()) {
                    try (var quality = new RouterQuality(threads, seed)) {
                        quality.measure("a model that adds", written);
                    }
                }
                if (layers.contains(LayerCosts.What.quality) && model.shipped() && hasHeldOut("the quality without blocks is")) {
                    try (var quality = new LayerQuality(model.path(), home.resolve(heldOut).normalize(), threads, seed)) {
                        quality.measure(model.name(), written);
                    }
                }
            }
            if (wanted.contains(Part.quality) && model.shipped() && hasHeldOut("the quality of types is")) {
                try (var quality = new TypeQuality(home.resolve("models/java-tiny-f16.gguf"), home.resolve(heldOut).normalize(), threads)) {
                    quality.measure(written);
                }
            }
            if (wanted.contains(Part.isolated)) {
                IsolationCosts.measure(model, threads, model.shipped() ? 256 : generate, seconds, pairs, random, written);
            }
            if (wanted.contains(Part.startup)) {
                StartUp.measure(home, model, threads, Math.max(pairs, 3), written);
            }
            if (wanted.contains(Part.scaling)) {
                var work = new GenerationWork(GenerationWork.SHORT_PROMPT, model.shipped() ? 64 : 16, 0, 0.8f, 40, 0.95f);
                Scaling.measure(model, work, threads, Math.max(3, pairs / 3), seed, written);
            }
            if (wanted.contains(Part.runtimes) && !model.shipped()) {
                new Runtimes(home, threads).measure(model, generate, Math.max(3, pairs / 3), written);
            }
            if (wanted.contains(Part.asap) && model.shipped()) {
                AsapCosts.measure(model, threads, written);
            }
            if (wanted.contains(Part.lines) && model.shipped() && hasHeldOut("next lines are")) {
                try (var lines = new NextLines(model.path(), home.resolve(heldOut).normalize(), threads, seed)) {
                    lines.measure(model.name(), written);
                }
            }
        }
        if (wanted.contains(Part.runtimes) && models.stream().allMatch("shipped"::equalsIgnoreCase)) {
            written.add(Report.Table.notMeasured("Runtimes for Java", "the shipped model is so small that JVMs would be compared which "
                    + "have not warmed up; `--models` names others."));
        }
        if (wanted.contains(Part.memory)) {
            MemoryUse.measure(home, upstream, BenchModels.resolve(models), threads, written);
        }
        if (wanted.contains(Part.vocabulary)) {
            Vocabularies.measure(written);
        }
        if (wanted.contains(Part.soak)) {
            var soak = home.resolve(Soak.REPORT);
            if (Files.exists(soak.resolve("report.json"))) {
                written.include(soak);
            } else {
                written.add(Report.Table.notMeasured("Soak", "`bench/run soak --minutes 30` has not run here."));
            }
        }
        if (wanted.contains(Part.types)) {
            var only = rivals == null ? null : rivals.stream().map(name -> GgmlType.byName(name).orElseThrow(() ->
                    new IllegalArgumentException("--rivals: '" + name
                            + "' is no type of a tensor; q4_0 is one"))).collect(Collectors.toSet());
            var sparse = BenchModels.resolve(sparseModels);
            TypeCosts.check(sparse, only);
            for (var model : sparse) {
                System.out.printf(Locale.ROOT, "%n%s: %s%n", model.name(), model.shape());
                try (var costs = new TypeCosts(model, home, upstream, seconds, prompt, only)) {
                    costs.measure(threads, pairs, random, written);
                }
            }
        }
        if (wanted.contains(Part.tokens)) {
            add(TokenCosts.measure());
        }
        if (wanted.contains(Part.masks)) {
            add(new MaskCosts(home, home.resolve(masksData).normalize(), upstream).measure(List.of("llama-bpe", "qwen2")));
        }
        System.out.println();
        System.out.println(written.markdown());
        System.out.println(home.resolve(report).resolve("report.html"));
        return written.reached() ? 0 : 3;
    }

    private boolean hasHeldOut(String what) {
        var folder = home.resolve(heldOut).normalize();
        if (!Files.isDirectory(folder)) {
            System.out.println("no " + folder + ": " + what + " skipped; --held-out names a folder of Java files");
            return false;
        }
        return true;
    }

    private void add(List<Report.TokenCost> costs) throws IOException {
        costs.forEach(cost -> System.out.printf(Locale.ROOT, "%-50s %10.2f %s%n", cost.name(), cost.value(), cost.unit()));
        written.add(costs);
    }

    /** One measurement of either side; tokens per second of every quantity that it yields at once. */
    private interface Side {
        double[] measure(int pair) throws Exception;
    }

    /** Measures both sides in turn, the order within a pair drawn at random, so that neither always comes into a warm cache. */
    private List<List<Comparison.Pair>> alternate(String what, Side ours, Side baseline) throws Exception {
        var all = new ArrayList<List<Comparison.Pair>>();
        for (int i = 0; i < pairs; i++) {
            boolean oursFirst = random.nextBoolean();
            double[] mine = oursFirst ? ours.measure(i) : null;
            double[] theirs = baseline.measure(i);
            if (mine == null) {
                mine = ours.measure(i);
            }
            var line = new StringBuilder(String.format(Locale.ROOT, "  %s %d/%d:", what, i + 1, pairs));
            for (int k = 0; k < mine.length; k++) {
                if (i == 0) {
                    all.add(new ArrayList<>());
                }
                var pair = new Comparison.Pair(mine[k], theirs[k], oursFirst);
                all.get(k).add(pair);
                line.append(String.format(Locale.ROOT, "  %.2f / %.2f = %.4f", pair.ours(), pair.baseline(), pair.ratio()));
            }
            System.out.println(line);
        }
        return all;
    }

    private void compareBench(BenchModels.BenchModel model) throws Exception {
        var probe = upstream.bench(model.path(), prompt, generate, threads, 1);
        int repetitions = (int) Math.clamp(Math.ceil(seconds / (prompt / probe.prefill() + generate / probe.decode())), 2, 200);
        var command = new ArrayList<String>();
        command.add(home.resolve("panama-llama").toString());
        command.add("bench");
        command.addAll(Upstream.benchArguments(model.path(), prompt, generate, threads, repetitions));
        command.add("--json");
        var measured = alternate("bench", i -> rates(Upstream.BenchResult.parse(Programs.run(home, command).out())),
                i -> rates(upstream.bench(model.path(), prompt, generate, threads, repetitions)));
        var names = List.of("prefill", "decode");
        var work = List.of(prompt + " tokens, median of " + repetitions, generate + " tokens one by one, median of " + repetitions);
        for (int k = 0; k < names.size(); k++) {
            written.add(new Comparison(names.get(k), model.name(), work.get(k), threads, "panama-llama bench", "llama-bench", 0.99,
                    measured.get(k)));
        }
    }

    private static double[] rates(Upstream.BenchResult result) {
        return new double[] {result.prefill(), result.decode()};
    }

    private void compareGeneration(BenchModels.BenchModel model, EnumSet<Part> wanted) throws Exception {
        var work = new GenerationWork(GenerationWork.JAVA_PROMPT.strip(), 32, 1024, 0.8f, 40, 0.95f);
        var probe = upstream.complete(model.path(), work, threads, seed);
        int tokens = (int) Math.clamp(seconds * probe.tokensPerSecond(), 32, 512);
        var sized = work.withGenerate(tokens);
        if (wanted.contains(Part.generate)) {
            try (var worker = new Worker(model.path(), sized, threads, 1)) {
                if (probe.promptTokens() != worker.promptTokens()) {
                    throw new IOException("the prompt has " + worker.promptTokens() + " tokens here and " + probe.promptTokens()
                            + " in llama-completion: not the same work");
                }
                warmUp(worker);
                var measured = alternate("generate", i -> {
                    double rate = worker.generate(seed + i);
                    return new double[] {rate, rate};
                }, i -> {
                    var completion = upstream.complete(model.path(), sized, threads, seed + i);
                    return new double[] {completion.tokensPerSecond(), completion.tokensPerSecondOverall()};
                });
                var what = String.format(Locale.ROOT, "%d tokens after %d, temperature %.1f, top-k %d, top-p %.2f", tokens,
                        worker.promptTokens(), sized.temperature(), sized.topK(), sized.topP());
                written.add(new Comparison("generation", model.name(), what, threads, "Engine and Sampler",
                        "llama-completion, eval + sampling time", 0.97, measured.get(0)));
                written.add(new Comparison("generation", model.name(), what, threads, "Engine and Sampler",
                        "llama-completion, all its time after the prompt", 0, measured.get(1)));
            }
        }
        if (wanted.contains(Part.constrained)) {
            compareConstrained(model, sized);
        }
        if (wanted.contains(Part.concurrent)) {
            int each = Math.min(tokens, model.shipped() ? 128 : 32);
            compareConcurrent(model, sized.withPrompt(GenerationWork.SHORT_PROMPT).withGenerate(each));
            if (model.shipped()) {      // large models take minutes for sixteen long prompts
                compareConcurrent(model, sized.withGenerate(each));
            }
            limitOfBatching(model, probe.tokensPerSecond());
        }
    }

    private void compareConstrained(BenchModels.BenchModel model, GenerationWork work) throws Exception {
        var grammar = Grammar.jsonSchema(RECORDS);
        try (var worker = new Worker(model.path(), work, threads, 1)) {
            warmUp(worker);
            worker.generateWithin(grammar, seed);
            var measured = alternate("constrained", i -> new double[] {worker.generateWithin(grammar, seed + i)},
                    i -> new double[] {worker.generate(seed + i)});
            written.add(new Comparison("constrained", model.name(), work.generate() + " tokens after " + worker.promptTokens()
                    + ", an array of records", threads, "held to a JSON Schema", "free", model.shipped() ? 0 : 0.98, measured.getFirst()));
        }
    }

    private void compareConcurrent(BenchModels.BenchModel model, GenerationWork each) throws Exception {
        int prompt;
        try (var vocabulary = new Worker(model.path(), each, threads, 1)) {
            prompt = vocabulary.promptTokens();
        }
        // every generation needs its cells: prompt and drawn tokens
        var work = each.withContextSize(roundUp(parallel * (prompt + each.generate())));
        try (var worker = new Worker(model.path(), work, threads, parallel)) {
            long until = System.nanoTime() + (long) (2e9 * seconds);
            do {
                worker.generateConcurrently(parallel, seed);
            } while (System.nanoTime() < until);
            warmUp(worker);
            var measured = alternate("concurrent", i -> new double[] {worker.generateConcurrently(parallel, seed + i)},
                    i -> new double[] {worker.generate(seed + i)});
            written.add(new Comparison("concurrent", model.name(),
                    each.generate() + " tokens each after " + prompt + ", virtual threads", threads, parallel + " generations, total",
                    "1 generation", model.shipped() ? 3 : 0, measured.getFirst()));
        }
    }

    /** What batching alone can give on this machine: rows of one sequence in one batch, without samplers and other sequences. */
    private void limitOfBatching(BenchModels.BenchModel model, double rate) throws Exception {
        int repetitions = (int) Math.clamp(seconds * rate / parallel, 3, 500);
        var lengths = new int[] {1, parallel};
        var pairs = new ArrayList<Comparison.Pair>();
        for (int i = 0; i < this.pairs; i++) {
            var rates = upstream.prompts(model.path(), lengths, threads, repetitions);
            pairs.add(new Comparison.Pair(rates[1], rates[0], false));
        }
        written.add(new Comparison("concurrent", model.name(), "rows of one sequence in a batch, no sampling", threads,
                "llama-bench -p " + parallel, "llama-bench -p 1", 0, pairs));
    }

    private static int roundUp(int cells) {
        return (cells + 255) / 256 * 256;
    }

    /** About as many tokens as a program has drawn after its first minute, so that the JIT is done; a second for slow models. */
    private void warmUp(Worker worker) {
        long until = System.nanoTime() + (long) (2e9 * Math.max(1, seconds));
        do {
            worker.generate(seed);
        } while (System.nanoTime() < until);
    }
}
