package io.github.panamallama.examples.cli;

import io.github.panamallama.Completion;
import io.github.panamallama.GenerationOptions;
import io.github.panamallama.Llama;
import io.github.panamallama.LlamaOptions;
import io.github.panamallama.runtime.Vocabulary;
import io.github.panamallama.sampling.LogProbs;
import io.github.panamallama.sampling.SamplerOptions;
import java.nio.charset.StandardCharsets;
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
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Completes code at a place in a file, or continues a text. */
@Command(
        name = "complete",
        description = {
            "Complete code at a place in a file: print what could stand there.",
            "",
            "The model sees what comes before and after the place, as much of both as fits its context. At the end of a file, and with "
                    + "models that cannot fill in, it continues what comes before.",
        })
final class CompleteCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Parameters(paramLabel = "FILE[:LINE[:COL]]", arity = "0..1",
            description = "The place: before column COL of line LINE, the end of the line without COL, the end of the file without LINE. Both count from 1.")
    private String place;

    @Option(names = "--stdin", description = "Continue the text on standard input instead.")
    private boolean stdin;

    @Option(names = {"-n", "--n-predict"}, paramLabel = "N", description = "Most tokens to write. Default: ${DEFAULT-VALUE}.")
    private int tokens = 64;

    @Option(names = "--stop", paramLabel = "TEXT", description = "Stop before this text. May be repeated; \\n is a line's end.")
    private List<String> stops = List.of();

    @Option(names = "--no-fim", description = "Continue what comes before the place and ignore what follows.")
    private boolean continueOnly;

    @Option(names = "--json", description = "As JSON, with timings and log-probabilities.")
    private boolean json;

    @Option(names = "--top-logprobs", paramLabel = "N", description = "With --json: also the N likeliest tokens at each position.")
    private int top;

    @Mixin
    private StrategyMixin strategies;

    @Mixin
    private SelfDraftMixin selfDraft;

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
        if (stdin == (place != null)) {
            throw new ParameterException(spec.commandLine(), stdin ? "--stdin and a FILE exclude each other" : "FILE or --stdin is needed");
        }
        if (tokens < 1) {
            throw new ParameterException(spec.commandLine(), "-n is " + tokens + "; it must be at least 1");
        }
        if (top < 0) {
            throw new ParameterException(spec.commandLine(), "--top-logprobs is " + top + "; it must be at least 0");
        }
        if (top > 0 && (strategies.name() != null || selfDraft.asked() || budget.asked())) {
            throw new ParameterException(spec.commandLine(),
                    "strategies report the log-probability of the chosen token alone; leave --top-logprobs out");
        }
        var sampler = sampling.options(spec.commandLine(), strategies.otherwise(SamplerOptions.greedy()));
        strategies.check(spec.commandLine(), sampler, Set.of(StrategyMixin.Name.USCD));
        selfDraft.check(spec.commandLine(), strategies.name());
        adapters.check(spec.commandLine());
        layers.check(spec.commandLine());
        budget.check(spec.commandLine(), layers, strategies.name(), selfDraft);
        var generation = promptCache.with(GenerationOptions.defaults())
                .withMaxTokens(tokens)
                .withSampling(sampler)
                .withStop(stops.stream().map(stop -> stop.replace("\\n", "\n")).toList());
        if (json) {
            generation = generation.withLogProbs(top);
        }
        var options = LlamaOptions.defaults()
                .withModel(strategies.modelOptions(spec.commandLine(), model.path(), model.options(main)))
                .withEngine(layers.options(spec.commandLine(), engine.options(spec.commandLine()))
                        .withMaxSequences(Math.min(256, Math.max(Math.max(selfDraft.sequences(), budget.sequences()),
                                strategies.sequences()))));

        var cut = stdin ? new Place.Cut(main.shell().readAll(), "") : cut();
        long start = System.nanoTime();
        try (var llama = Llama.load(model.path(), control.with(spec.commandLine(), options))) {
            model.report(main, llama.engine());
            generation = generation.withAdapters(adapters.set(spec.commandLine(), llama::adapter))
                    .withPlans(budget.asked() ? null : layers.chooser(spec.commandLine(), llama.model()));
            long loaded = System.nanoTime() - start;
            boolean infill = !cut.suffix().isBlank() && !continueOnly;
            if (infill && !llama.canInfill()) {
                main.shell().note("this model has no tokens for filling in; what follows the place is not seen");
                infill = false;
            }
            try (var ready = strategies.ready(spec.commandLine(), llama.model(),
                    engine.options(spec.commandLine()).withContextSize(llama.engine().contextSize()));
                    var completion = completion(llama, cut, infill,
                            generation.withStrategy(budget.or(selfDraft.or(ready.strategy(), spec.commandLine(), llama.model()),
                                    spec.commandLine(), llama.model(), layers)))) {
                main.interrupts().onInterrupt(completion::close);
                if (json) {
                    var text = completion.text();
                    if (!main.interrupts().raised()) {
                        main.shell().println(Json.write(document(llama, completion, text, infill, generation, loaded)));
                    }
                } else {
                    completion.forEach(main.shell()::print);
                    main.shell().println("");
                }
                return main.interrupts().raised() ? Main.INTERRUPTED : Main.OK;
            }
        }
    }

    private Completion completion(Llama llama, Place.Cut cut, boolean infill, GenerationOptions generation) {
        return infill ? llama.infill(cut.prefix(), cut.suffix(), generation)
                : llama.complete(cut.prefix(), generation.withTruncation(!stdin));
    }

    private Place.Cut cut() {
        try {
            var parsed = Place.parse(place);
            return parsed.cut(Sources.read(parsed.file()));
        } catch (IllegalArgumentException e) {
            throw new ParameterException(spec.commandLine(), e.getMessage());
        }
    }

    private Map<String, Object> document(
            Llama llama, Completion completion, String text, boolean infill, GenerationOptions generation, long loadNanos) {
        var stats = completion.stats();
        var document = new LinkedHashMap<String, Object>();
        document.put("model", model.path().toString());
        document.put("adapters", AdapterChoice.describe(generation.adapters()));
        document.put("layers", completion.plan().toString());
        document.put("mode", infill ? "infill" : "continue");
        document.put("text", text);
        document.put("finish_reason", completion.finishReason().toString().toLowerCase(Locale.ROOT));
        document.put("prompt_truncated", stats.truncated());
        document.put("tokens", completion.logProbs().stream().map(at -> token(llama.model().vocabulary(), at)).toList());
        if (completion.work() != null) {
            document.put("strategy", selfDraft.asked() ? SelfDraftMixin.NAME : budget.asked() ? BudgetMixin.NAME
                    : strategies.name().toString());
            document.put("work", GenerateCommand.work(completion));
        }
        document.put("timings", timings(stats, loadNanos));
        return document;
    }

    private static Map<String, Object> token(Vocabulary vocabulary, LogProbs at) {
        var entry = new LinkedHashMap<String, Object>();
        entry.put("id", at.chosen().token());
        entry.put("text", text(vocabulary, at.chosen().token()));
        double logProbability = at.chosen().logProbability();
        entry.put("logprob", Double.isFinite(logProbability) ? logProbability : null);
        if (!at.top().isEmpty()) {
            var alternatives = new ArrayList<Map<String, Object>>();
            for (var other : at.top()) {
                var alternative = new LinkedHashMap<String, Object>();
                alternative.put("id", other.token());
                alternative.put("text", text(vocabulary, other.token()));
                alternative.put("logprob", other.logProbability());
                alternatives.add(alternative);
            }
            entry.put("top", alternatives);
        }
        return entry;
    }

    static String text(Vocabulary vocabulary, int token) {
        return new String(vocabulary.bytes(token), StandardCharsets.UTF_8);
    }

    /** The names of llama.cpp's server; {@code load_ms} is ours. */
    static Map<String, Object> timings(Completion.Stats stats, long loadNanos) {
        var timings = new LinkedHashMap<String, Object>();
        timings.put("load_ms", Json.millis(loadNanos));
        timings.put("prompt_n", stats.promptTokens());
        timings.put("prompt_ms", Json.millis(stats.promptNanos()));
        timings.put("prompt_per_second", Json.perSecond(stats.promptTokens(), stats.promptNanos()));
        timings.put("predicted_n", stats.generatedTokens());
        timings.put("predicted_ms", Json.millis(stats.generationNanos()));
        timings.put("predicted_per_second", Json.perSecond(stats.generatedTokens(), stats.generationNanos()));
        return timings;
    }
}
