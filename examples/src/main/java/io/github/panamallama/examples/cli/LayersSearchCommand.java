package io.github.panamallama.examples.cli;

import io.github.panamallama.layers.BlockInfluence;
import io.github.panamallama.layers.Lac;
import io.github.panamallama.layers.PlanDivergence;
import io.github.panamallama.layers.PlanFile;
import io.github.panamallama.layers.PlanSearch;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.search.Slice;
import io.github.panamallama.runtime.search.Stage;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.OptionalDouble;
import java.util.OptionalLong;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Finds the blocks that a model can do without. */
@Command(name = "search", description = {
        "Find the blocks that a model can do without on a text, for '--layers'.",
        "",
        "What a plan costs is told as the KL divergence of its next-token distribution from the whole model's, in nats per token, on every",
        "fifth part of the text, which the search does not see."})
final class LayersSearchCommand implements Callable<Integer> {
    /** The larger samples of the search, in tokens, where the text has so many. */
    private static final int FIRST_SAMPLE = 2048;
    private static final int LAST_SAMPLE = 16_384;

    /** How blocks are chosen. */
    enum Method {
        /** An evolutionary search for the least divergence (EvoPress). */
        evopress,
        /** Those that turn the residual stream least. */
        influence,
        /** Those that are most often voids (LAC). */
        lac
    }

    @ParentCommand
    private LayersCommand parent;

    @Spec
    private CommandSpec spec;

    @Mixin
    private TextsMixin input;

    @Option(names = "--keep", paramLabel = "SHARE", split = ",", description = {
        "Share of the blocks that stay. Several, for instance 0.5,0.75, find a plan each, which --budget and --token-time",
        "choose among. Default: ${DEFAULT-VALUE}."})
    private double[] keep = {0.75};

    @Option(names = "--method", paramLabel = "NAME", description = "${COMPLETION-CANDIDATES}. Default: ${DEFAULT-VALUE}.")
    private Method method = Method.evopress;

    @Option(names = "--halves",
            description = "evopress: leave out attention and feed-forward parts apart from each other, as many of each.")
    private boolean halves;

    @Option(names = "--generations", paramLabel = "N",
            description = "evopress: 0 is what the paper takes for so many blocks. Default: ${DEFAULT-VALUE}.")
    private int generations;

    @Option(names = "--offspring", paramLabel = "N", description = "evopress: plans tried in each generation. Default: ${DEFAULT-VALUE}.")
    private int offspring = 32;

    @Option(names = "--window", paramLabel = "N", description = "Tokens that are read together. Default: ${DEFAULT-VALUE}.")
    private int window = 512;

    @Option(names = {"-s", "--seed"}, paramLabel = "N", description = "Default: ${DEFAULT-VALUE}.")
    private long seed = 1;

    @Option(names = "-o", paramLabel = "FILE", description = "Write the plan there.")
    private Path out;

    @Option(names = "--json", description = "As JSON.")
    private boolean json;

    @Mixin
    private ModelMixin model;

    @Mixin
    private EngineMixin engine;

    @Override
    public Integer call() throws IOException {
        var main = parent.main();
        for (double share : keep) {
            if (!(share > 0 && share < 1)) {
                throw new ParameterException(spec.commandLine(), "--keep is " + share + "; it must be above 0 and below 1");
            }
        }
        if (window < 2) {
            throw new ParameterException(spec.commandLine(), "--window is " + window + "; it must be at least 2");
        }
        if (halves && method != Method.evopress) {
            throw new ParameterException(spec.commandLine(), "--halves is for evopress");
        }
        var sources = input.find(spec.commandLine());
        if (out != null) {
            Sources.requireWritable(out);
        }
        try (var loaded = model.load(main)) {
            var removals = new TreeSet<Integer>(Comparator.reverseOrder());
            for (double share : keep) {
                int removed = (int) Math.round(loaded.layerCount() * (1 - share));
                if (removed < 1 || removed >= loaded.layerCount()) {
                    throw new ParameterException(spec.commandLine(), "--keep " + share + " leaves out " + removed + " of "
                            + loaded.layerCount() + " blocks; 1 to " + (loaded.layerCount() - 1) + " can go");
                }
                if (!removals.add(removed)) {
                    throw new ParameterException(spec.commandLine(), "--keep " + share + " leaves out " + removed
                            + " blocks, as another share does");
                }
            }
            var windows = windows(loaded, sources);
            var used = used(windows, loaded);
            if (used.size() < windows.size()) {
                main.shell().note(used.size() + " of " + windows.size() + " windows of the text are used, from all over it: the model's own"
                        + " logits on more do not fit into the memory for them");
            }
            var split = Split.of(used);
            if (split.heldOut().isEmpty()) {
                throw new CommandException("the text has " + windows.size() + " windows of " + window + " tokens; at least "
                        + Split.HELD_OUT + " are needed. Give more text, or a smaller --window");
            }
            long tokens = split.learning().stream().mapToLong(text -> text.length).sum();
            var options = engine.options(spec.commandLine()).withMaxSequences(2);
            try (var opened = Engine.open(loaded, engine.givesContextSize() ? options : options.withContextSize(2 * window))) {
                var choices = new ArrayList<Choice>();
                for (int removed : removals) {
                    var choice = choose(opened, removed, split.learning(), split.heldOut(), tokens);
                    choices.add(choice);
                    if (!json) {
                        main.shell().println(String.format(Locale.ROOT, "%s%n%.4f nats per token from the whole model, on held-out text",
                                choice.plan, choice.heldOut));
                    }
                }
                if (out != null) {
                    var text = sources.size() == 1 ? sources.getFirst().getFileName().toString() : sources.size() + " files";
                    PlanFile.of(loaded, choices.stream().map(choice -> new PlanFile.Choice(choice.plan, new PlanFile.Found(method.name(),
                            choice.seed, OptionalDouble.of(choice.heldOut), text, tokens))).toList()).write(out);
                }
                if (json) {
                    var documents = choices.stream().map(choice -> document(choice, tokens)).toList();
                    main.shell().println(Json.write(keep.length == 1 ? documents.getFirst() : documents));
                }
                if (out != null) {
                    main.shell().note("written to " + out + ", for --layers" + (keep.length == 1 ? "" : " with --budget or --token-time"));
                }
            }
        }
        return Main.OK;
    }

