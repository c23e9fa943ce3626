package io.github.panamallama.examples.cli;

import io.github.panamallama.ControlFiles;
import io.github.panamallama.runtime.ControlVector;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.sampling.strategy.Plain;
import io.github.panamallama.sampling.strategy.PlanDrafts;
import io.github.panamallama.sampling.strategy.Strategy;
import io.github.panamallama.sampling.strategy.StrategyOptions;
import io.github.panamallama.sampling.strategy.Work;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/**
 * Tokens per second, measured as llama.cpp's {@code llama-bench} does (tools/llama-bench/llama-bench.cpp): random tokens; a prompt
 * test evaluates them in batches, a generation test one at a time without sampling; each in a context of its own that is just as
 * large as needed; an unmeasured run first, repeated where it is short; an empty cache before every repetition. The last token's logits
 * are copied to Java each time, as any program that samples has to.
 *
 * <p>Before that the JVM gets the time to compile this project's own code, as it has in a program that has run for a while; a program's
 * first seconds are slower by about a per cent on a large model.
 */
@Command(name = "bench", description = "Tokens per second for prompts and for generation, as llama.cpp's llama-bench measures them.")
final class BenchCommand implements Callable<Integer> {
    /** llama-bench's batch; the ubatch is the engine's default, 512, there and here. */
    private static final int BATCH = 2048;

    /** A small model's warm-up run is over before the JVM has compiled anything: it is repeated for so long. */
    private static final long WARM_UP_NANOS = 500_000_000;

    /** Tokens of a run that is there to be compiled, how many such runs there are, and how long they may take. */
    private static final int COMPILED_RUN = 64;
    private static final int COMPILED_RUNS = 500;
    private static final long COMPILE_NANOS = 3_000_000_000L;

    /** What is continued where drafts are measured and no other text is given. */
    private static final String CODE = """
            package org.example;

            import java.util.ArrayList;
            import java.util.List;

            /** A list of names, in the order in which they came. */
            public class Names {
                private final List<String> names = new ArrayList<>();

                /** Adds a name. */
                public void add(String name) {
            """;

    /** The tokens do not matter to the time; they are the same in every run. */
    private static final long SEED = 1;

    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Mixin
    private ModelMixin model;

    @Mixin
    private EngineMixin engine;

    @Mixin
    private LayersMixin layers;

    @Mixin
    private ControlMixin control;

    @Option(names = {"-p", "--n-prompt"}, paramLabel = "N", split = ",",
            description = "Prompt lengths; 0 for no prompt test. Default: ${DEFAULT-VALUE}.")
    private int[] prompts = {512};

    @Option(names = {"-n", "--n-gen"}, paramLabel = "N", split = ",",
            description = "Generated tokens; 0 for no generation test. Default: ${DEFAULT-VALUE}.")
    private int[] generations = {128};

    @Option(names = {"-d", "--n-depth"}, paramLabel = "N",
            description = "Tokens in the cache before each measurement. Default: ${DEFAULT-VALUE}.")
    private int depth;

    @Option(names = {"-r", "--repetitions"}, paramLabel = "N", description = "Measurements of each test. Default: ${DEFAULT-VALUE}.")
    private int repetitions = 5;

    @Mixin
    private SelfDraftMixin selfDraft;

    @Option(names = {"-f", "--file"}, paramLabel = "FILE",
            description = "With --self-draft: the text that is continued; drafts gain more on some than on others. Some lines of Java "
                    + "without it.")
    private Path file;

    @Option(names = "--no-warmup", description = "Leave out the unmeasured runs, of the JVM and of the model.")
    private boolean cold;

    @Option(names = "--json", description = "As JSON, with llama-bench's field names.")
    private boolean json;

    /** Null for none. */
    private ControlFiles controls;

    /** One test: so many prompt tokens, or so many generated ones. */
    private record Test(int prompt, int generated) {
        int tokens() {
            return prompt + generated;
        }

        String label(int depth) {
            return (prompt > 0 ? "pp" + prompt : "tg" + generated) + (depth > 0 ? " @ d" + depth : "");
        }
    }

