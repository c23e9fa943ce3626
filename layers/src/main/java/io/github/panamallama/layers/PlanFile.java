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
import java.util.Objects;
import java.util.OptionalDouble;
import java.util.OptionalLong;
import tools.jackson.core.JacksonException;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/**
 * A plan and the model that it was found for, as a small JSON file:
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
 * @param model       {@link Model#fingerprint} of the model
 * @param description of the model, for readers
 * @param plan        for this model
 * @param found       how it was found
 */
public record PlanFile(String model, String description, LayerPlan plan, Found found) {
    private static final int FORMAT = 1;
    /** Plans have some kilobytes at most. */
    private static final long MAX_BYTES = 1 << 20;

    private static final JsonMapper JSON = JsonMapper.builder()
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .build();

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
        if (plan.blocks() != model.layerCount()) {
            throw new LayerPlanException("the plan is for " + plan.blocks() + " blocks, " + model.path() + " has " + model.layerCount());
        }
        return new PlanFile(model.fingerprint(), model.description(), plan, found);
    }

    /**
     * Writes the file, replacing one that is there; nobody sees half of it.
     *
     * @throws LlamaException if it can't be written
     */
    public void write(Path path) {
        var root = JSON.createObjectNode()
                .put("format", FORMAT)
                .put("model", model)
                .put("description", description)
                .put("blocks", plan.blocks())
                .put("plan", plan.toString());
        var how = root.putObject("found").put("method", found.method).put("removed", plan.blocks() - plan.cost());
        found.seed.ifPresent(seed -> how.put("seed", seed));
        found.fitness.ifPresent(fitness -> how.put("fitness", fitness));
        how.put("text", found.text).put("tokens", found.tokens);
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

    private static void move(Path from, Path to) throws IOException {
        try {
            Files.move(from, to, StandardCopyOption.ATOMIC_MOVE);   // replaces
        } catch (AtomicMoveNotSupportedException e) {
            Files.move(from, to, StandardCopyOption.REPLACE_EXISTING);
        }
    }

    /**
     * Reads a plan for this model.
     *
     * @throws LayerPlanException if the file can't be read, is no file of a plan, or is for another model; the message has both models
     */
    public static PlanFile read(Path path, Model model) {
        var root = parse(path);
        long format = integer(path, root, "format");
        if (format != FORMAT) {
            throw broken(path, "is of format " + format + "; this version reads format " + FORMAT);
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
        LayerPlan plan;
        try {
            plan = LayerPlan.parse(text(path, root, "plan"), model.layerCount());
        } catch (IllegalArgumentException e) {
            throw new LayerPlanException(path + ": " + e.getMessage(), e);
        }
        var how = root.get("found");
        if (how == null || !how.isObject()) {
            throw broken(path, "\"found\" must be an object, it is " + how);
        }
        try {
            return new PlanFile(fingerprint, description, plan, new Found(text(path, how, "method"),
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
