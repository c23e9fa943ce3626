package io.github.panamallama.layers;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import java.io.IOException;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.OptionalDouble;
import java.util.OptionalLong;
import tools.jackson.core.JacksonException;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

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

    private static final JsonMapper JSON = JsonMapper.builder()
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .build();

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
        var root = JSON.createObjectNode()
                .put("format", choices.size() == 1 ? ONE : SEVERAL)
                .put("model", model)
                .put("description", description)
                .put("blocks", choices.getFirst().plan.blocks());
        if (choices.size() == 1) {
            put(root, choices.getFirst());
        } else {
            var plans = root.putArray("plans");
            choices.forEach(choice -> put(plans.addObject(), choice));
        }
        var unfinished = path.resolveSibling("." + path.getFileName() + "." + ProcessHandle.current().pid() + ".part");
        try {
            try {
                Files.writeString(unfinished, JSON.writerWithDefaultPrettyPrinter().writeValueAsString(root) + "\n");
                move(unfinished, path);
            } finally {
                Files.deleteIfExists(unfinished);
            }
        } catch (IOException e) {
            throw new LlamaException("can't write the plan to " + path + ": " + e, e);
        }
    }

    private static void put(ObjectNode node, Choice choice) {
        node.put("plan", choice.plan.toString());
        var found = choice.found;
        var how = node.putObject("found").put("method", found.method).put("removed", choice.plan.blocks() - choice.plan.cost());
        found.seed.ifPresent(seed -> how.put("seed", seed));
        found.fitness.ifPresent(fitness -> how.put("fitness", fitness));
        how.put("text", found.text).put("tokens", found.tokens);
    }

    private static void move(Path from, Path to) throws IOException {
        try {
            Files.move(from, to, StandardCopyOption.ATOMIC_MOVE);   // replaces
        } catch (AtomicMoveNotSupportedException e) {
            Files.move(from, to, StandardCopyOption.REPLACE_EXISTING);
        }
    }

    /**
     * Reads plans for this model.
     *
     * @throws LayerPlanException if the file can't be read, is no file of plans, or is for another model; the message has both models
     */
    public static PlanFile read(Path path, Model model) {
        var root = parse(path);
        long format = integer(path, root, "format");
        if (format != ONE && format != SEVERAL) {
            throw broken(path, "is of format " + format + "; this version reads formats " + ONE + " and " + SEVERAL);
        }
        var fingerprint = text(path, root, "model");
        var description = text(path, root, "description");
        var own = model.fingerprint();
        if (!fingerprint.equals(own)) {
            throw broken(path, "is for " + description + " with fingerprint " + fingerprint + "; " + model.path() + " is "
                    + model.description() + " with fingerprint " + own);
        }
        long blocks = integer(path, root, "blocks");
        if (blocks != model.layerCount()) {
            throw broken(path, "is for " + blocks + " blocks; " + model.path() + " has " + model.layerCount());
        }
        var choices = new ArrayList<Choice>();
        if (format == ONE) {
            choices.add(choice(path, root, model));
        } else {
            var plans = root.get("plans");
            if (plans == null || !plans.isArray()) {
                throw broken(path, "\"plans\" must be an array, it is " + plans);
            }
            plans.forEach(each -> choices.add(choice(path, each, model)));
        }
        try {
            return new PlanFile(fingerprint, description, choices);
        } catch (IllegalArgumentException e) {
            throw new LayerPlanException(path + ": " + e.getMessage(), e);
        }
    }

    private static Choice choice(Path path, JsonNode node, Model model) {
        var text = text(path, node, "plan");
        var how = node.get("found");
        if (how == null || !how.isObject()) {
            throw broken(path, "\"found\" must be an object, it is " + how);
        }
        try {
            return new Choice(LayerPlan.parse(text, model.layerCount()), new Found(text(path, how, "method"),
                    how.has("seed") ? OptionalLong.of(integer(path, how, "seed")) : OptionalLong.empty(),
                    how.has("fitness") ? OptionalDouble.of(number(path, how, "fitness")) : OptionalDouble.empty(),
                    text(path, how, "text"), integer(path, how, "tokens")));
        } catch (IllegalArgumentException e) {
            throw new LayerPlanException(path + ": " + e.getMessage(), e);
        }
    }

    private static JsonNode parse(Path path) {
        try {
            long size = Files.size(path);
            if (size > MAX_BYTES) {
                throw broken(path, "has " + size + " bytes; at most " + MAX_BYTES + " are read");
            }
            var root = JSON.readTree(Files.readString(path));
            if (!root.isObject()) {
                throw broken(path, "is no JSON object");
            }
            return root;
        } catch (IOException e) {
            throw new LayerPlanException(path + ": can't be read: " + e, e);
        } catch (JacksonException e) {
            throw new LayerPlanException(path + ": broken JSON: " + e.getOriginalMessage(), e);
        }
    }

    private static String text(Path path, JsonNode node, String name) {
        var value = node.get(name);
        if (value == null || !value.isString()) {
            throw broken(path, "\"" + name + "\" must be a string, it is " + value);
        }
        return value.stringValue();
    }

    private static long integer(Path path, JsonNode node, String name) {
        var value = node.get(name);
        if (value == null || !value.isIntegralNumber() || !value.canConvertToLong()) {
            throw broken(path, "\"" + name + "\" must be an integer, it is " + value);
        }
        return value.longValue();
    }

    private static double number(Path path, JsonNode node, String name) {
        var value = node.get(name);
        if (value == null || !value.isNumber()) {
            throw broken(path, "\"" + name + "\" must be a number, it is " + value);
        }
        return value.doubleValue();
    }

    private static LayerPlanException broken(Path path, String message) {
        return new LayerPlanException(path + ": " + message);
    }
}