    @Override
    public Integer call() {
        var tests = new ArrayList<Test>();
        Arrays.stream(prompts).filter(n -> n != 0).forEach(n -> tests.add(new Test(positive("-p", n), 0)));
        Arrays.stream(generations).filter(n -> n != 0).forEach(n -> tests.add(new Test(0, positive("-n", n))));
        positive("-r", repetitions);
        if (depth < 0) {
            throw new ParameterException(spec.commandLine(), "-d is " + depth + "; it must be 0 or more");
        }
        if (tests.isEmpty()) {
            throw new ParameterException(spec.commandLine(), "nothing to measure: -p and -n are both 0");
        }
        layers.checkPlan(spec.commandLine());
        controls = control.files(spec.commandLine());
        if (file != null && !selfDraft.asked()) {
            throw new ParameterException(spec.commandLine(), "-f is for --self-draft; other tests take random tokens");
        }
        if (selfDraft.asked() && Arrays.stream(generations).allMatch(n -> n == 0)) {
            throw new ParameterException(spec.commandLine(), "--self-draft is measured while -n tokens are generated, and -n is 0");
        }
        var text = !selfDraft.asked() ? null : file == null ? CODE : Sources.read(file);
        var options = layers.options(spec.commandLine(), engine.options(spec.commandLine(), EngineOptions.defaults().withBatchSize(BATCH)))
                .withMaxSequences(1);
        if (!cold) {
            compileFirst(options.withContextSize(COMPILED_RUN).withBatchSize(COMPILED_RUN));
        }
        int longest = depth + tests.stream().mapToInt(Test::tokens).max().getAsInt();
        try (var loaded = model.load(main, options.withContextSize(longest))) {
            var plan = layers.plan(spec.commandLine(), loaded);
            var drafts = selfDraft.asked() ? PlanDrafts.of(selfDraft.plan(spec.commandLine(), loaded)) : null;
            var documents = new ArrayList<Map<String, Object>>();
            for (var test : tests) {
                try (var opened = Engine.open(loaded, options.withContextSize(depth + test.tokens()), vector(loaded))) {
                    var samples = measure(opened, plan, test);
                    var document = document(loaded, opened, plan, test, samples);
                    if (!json) {
                        if (documents.isEmpty()) {
                            main.shell().println(TABLE_HEAD);   // not over an error
                        }
                        main.shell().println(row(document, test.label(depth)));
                    }
                    documents.add(document);
                }
            }
            for (int n : selfDraft.asked() ? generations : new int[0]) {
                if (n > 0) {
                    documents.add(drafted(loaded, options, plan, drafts, text, n));
                }
            }
            if (json) {
                main.shell().println(Json.write(documents));
            }
        }
        return Main.OK;
    }

    /**
     * Lets the JVM compile what stands between a program and the library, on a model of next to no size. A program that runs for
     * some minutes has all of it compiled; in a test of a few hundred tokens the interpreter and the compiler would take a per cent.
     */
    private void compileFirst(EngineOptions options) {
        try {
            var file = Files.createTempFile("panama-llama-bench", ".gguf");
            try {
                RandomModel.tiny(RandomModel.Architecture.LLAMA).write(file);
                try (var tiny = Model.load(file, ModelOptions.defaults()); var engine = Engine.open(tiny, options)) {
                    var row = new Row(tiny.vocabulary().size());
                    var random = new SplittableRandom(SEED);
                    long start = System.nanoTime();
                    for (int i = 0; i < COMPILED_RUNS && System.nanoTime() - start < COMPILE_NANOS && !main.interrupts().raised(); i++) {
                        run(engine, null, new Test(COMPILED_RUN, 0), 0, random, row);
                        run(engine, null, new Test(0, COMPILED_RUN), 0, random, row);
                    }
                }
            } finally {
                Files.deleteIfExists(file);
            }
        } catch (IOException e) {
            throw new UncheckedIOException("no temporary file for the warm-up", e);
        }
    }

    private ControlVector vector(Model model) {
        return ControlMixin.vector(spec.commandLine(), controls, model);
    }

    private int positive(String option, int value) {
        if (value < 1) {
            throw new ParameterException(spec.commandLine(), option + " is " + value + "; it must be at least 1");
        }
        return value;
    }

