package io.github.panamallama.examples.cli;

import io.github.panamallama.layers.CompletionTask;
import io.github.panamallama.layers.DrLlmRouter;
import io.github.panamallama.layers.Example;
import io.github.panamallama.layers.FirstRouter;
import io.github.panamallama.layers.InfluenceLabels;
import io.github.panamallama.layers.LabelSearch;
import io.github.panamallama.layers.Prefill;
import io.github.panamallama.layers.Router;
import io.github.panamallama.layers.RouterFile;
import io.github.panamallama.runtime.Engine;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Trains routers, which choose the blocks that run by the prompt. */
@Command(name = "train-router", description = {
        "Train routers, which choose by the prompt the blocks that run, for '--layers' of generate, complete and chat.",
        "",
        "first: keeps the blocks that turn the residual stream most on prompts like this one (FiRST). drllm: learns from a search for the",
        "shortest plan under which the model still goes on as the text does (Dr.LLM)."})
final class LayersTrainRouterCommand implements Callable<Integer> {
    /** Share of examples whose plan repairs an answer; the method's source has it for code. */
    private static final double REPAIRS = 0.3;

    /** Which routers. */
    enum Kind { first, drllm }

    @ParentCommand
    private LayersCommand parent;

    @Spec
    private CommandSpec spec;

    @Mixin
    private TextsMixin input;

    @Option(names = "--kind", paramLabel = "NAME", description = "${COMPLETION-CANDIDATES}. Default: ${DEFAULT-VALUE}.")
    private Kind kind = Kind.first;

    @Option(names = "--keep", paramLabel = "SHARE",
            description = "first: share of the inner blocks that stay, over all prompts. Default: ${DEFAULT-VALUE}.")
    private double keep = 0.75;

    @Option(names = "--prefill", paramLabel = "NAME",
            description = "first: what decisions mean for the prompt itself, ${COMPLETION-CANDIDATES}. Default: ${DEFAULT-VALUE}.")
    private Prefill prefill = Prefill.SKIP;

    @Option(names = "--answer", paramLabel = "N", description = "drllm: tokens of an answer. Default: ${DEFAULT-VALUE}.")
    private int answer = 2;

    @Option(names = "--simulations", paramLabel = "N", description = "drllm: plans tried for each prompt. Default: ${DEFAULT-VALUE}.")
    private int simulations = 50;

    @Option(names = "--prompts", paramLabel = "N", description = "Most prompts that are taken from the text. Default: ${DEFAULT-VALUE}.")
    private int prompts = 200;

    @Option(names = "--window", paramLabel = "N", description = "Tokens of a prompt. Default: ${DEFAULT-VALUE}.")
    private int window = 128;

    @Option(names = {"-s", "--seed"}, paramLabel = "N",
            description = "Of the choice of prompts and of the training. Default: ${DEFAULT-VALUE}.")
    private long seed = 1;

    @Option(names = "-o", paramLabel = "FILE", required = true, description = "Where the routers go.")
    private Path out;

    @Option(names = "--json", description = "As JSON.")
    private boolean json;

    @Mixin
    private ModelMixin model;

    @Mixin
    private EngineMixin engine;

