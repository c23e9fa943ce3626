package io.github.panamallama.examples.cli;

import io.github.panamallama.Completion;
import io.github.panamallama.GenerationOptions;
import io.github.panamallama.Llama;
import io.github.panamallama.LlamaOptions;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.asap.Asap;
import io.github.panamallama.sampling.asap.Draw;
import io.github.panamallama.sampling.grammar.Grammar;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Continues a prompt: as any text, as a text of a grammar, as many texts with their weights, by any strategy. */
@Command(
        name = "generate",
        description = {
            "Continue a prompt, if asked to with a text that fits a grammar, a JSON Schema, a regular expression or a list.",
            "",
            "Such a text is always whole: before -n tokens are used up it is led to an end. If none fits into -n tokens, that is an error.",
            "",
            "With --asap texts are drawn with the probabilities that the model gives them among all texts of the grammar; plain masking "
                    + "prefers some. Each is printed with its log-probability and its log weight, which tends to the same number for all.",
        })
final class GenerateCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Option(names = {"-p", "--prompt"}, paramLabel = "TEXT", description = "The text to continue; \\n is a line's end.")
    private String prompt;

    @Option(names = {"-f", "--file"}, paramLabel = "FILE", description = "The same, from a file; '-' is standard input.")
    private Path promptFile;

    @Option(names = {"-n", "--n-predict"}, paramLabel = "N", description = "Most tokens to write. Default: ${DEFAULT-VALUE}.")
    private int tokens = 256;

    @Option(names = "--stop", paramLabel = "TEXT", description = "Stop before this text. May be repeated; \\n is a line's end.")
    private List<String> stops = List.of();

    @Mixin
    private GrammarMixin grammars;

    @Option(names = "--asap", description = "Draw texts of the grammar with the model's own probabilities (ASAp).")
    private boolean asap;

    @Option(names = "--draws", paramLabel = "N", description = "With --asap: how many texts. Default: 1.")
    private Integer draws;

    @Option(names = "--parallel", paramLabel = "N", description = "With --asap: texts drawn at the same time in one batch. Default: 1.")
    private Integer parallel;

    @Option(names = "--method", paramLabel = "asap|constrained|rejection",
            description = "With --asap: draw by masking alone, or by trial, to compare.")
    private Asap.Method method;

    @Option(names = "--trie", paramLabel = "FILE",
            description = "With --asap: take over what was learned before, and keep what is learned now.")
    private Path trie;

    @Mixin
    private StrategyMixin strategies;

    @Mixin
    private SelfDraftMixin selfDraft;

    @Option(names = "--json", description = "As JSON, with every token's log-probability, entropy and margin, and timings.")
    private boolean json;

    @Mixin
    private ModelMixin model;

    @Mixin
    private AdapterMixin adapters;

    @Mixin
    private LayersMixin layers;

    @Mixin
    private BudgetMixin budget;

    @Mixin
    private SamplingMixin sampling;

    @Mixin
    private EngineMixin engine;

    @Mixin
    private PromptCacheMixin promptCache;

    @Mixin
    private ControlMixin control;

    @Override
    public Integer call() throws Exception {
        var command = spec.commandLine();
        if ((prompt == null) == (promptFile == null)) {
            throw new ParameterException(command, prompt == null ? "-p TEXT or -f FILE is needed" : "-p and -f exclude each other");
        }
        if (tokens < 1) {
            throw new ParameterException(command, "-n is " + tokens + "; it must be at least 1");
        }
        if (!asap && (draws != null || parallel != null || method != null || trie != null)) {
            throw new ParameterException(command, "--draws, --parallel, --method and --trie are for --asap");
        }
        if (asap && strategies.name() != null) {
            throw new ParameterException(command, "--asap is a way of drawing of its own; leave --strategy out");
        }
        if (asap && selfDraft.asked()) {
            throw new ParameterException(command, "--asap is a way of drawing of its own; leave --self-draft out");
        }
        if (asap && budget.asked()) {
            throw new ParameterException(command, "--asap is a way of drawing of its own; leave --budget and --token-time out");
        }
        if (asap && promptCache.asked()) {
            throw new ParameterException(command, "--asap keeps its trie; leave --prompt-cache out");
        }
        if (asap && !stops.isEmpty()) {
            throw new ParameterException(command, "--asap draws whole texts; leave --stop out");
        }
        if (draws != null && draws < 1 || parallel != null && parallel < 1) {
            throw new ParameterException(command, "--draws and --parallel must be at least 1");
        }
        if (parallel != null && parallel > StrategyMixin.MOST_TEXTS) {
            throw new ParameterException(command, "--parallel is " + parallel + "; it must be at most " + StrategyMixin.MOST_TEXTS);
        }
        if (trie != null && !Files.isDirectory(trie.toAbsolutePath().getParent())) {
            throw new CommandException("--trie: no such folder: " + trie.toAbsolutePath().getParent());
        }
        var sampler = sampling.options(command, asap ? SamplerOptions.greedy().withTemperature(1).withRandomSeed()
                : strategies.otherwise(SamplerOptions.greedy()));
        strategies.check(command, sampler, Set.of());
        selfDraft.check(command, strategies.name());
        if (asap && (sampling.mirostat() || !sampling.shaping().isEmpty())) {
            throw new ParameterException(command, "--asap draws with the model's own probabilities; leave out "
                    + (sampling.mirostat() ? "--mirostat" : String.join(", ", sampling.shaping())));
        }
        if (asap && sampler.temperature() == 0) {
            throw new ParameterException(command, "--asap draws; --temp must be above 0");
        }
        adapters.check(command);
        layers.check(command);
        budget.check(command, layers, strategies.name(), selfDraft);
        var grammar = grammars.grammar(command);
        if (asap && grammar == null) {
            throw new ParameterException(command, "--asap needs --grammar, --json-schema, --regex or --choices");
        }
        var text = prompt != null ? prompt.replace("\\n", "\n")
                : promptFile.toString().equals("-") ? main.shell().readAll() : Sources.read(promptFile);
        if (strategies.contrastsNothing(text)) {
            main.shell().note("--lame-prompt is the prompt itself; there is nothing to contrast with");
        }
        var generation = promptCache.with(GenerationOptions.defaults()).withMaxTokens(tokens).withSampling(sampler)
                .withStop(stops.stream().map(stop -> stop.replace("\\n", "\n")).toList())
                .withGrammar(grammar);
        int sequences = asap ? (parallel == null ? 1 : parallel) + 2
                : Math.max(Math.max(selfDraft.sequences(), budget.sequences()), strategies.sequences());
        var options = LlamaOptions.defaults().withModel(strategies.modelOptions(command, model.path(), model.options(main)))
                .withEngine(layers.options(command, engine.options(command)).withMaxSequences(Math.min(256, sequences)));

        long start = System.nanoTime();
        try (var llama = Llama.load(model.path(), control.with(command, options))) {
            model.report(main, llama.engine());
            generation = generation.withAdapters(adapters.set(command, llama::adapter))
                    .withPlans(budget.asked() ? null : layers.chooser(command, llama.model()));
            long loaded = System.nanoTime() - start;
            if (asap) {
                return draw(llama, text, grammar, generation, loaded);
            }
            // room for the longest text beside the prompt, as for the large model
            try (var ready = strategies.ready(command, llama.model(),
                    engine.options(command).withContextSize(llama.engine().contextSize()));
                    var completion = llama.complete(text, generation
                            .withStrategy(budget.or(selfDraft.or(ready.strategy(), command, llama.model()), command, llama.model(), layers))
                            .withConfidence(json))) {
                main.interrupts().onInterrupt(completion::close);
                if (json) {
                    var written = completion.text();
                    if (!main.interrupts().raised()) {
                        main.shell().println(Json.write(document(llama, completion, written, grammar, generation, loaded)));
                    }
                } else {
                    completion.forEach(main.shell()::print);
                    main.shell().println("");
                }
                return main.interrupts().raised() ? Main.INTERRUPTED : Main.OK;
            }
        }
    }

    private int draw(Llama llama, String text, Grammar grammar, GenerationOptions generation, long loadNanos) {
        var shown = new ArrayList<Map<String, Object>>();
        int count = draws == null ? 1 : draws;
        long start = System.nanoTime();
        try (var sampler = llama.aligned(text, grammar, generation, parallel == null ? 1 : parallel)) {
            if (trie != null && Files.exists(trie)) {
                sampler.load(trie);
            }
            for (int done = 0; done < count && !main.interrupts().raised(); ) {
                var some = sampler.draw(Math.min(parallel == null ? 1 : parallel, count - done), method == null ? Asap.Method.ASAP
                        : method);
                done += some.size();
                for (var draw : some) {
                    if (json) {
                        shown.add(entry(draw));
                    } else {
                        main.shell().println(String.format(Locale.ROOT, "%.4f\t%.4f\t%s", draw.logProbability(), draw.logWeight(),
                                InspectCommand.escape(draw.text())));
                    }
                }
            }
            if (trie != null) {
                sampler.save(trie);
            }
            if (json) {
                var stats = sampler.stats();
                var document = new LinkedHashMap<String, Object>();
                document.put("model", model.path().toString());
                document.put("adapters", AdapterChoice.describe(generation.adapters()));
                document.put("method", (method == null ? Asap.Method.ASAP : method).name().toLowerCase(Locale.ROOT));
                document.put("draws", shown);
                document.put("log_mass_bound", sampler.logMassBound());
                var work = new LinkedHashMap<String, Object>();
                work.put("rows", stats.rows());
                work.put("batches", stats.batches());
                work.put("nodes", stats.nodes());
                work.put("bytes", stats.bytes());
                work.put("dead_ends", stats.deadEnds());
                work.put("load_ms", Json.millis(loadNanos));
                work.put("draw_ms", Json.millis(System.nanoTime() - start));
                document.put("work", work);
                main.shell().println(Json.write(document));
            }
        }
        return main.interrupts().raised() ? Main.INTERRUPTED : Main.OK;
    }

    private static Map<String, Object> entry(Draw draw) {
        var entry = new LinkedHashMap<String, Object>();
        entry.put("text", draw.text());
        entry.put("tokens", draw.tokens().length);
        entry.put("logprob", draw.logProbability());
        entry.put("log_proposal", number(draw.logProposal()));
        entry.put("log_weight", number(draw.logWeight()));
        entry.put("attempts", draw.attempts());
        return entry;
    }

    /** JSON has no NaN and no infinities: null stands for what is not known. */
    private static Double number(double value) {
        return Double.isFinite(value) ? value : null;
    }

    private Map<String, Object> document(
            Llama llama, Completion completion, String text, Grammar grammar, GenerationOptions generation, long loadNanos) {
        var confidence = completion.confidence();
        var document = new LinkedHashMap<String, Object>();
        document.put("model", model.path().toString());
        document.put("adapters", AdapterChoice.describe(generation.adapters()));
        document.put("layers", completion.plan().toString());
        document.put("strategy", selfDraft.asked() ? SelfDraftMixin.NAME : budget.asked() ? BudgetMixin.NAME
                : strategies.name() == null ? "plain" : strategies.name().toString());
        document.put("constrained", grammar != null);
        document.put("text", text);
        document.put("finish_reason", completion.finishReason().toString().toLowerCase(Locale.ROOT));
        var tokens = new ArrayList<Map<String, Object>>();
        for (int i = 0; i < confidence.size(); i++) {
            var entry = new LinkedHashMap<String, Object>();
            entry.put("id", confidence.token(i));
            entry.put("text", CompleteCommand.text(llama.model().vocabulary(), confidence.token(i)));
            entry.put("logprob", number(confidence.logProbability(i)));
            entry.put("entropy", number(confidence.entropy(i)));
            entry.put("margin", number(confidence.margin(i)));
            tokens.add(entry);
        }
        document.put("tokens", tokens);
        var whole = new LinkedHashMap<String, Object>();
        whole.put("logprob", number(confidence.logProbability()));
        whole.put("mean_logprob", number(confidence.meanLogProbability()));
        whole.put("mean_entropy", number(confidence.meanEntropy()));
        whole.put("highest_entropy", number(confidence.highestEntropy()));
        whole.put("lowest_logprob", number(confidence.lowestLogProbability()));
        whole.put("lowest_margin", number(confidence.lowestMargin()));
        document.put("confidence", whole);
        document.put("work", work(completion));
        document.put("timings", CompleteCommand.timings(completion.stats(), loadNanos));
        return document;
    }

    /** What a strategy has cost, and what it counts. */
    static Map<String, Object> work(Completion completion) {
        var done = completion.work();
        var work = new LinkedHashMap<String, Object>();
        work.put("rows", done.rows());
        work.put("batches", done.batches());
        work.put("helper_rows", done.helperRows());
        work.put("helper_batches", done.helperBatches());
        work.put("events", done.events());
        return work;
    }
}