    private long[] measure(Engine engine, LayerPlan plan, Test test) {
        var vocabulary = engine.model().vocabulary();
        var row = new Row(vocabulary.size());
        var random = new SplittableRandom(SEED);
        if (!cold) {
            long start = System.nanoTime();
            do {
                run(engine, plan, test.prompt > 0 ? test : new Test(0, 1), 0, random, row);
            } while (System.nanoTime() - start < WARM_UP_NANOS && !main.interrupts().raised());
        }
        var samples = new long[repetitions];
        for (int i = 0; i < repetitions; i++) {
            samples[i] = run(engine, plan, test, depth, random, row);
        }
        return samples;
    }

    /** Nanoseconds of one run in an empty cache. */
    private long run(Engine engine, LayerPlan plan, Test test, int depth, SplittableRandom random, Row row) {
        var vocabulary = engine.model().vocabulary();
        var tokens = random.ints(depth + test.tokens(), 0, vocabulary.size()).toArray();
        if (vocabulary.addsBos()) {
            tokens[0] = vocabulary.bos();
            tokens[depth] = vocabulary.bos();
        }
        try (var sequence = plan == null ? engine.newSequence() : engine.newSequence(plan)) {
            main.interrupts().onInterrupt(sequence::cancel);
            if (depth > 0) {
                sequence.append(Arrays.copyOf(tokens, depth), row);
            }
            var work = Arrays.copyOfRange(tokens, depth, tokens.length);
            long start = System.nanoTime();
            if (test.prompt > 0) {
                sequence.append(work, row);
            } else {
                for (int token : work) {
                    sequence.append(token, row);
                }
            }
            return System.nanoTime() - start;
        } finally {
            main.interrupts().onInterrupt(() -> { });
        }
    }

    /** One text written greedily, with drafts and without in turn. */
    private Map<String, Object> drafted(Model model, EngineOptions options, LayerPlan plan, PlanDrafts drafts, String text,
            int generated) {
        int[] prompt = model.vocabulary().tokenize(text, true, false);
        try (var engine = Engine.open(model, options.withMaxSequences(2)
                .withContextSize(prompt.length + generated + drafts.most() + 1), vector(model))) {
            if (!cold) {
                write(engine, plan, new Plain(), prompt, generated);
                write(engine, plan, drafts, prompt, generated);
            }
            var greedy = new double[repetitions];
            var ratios = new double[repetitions];
            var samples = new long[repetitions];
            Written with = null;
            for (int i = 0; i < repetitions; i++) {
                var without = write(engine, plan, new Plain(), prompt, generated);
                with = write(engine, plan, drafts, prompt, generated);
                greedy[i] = without.rate();
                ratios[i] = with.rate() / without.rate();
                samples[i] = with.nanos;
            }
            var document = document(model, engine, plan, new Test(0, with.tokens), samples);
            long drafted = with.work.count("drafted");
            double acceptance = drafted == 0 ? 0 : with.work.count("accepted") / (double) drafted;
            var draft = new LinkedHashMap<String, Object>();
            draft.put("layers", drafts.plan().toString());
            draft.put("greedy_ts", mean(greedy));
            draft.put("speed_up", mean(ratios));
            draft.put("passes", with.work.count("passes"));
            draft.put("drafted", drafted);
            draft.put("acceptance", acceptance);
            document.put("self_draft", draft);
            if (!json) {
                main.shell().println(row(document, "sd" + with.tokens));
                main.shell().println(String.format(Locale.ROOT, "%ndrafts by blocks %s: %.3f times the %.2f t/s without; %.1f %% of %d "
                        + "drafted tokens were accepted", drafts.plan(), mean(ratios), mean(greedy), 100 * acceptance, drafted));
            }
            return document;
        }
    }

    /** Tokens behind the first, whose time is that of the prompt. */
    private record Written(int tokens, long nanos, Work work) {
        double rate() {
            return 1e9 * tokens / nanos;
        }
    }

    private Written write(Engine engine, LayerPlan plan, Strategy strategy, int[] prompt, int generated) {
        try (var sequence = plan == null ? engine.newSequence() : engine.newSequence(plan); var decoding = strategy.start(sequence, prompt,
                StrategyOptions.defaults().withMaxTokens(generated + 1).withConfidence(false))) {
            main.interrupts().onInterrupt(decoding::cancel);
            decoding.advance();
            long start = System.nanoTime();
            while (decoding.advance()) {
            }
            long nanos = System.nanoTime() - start;
            int tokens = decoding.tokens().length - 1;
            if (tokens < 1) {
                throw new CommandException("the model ends the text at once, so that there is nothing to draft; give another one with -f");
            }
            return new Written(tokens, nanos, decoding.work());
        } finally {
            main.interrupts().onInterrupt(() -> { });
        }
    }