    /** As many windows, evenly spread, as there is room for the logits of those that plans are compared on. */
    private List<int[]> used(List<int[]> windows, Model model) {
        long fit = PlanDivergence.DEFAULT_MEMORY / ((long) window * model.vocabulary().size() * Float.BYTES);
        long wanted = method == Method.evopress ? fit * Split.HELD_OUT / (Split.HELD_OUT - 1) : fit * Split.HELD_OUT;
        int count = (int) Math.min(Math.max(wanted, Split.HELD_OUT), windows.size());
        return IntStream.range(0, count).mapToObj(i -> windows.get((int) ((long) i * windows.size() / count))).toList();
    }

    /** Whole windows of all files, each with a beginning of text where the vocabulary has one. */
    private List<int[]> windows(Model model, List<Path> sources) {
        var all = new ArrayList<int[]>();
        for (var source : sources) {
            var tokens = model.vocabulary().tokenize(Sources.read(source), true, false);
            for (int at = 0; at + window <= tokens.length; at += window) {
                var part = Arrays.copyOfRange(tokens, at, at + window);
                if (model.vocabulary().addsBos()) {
                    part[0] = model.vocabulary().bos();
                }
                all.add(part);
            }
        }
        return all;
    }

    private record Choice(LayerPlan plan, int removed, double heldOut, OptionalLong seed, long evaluated) {
    }

    private Choice choose(Engine engine, int removed, List<int[]> calibration, List<int[]> heldOut, long tokens) {
        var other = new PlanDivergence(engine, heldOut);
        if (method == Method.evopress) {
            int last = (int) Math.min(LAST_SAMPLE, tokens);
            int first = Math.min(FIRST_SAMPLE, last);
            var search = PlanSearch.removing(removed).withHalves(halves).withGenerations(generations).withOffspring(offspring)
                    .withSeed(seed).withInitial(2 * offspring, first)
                    .withStages(new Stage(2, first), new Stage(1, last));
            var main = parent.main();
            var steps = new Steps(main.shell(), main.interrupts()::raised, System::nanoTime);
            int total = search.evaluations(other.blocks());
            var done = new int[1];
            var found = search.run(new PlanDivergence(engine, calibration), other,
                    step -> steps.update("without " + removed + " blocks, generation " + step.generation(), Math.min(++done[0], total - 1),
                            total));
            steps.update("search", total, total);
            return new Choice(found.plan(), removed, found.heldOut(), OptionalLong.of(seed), found.tokens());
        }
        var plan = method == Method.influence ? BlockInfluence.measure(engine, calibration).without(removed)
                : Lac.skipping(calibration.stream().flatMap(text -> new Lac(Lac.DEFAULT_ALPHA).trace(engine, text).stream()).toList(),
                        removed);
        return new Choice(plan, removed, other.of(plan, Slice.all(other.lengths())), OptionalLong.empty(), tokens);
    }

    private Object document(Choice choice, long tokens) {
        var document = new LinkedHashMap<String, Object>();
        document.put("method", method.name());
        document.put("plan", choice.plan.toString());
        document.put("removed", choice.removed);
        document.put("held_out_divergence", choice.heldOut);
        document.put("calibration_tokens", tokens);
        document.put("evaluated_tokens", choice.evaluated);
        return document;
    }
}
