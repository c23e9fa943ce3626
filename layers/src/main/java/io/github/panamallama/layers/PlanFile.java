package io.github.panamallama.layers;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.search.JsonFields;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalDouble;
import java.util.OptionalLong;

/**
 * Plans and the model that they were found for, as a small JSON file:
 *
 * <pre>{@code
 * {
 *   "format" : 1,
 *   "model" : "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
 *   "description" : "llama 8B F16",
 *   "blocks" : 8,
 *   "plan" : "0-2,4,6-7",
 *   "found" : { "method" : "PlanSearch", "removed" : 2.0, "seed" : 1, "fitness" : 0.173, "text" : "heldout", "tokens" : 4096 }
 * }
 * }</pre>
 *
 * <p>A file of several plans, for a {@link BudgetControl} to choose among, has format 2 and in the place of {@code plan} and {@code found}
 * a list {@code plans} of objects that have both, cheapest first.
 *
 * @param model       {@link Model#fingerprint} of the model
 * @param description of the model, for readers
 * @param choices     at least one plan for this model, each dearer than the one before
 */
public record PlanFile(String model, String description, List<Choice> choices) {
    private static final int ONE = 1;
    private static final int SEVERAL = 2;
    /** Plans have some kilobytes at most. */
    private static final long MAX_BYTES = 1 << 20;

    public PlanFile {
        choices = List.copyOf(choices);
        if (choices.isEmpty()) {
            throw new IllegalArgumentException("a file of plans without a plan");
        }
        for (int i = 1; i < choices.size(); i++) {
            var before = choices.get(i - 1).plan;
            var plan = choices.get(i).plan;
            if (plan.blocks() != before.blocks() || !(plan.cost() > before.cost())) {
                throw new IllegalArgumentException("plan " + i + " (" + plan + ") costs " + plan.cost() + " of " + plan.blocks()
                        + " blocks and the one before it (" + before + ") " + before.cost() + " of " + before.blocks()
                        + "; plans must be for one model, and each dearer than the one before");
            }
        }
    }

    /**
     * A plan.
     *
     * @param found how it was found
     */
    public record Choice(LayerPlan plan, Found found) {
    }

    /**
     * How a plan was found, for readers: nothing depends on it.
     *
     * @param method  such as {@code PlanSearch} or {@code by hand}
     * @param seed    empty where nothing was drawn
     * @param fitness of the plan on the text, empty where it wasn't measured
     * @param text    a name for the text that it was found on
     * @param tokens  of that text
     */
    public record Found(String method, OptionalLong seed, OptionalDouble fitness, String text, long tokens) {
        public Found {
            Objects.requireNonNull(method, "method");
            Objects.requireNonNull(text, "text");
            if (fitness.isPresent() && !Double.isFinite(fitness.getAsDouble())) {
                throw new IllegalArgumentException("the fitness is " + fitness.getAsDouble() + "; it must be finite, or left out");
            }
            if (tokens < 0) {
                throw new IllegalArgumentException("tokens is " + tokens + "; it must be 0 or more");
            }
        }
    }

    /**
     * A plan for this model.
     *
     * @throws LayerPlanException if the plan is for another number of blocks
     */
    public static PlanFile of(Model model, LayerPlan plan, Found found) {
        return of(model, List.of(new Choice(plan, found)));
    }

    /**
     * Plans for this model.
     *
     * @param choices cheapest first
     * @throws LayerPlanException if a plan is for another number of blocks
     */
    public static PlanFile of(Model model, List<Choice> choices) {
        for (var choice : choices) {
            if (choice.plan.blocks() != model.layerCount()) {
                throw new LayerPlanException("the plan is for " + choice.plan.blocks() + " blocks, " + model.path() + " has "
                        + model.layerCount());
            }
        }
        return new PlanFile(model.fingerprint(), model.description(), choices);
    }

    /** All plans, cheapest first. */
    public List<LayerPlan> plans() {
        return choices.stream().map(Choice::plan).toList();
    }

    /**
     * The plan of a file that has one.
     *
     * @throws LayerPlanException if it has several
     */
    public LayerPlan plan() {
        if (choices.size() > 1) {
            throw new LayerPlanException("the file holds " + choices.size() + " plans (" + plans() + "), to be changed by a budget; one is "
                    + "needed here");
        }
        return choices.getFirst().plan;
    }

    /**
     * Writes the file, replacing one that is there; nobody sees half of it.
     *
     * @throws LlamaException if it can't be written
     */
    public void write(Path path) {
        var root = new LinkedHashMap<String, Object>();
        root.put("format", choices.size() == 1 ? ONE : SEVERAL);
        root.put("model", model);
        root.put("description", description);
        root.put("blocks", choices.getFirst().plan.blocks());
        if (choices.size() == 1) {
            root.putAll(fields(choices.getFirst()));
        } else {
            root.put("plans", choices.stream().map(PlanFile::fields).toList());
        }
        try {
            JsonFields.write(path, root);
        } catch (IOException e) {
            throw new LlamaException("can't write the plan to " + path + ": " + LlamaException.reason(e), e);
        }
    }

    private static Map<String, Object> fields(Choice choice) {
        var found = choice.found;
        var how = new LinkedHashMap<String, Object>();
        how.put("method", found.method);
        how.put("removed", choice.plan.blocks() - choice.plan.cost());
        found.seed.ifPresent(seed -> how.put("seed", seed));
        found.fitness.ifPresent(fitness -> how.put("fitness", fitness));
        how.put("text", found.text);
        how.put("tokens", found.tokens);
        var fields = new LinkedHashMap<String, Object>();
        fields.put("plan", choice.plan.toString());
        fields.put("found", how);
        return fields;
    }

    /**
     * Reads plans for this model.
     *
     * @throws LayerPlanException if the file can't be read, is no file of plans, or is for another model; the message has both models
     */
    public static PlanFile read(Path path, Model model) {
        var root = JsonFields.read(path, MAX_BYTES, LayerPlanException::new);
        long format = root.integer("format");
        if (format != ONE && format != SEVERAL) {
            throw root.broken("is of format " + format + "; this version reads formats " + ONE + " and " + SEVERAL);
        }
        var fingerprint = root.text("model");
        var description = root.text("description");
        var own = model.fingerprint();
        if (!fingerprint.equals(own)) {
            throw root.broken("is for " + description + " with fingerprint " + fingerprint + "; " + model.path() + " is "
                    + model.description() + " with fingerprint " + own);
        }
        long blocks = root.integer("blocks");
        if (blocks != model.layerCount()) {
            throw root.broken("is for " + blocks + " blocks; " + model.path() + " has " + model.layerCount());
        }
        try {
            var each = format == ONE ? List.of(root) : root.objects("plans");
            return new PlanFile(fingerprint, description, each.stream().map(fields -> choice(fields, model)).toList());
        } catch (IllegalArgumentException e) {
            throw new LayerPlanException(path + ": " + e.getMessage(), e);
        }
    }

    private static Choice choice(JsonFields fields, Model model) {
        var text = fields.text("plan");
        var how = fields.object("found");
        return new Choice(LayerPlan.parse(text, model.layerCount()), new Found(how.text("method"),
                how.has("seed") ? OptionalLong.of(how.integer("seed")) : OptionalLong.empty(),
                how.has("fitness") ? OptionalDouble.of(how.number("fitness")) : OptionalDouble.empty(),
                how.text("text"), how.integer("tokens")));
    }
}