    @Override
    public Integer call() throws IOException {
        positive("--window", window, 2);
        positive("--prompts", prompts, 2 * Split.HELD_OUT);
        positive("--answer", answer, 1);
        positive("--simulations", simulations, 1);
        if (!(keep > 0 && keep < 1)) {
            throw new ParameterException(spec.commandLine(), "--keep is " + keep + "; it must be above 0 and below 1");
        }
        var sources = input.find(spec.commandLine());
        Sources.requireWritable(out);
        var main = parent.main();
        try (var loaded = model.load(main)) {
            int length = window + (kind == Kind.drllm ? answer : 0);
            var texts = new ArrayList<int[]>();
            for (var source : sources) {
                var tokens = loaded.vocabulary().tokenize(Sources.read(source), true, false);
                for (int at = 0; at + length <= tokens.length; at += length) {
                    texts.add(Arrays.copyOfRange(tokens, at, at + length));
                }
            }
            if (texts.size() < 2 * Split.HELD_OUT) {
                throw new CommandException("the text has " + texts.size() + " stretches of " + length + " tokens; at least "
                        + 2 * Split.HELD_OUT + " are needed. Give more text, or a smaller --window");
            }
            var chosen = draw(texts);
            var options = engine.options(spec.commandLine()).withContextSize(Math.max(512, 4 * length)).withMaxSequences(4)
                    .withSpareLayers(kind == Kind.drllm ? Math.min(loaded.layerCount(), LabelSearch.defaults().spareLayers()) : 0);
            try (var opened = Engine.open(loaded, options)) {
                var examples = examples(opened, chosen);
                var split = Split.of(examples);
                if (split.heldOut().isEmpty()) {
                    throw new CommandException("a plan was found for " + examples.size() + " of " + chosen.size()
                            + " prompts; more prompts or more simulations are needed");
                }
                var router = kind == Kind.first
                        ? FirstRouter.train(opened, split.learning(), FirstRouter.Options.defaults().withPrefill(prefill))
                        : DrLlmRouter.train(opened, split.learning(), DrLlmRouter.Options.defaults().withSeed(seed));
                RouterFile.write(out, router, loaded);
                report(opened, router, split);
                main.shell().note("written to " + out + ", for --layers");
            }
        }
        return Main.OK;
    }

    private void positive(String option, int value, int least) {
        if (value < least) {
            throw new ParameterException(spec.commandLine(), option + " is " + value + "; it must be at least " + least);
        }
    }

    private List<int[]> draw(List<int[]> texts) {
        var random = new SplittableRandom(seed);
        for (int i = texts.size() - 1; i > 0; i--) {
            Collections.swap(texts, i, random.nextInt(i + 1));
        }
        return texts.subList(0, Math.min(prompts, texts.size()));
    }

    private List<Example> examples(Engine engine, List<int[]> texts) {
        if (kind == Kind.first) {
            return InfluenceLabels.of(engine, texts, keep);
        }
        var vocabulary = engine.model().vocabulary();
        var questions = new ArrayList<LabelSearch.Question>();
        for (var text : texts) {
            var prompt = Arrays.copyOf(text, window);
            var truth = vocabulary.detokenize(Arrays.copyOfRange(text, window, text.length));
            questions.add(new LabelSearch.Question(prompt, new CompletionTask(engine, prompt, answer, "", truth::equals)));
        }
        return LabelSearch.defaults().withSimulations(simulations).withSpareLayers(engine.options().spareLayers()).withSeed(seed)
                .examples(engine.model().layerCount(), questions, REPAIRS);
    }

    private void report(Engine engine, Router router, Split<Example> split) {
        var heldOut = split.heldOut();
        int blocks = engine.model().layerCount();
        var agreement = router.agreement(engine, heldOut);
        double runs = 0;
        double labels = 0;
        long usual = 0;
        for (int block = 0; block < blocks; block++) {
            var counts = new int[3];
            for (var example : split.learning()) {
                counts[Math.min(2, example.plan().runs(block))]++;
            }
            int most = counts[1] >= counts[0] && counts[1] >= counts[2] ? 1 : counts[0] >= counts[2] ? 0 : 2;
            for (var example : heldOut) {
                usual += Math.min(2, example.plan().runs(block)) == most ? 1 : 0;
            }
        }
        for (var example : heldOut) {
            labels += example.plan().cost() / heldOut.size();
            runs += router.plan(engine, example.prompt()).cost() / heldOut.size();
        }
        double always = (double) usual / blocks / heldOut.size();
        if (json) {
            var document = new LinkedHashMap<String, Object>();
            document.put("kind", kind.name());
            document.put("examples", split.learning().size());
            document.put("held_out", heldOut.size());
            document.put("agreement", agreement.accuracy());
            document.put("agreement_of_the_usual", always);
            document.put("blocks_chosen", runs);
            document.put("blocks_of_labels", labels);
            document.put("counts", agreement.counts());
            parent.main().shell().println(Json.write(document));
        } else {
            parent.main().shell().println(String.format(Locale.ROOT,
                    "%d examples; on %d held-out prompts %.1f %% of the decisions are the labels' (always the usual one: %.1f %%),%n"
                            + "%.2f of %d blocks run (labels: %.2f)",
                    split.learning().size(), heldOut.size(), 100 * agreement.accuracy(), 100 * always, runs, blocks, labels));
        }
    }
}