    private Map<String, Object> document(Model model, Engine engine, LayerPlan plan, Test test, long[] samples) {
        var options = engine.options();
        var speeds = Arrays.stream(samples).mapToDouble(nanos -> 1e9 * test.tokens() / nanos).toArray();
        var document = new LinkedHashMap<String, Object>();
        document.put("build_commit", "v" + Version.llamaCpp());
        document.put("build_number", 0);
        document.put("cpu_info", cpu());
        var devices = String.join(", ", model.deviceLayers().keySet());
        document.put("gpu_info", devices);
        document.put("backends", devices.isEmpty() ? "CPU" : devices);
        document.put("model_filename", this.model.path().toString());
        document.put("model_type", model.description());
        document.put("model_size", model.sizeBytes());
        document.put("model_n_params", model.parameterCount());
        document.put("n_batch", options.batchSize());
        document.put("n_ubatch", options.ubatchSize());
        document.put("n_threads", test.prompt > 0 ? options.batchThreads() : options.threads());
        document.put("cpu_mask", "0x0");
        document.put("cpu_strict", false);
        document.put("poll", options.polling());
        document.put("type_k", options.keyType().label());
        document.put("type_v", options.valueType().label());
        document.put("n_gpu_layers", model.options().gpuLayers());
        document.put("flash_attn", switch (options.flashAttention()) {
            case AUTO -> -1;
            case ON -> 1;
            case OFF -> 0;
        });
        document.put("load_mode", this.model.mmap() ? "mmap" : "none");
        document.put("embeddings", false);
        document.put("layers", LayersMixin.describe(plan));
        document.put("control_vectors", ControlMixin.describe(controls));
        document.put("n_prompt", test.prompt);
        document.put("n_gen", test.generated);
        document.put("n_depth", depth);
        document.put("test_time", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString());
        document.put("avg_ns", (long) mean(Arrays.stream(samples).asDoubleStream().toArray()));
        document.put("stddev_ns", (long) deviation(Arrays.stream(samples).asDoubleStream().toArray()));
        document.put("avg_ts", mean(speeds));
        document.put("stddev_ts", deviation(speeds));
        document.put("samples_ns", samples);
        document.put("samples_ts", speeds);
        return document;
    }

    private static final String TABLE_HEAD = """
            | model                          |       size |     params | backend    | threads |            test |                  t/s |
            | ------------------------------ | ---------: | ---------: | ---------- | ------: | --------------: | -------------------: |""";

    private String row(Map<String, Object> document, String label) {
        return String.format(Locale.ROOT, "| %-30s | %10s | %10s | %-10s | %7d | %15s | %20s |", document.get("model_type"),
                Units.bytes((Long) document.get("model_size")), Units.count((Long) document.get("model_n_params")),
                        document.get("backends"),
                (Integer) document.get("n_threads"), label,
                String.format(Locale.ROOT, "%.2f ± %.2f", (Double) document.get("avg_ts"), (Double) document.get("stddev_ts")));
    }

    private static double mean(double[] values) {
        return Arrays.stream(values).average().orElse(0);
    }

    /** Of a sample: over n - 1. */
    private static double deviation(double[] values) {
        if (values.length < 2) {
            return 0;
        }
        double mean = mean(values);
        return Math.sqrt(Arrays.stream(values).map(v -> (v - mean) * (v - mean)).sum() / (values.length - 1));
    }

    /** The processor's name as the system tells it. */
    private static String cpu() {
        try (var lines = Files.lines(Path.of("/proc/cpuinfo"))) {
            return lines.filter(line -> line.startsWith("model name")).findFirst().map(line -> line.substring(line.indexOf(':')
                    + 1).strip())
                    .orElse(System.getProperty("os.arch"));
        } catch (IOException | RuntimeException e) {
            return System.getProperty("os.arch");
        }
    }
}
