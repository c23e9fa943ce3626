package io.github.panamallama.runtime.search;

import io.github.panamallama.runtime.LlamaException;
import java.io.IOException;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.BiFunction;
import tools.jackson.core.JacksonException;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/**
 * The fields of an object in a small JSON file, as results of searches are kept in. What is missing or of another kind is refused with the
 * file's and the field's name. Immutable.
 */
public final class JsonFields {
    private static final JsonMapper JSON = JsonMapper.builder()
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .build();

    private final Path path;
    private final JsonNode node;
    private final BiFunction<String, Throwable, ? extends LlamaException> exception;

    private JsonFields(Path path, JsonNode node, BiFunction<String, Throwable, ? extends LlamaException> exception) {
        this.path = path;
        this.node = node;
        this.exception = exception;
    }

    /**
     * Reads a file.
     *
     * @param most      bytes that it may have
     * @param exception of a message and a cause or null: what this and all other methods throw
     * @throws LlamaException that one, if the file can't be read or is no JSON object, or has a name twice
     */
    public static JsonFields read(Path path, long most, BiFunction<String, Throwable, ? extends LlamaException> exception) {
        try {
            long size = Files.size(path);
            if (size > most) {
                throw exception.apply(path + ": has " + size + " bytes; at most " + most + " are read", null);
            }
            var root = JSON.readTree(Files.readString(path));
            if (!root.isObject()) {
                throw exception.apply(path + ": is no JSON object", null);
            }
            return new JsonFields(path, root, exception);
        } catch (IOException e) {
            throw exception.apply(path + ": can't be read: " + LlamaException.reason(e), e);
        } catch (JacksonException e) {
            throw exception.apply(path + ": broken JSON: " + e.getOriginalMessage(), e);
        }
    }

    /**
     * Writes an object to a file, replacing one that is there; nobody sees half of it.
     *
     * @param fields strings, numbers, lists and maps
     * @throws IOException if it can't be written; nothing is left of it then
     */
    public static void write(Path path, Map<String, ?> fields) throws IOException {
        var unfinished = path.resolveSibling("." + path.getFileName() + "." + ProcessHandle.current().pid() + ".part");
        try {
            Files.writeString(unfinished, JSON.writerWithDefaultPrettyPrinter().writeValueAsString(fields) + "\n");
            try {
                Files.move(unfinished, path, StandardCopyOption.ATOMIC_MOVE);   // replaces
            } catch (AtomicMoveNotSupportedException e) {
                Files.move(unfinished, path, StandardCopyOption.REPLACE_EXISTING);
            }
        } finally {
            Files.deleteIfExists(unfinished);
        }
    }

    public boolean has(String name) {
        return node.has(name);
    }

    public JsonFields object(String name) {
        var value = node.get(name);
        if (value == null || !value.isObject()) {
            throw mustBe(name, "an object", value);
        }
        return new JsonFields(path, value, exception);
    }

    public List<JsonFields> objects(String name) {
        var value = node.get(name);
        if (value == null || !value.isArray() || !value.values().stream().allMatch(JsonNode::isObject)) {
            throw mustBe(name, "an array of objects", value);
        }
        return value.values().stream().map(each -> new JsonFields(path, each, exception)).toList();
    }

    /** All fields of this object, which are strings, in the file's order. */
    public Map<String, String> texts() {
        var texts = new LinkedHashMap<String, String>();
        node.propertyNames().forEach(name -> texts.put(name, text(name)));
        return texts;
    }

    public String text(String name) {
        var value = node.get(name);
        if (value == null || !value.isString()) {
            throw mustBe(name, "a string", value);
        }
        return value.stringValue();
    }

    public long integer(String name) {
        var value = node.get(name);
        if (value == null || !value.isIntegralNumber() || !value.canConvertToLong()) {
            throw mustBe(name, "an integer", value);
        }
        return value.longValue();
    }

    /** An integer of at least 1. */
    public int count(String name) {
        long value = integer(name);
        if (value < 1 || value > Integer.MAX_VALUE) {
            throw broken("\"" + name + "\" is " + value + "; it must be at least 1");
        }
        return (int) value;
    }

    public double number(String name) {
        var value = node.get(name);
        if (value == null || !value.isNumber()) {
            throw mustBe(name, "a number", value);
        }
        return value.doubleValue();
    }

    private LlamaException mustBe(String name, String what, JsonNode value) {
        return broken("\"" + name + "\" must be " + what + ", it is " + value);
    }

    /** What to throw of this file for another reason. */
    public LlamaException broken(String message) {
        return exception.apply(path + ": " + message, null);
    }
}
