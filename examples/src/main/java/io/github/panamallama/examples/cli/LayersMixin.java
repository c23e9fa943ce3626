package io.github.panamallama.examples.cli;

import io.github.panamallama.PlanChooser;
import io.github.panamallama.layers.PlanFile;
import io.github.panamallama.layers.RouterFile;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import java.nio.file.Path;
import java.util.List;
import picocli.CommandLine;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/** Which blocks of the model run. */
final class LayersMixin {
    /** How names of files of plans end. */
    private static final String PLAN = ".json";
    /** More blocks than any model has: what a plan repeats can be counted before the model is known. */
    private static final int ANY_MODEL = 1 << 12;

    @Option(names = "--layers", paramLabel = "PLAN|FILE", description = {
            "Which blocks of the model run, the others are left out: 0-3,5,7x2 runs blocks 0 to 3 and 5 once and block 7 twice;",
            "4:attn and 4:ffn run a part of block 4. Or a file: a plan (.json) that 'layers search' wrote,",
            "or routers that 'layers train-router' wrote, which choose by the prompt."})
    private String text;

    @Option(names = "--spare-layers", paramLabel = "N", description = {
            "Room in the cache for so many repetitions of blocks, where routers choose them; a PLAN gets what it needs."})
    private int spare;

    /** Refuses what can be seen without the model, before that is loaded. */
    void check(CommandLine command) {
        if (spare < 0 || spare > EngineOptions.MAX_SPARE_LAYERS) {
            throw new ParameterException(command, "--spare-layers is " + spare + "; it must be 0 to " + EngineOptions.MAX_SPARE_LAYERS);
        }
        if (text != null && !isFile()) {
            parse(command, ANY_MODEL);
        }
    }

    /** The same where there is no prompt for routers to choose by. */
    void checkPlan(CommandLine command) {
        check(command);
        if (text != null && isFile() && !text.endsWith(PLAN)) {
            throw new ParameterException(command, "--layers " + text + ": routers choose by a prompt, which there is none of here; "
                    + "give a plan, or a file of one (" + PLAN + ")");
        }
    }

    private LayerPlan parse(CommandLine command, int blocks) {
        try {
            return LayerPlan.parse(text, blocks);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, "--layers: " + e.getMessage());
        }
    }

    /** The options, with room for what the plan repeats. */
    EngineOptions options(CommandLine command, EngineOptions options) {
        if (text == null || text.strip().equals("all") || isFile()) {
            return options.withSpareLayers(spare);
        }
        int repeats = parse(command, ANY_MODEL).spareLayers();
        if (repeats > EngineOptions.MAX_SPARE_LAYERS) {
            throw new ParameterException(command, "--layers repeats blocks " + repeats + " times; at most "
                    + EngineOptions.MAX_SPARE_LAYERS);
        }
        return options.withSpareLayers(Math.max(spare, repeats));
    }

    /** The plan for this model, of a command line without routers; null for every block once. */
    LayerPlan plan(CommandLine command, Model model) {
        if (text == null || !isFile()) {
            return text == null ? null : parse(command, model.layerCount());
        }
        var plans = plans(model);
        if (plans.size() > 1) {
            throw new CommandException(text + " holds " + plans.size() + " plans; --budget or --token-time of complete, generate and chat "
                    + "chooses among them. Here one is needed, for instance --layers " + plans.getLast());
        }
        return plans.getFirst();
    }

    /** Whether a file of plans is named, which may hold several. */
    boolean isPlanFile() {
        return text != null && text.endsWith(PLAN);
    }

    /** All plans of the file of plans. */
    List<LayerPlan> plans(Model model) {
        return PlanFile.read(Path.of(text), model).plans();
    }

    /** What chooses the plan for a prompt; null for every block once. */
    PlanChooser chooser(CommandLine command, Model model) {
        if (text != null && isFile() && !text.endsWith(PLAN)) {
            return RouterFile.read(Path.of(text), model)::plan;
        }
        var plan = plan(command, model);
        return plan == null ? null : (engine, prompt) -> plan;
    }

    /** What looks like a plan is one, whatever files there are. */
    private boolean isFile() {
        return !text.matches("[0-9].*|all") || text.endsWith(PLAN);
    }

    /** For a JSON document. */
    static String describe(LayerPlan plan) {
        return plan == null ? "all" : plan.toString();
    }
}
