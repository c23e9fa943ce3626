package io.github.panamallama.runtime.chat;

import java.util.Objects;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;

/**
 * A tool that the model may call.
 *
 * @param parameters JSON Schema of the arguments: an object schema
 */
public record Tool(String name, String description, JsonNode parameters) {
    public Tool {
        Objects.requireNonNull(name, "name");
        description = Objects.requireNonNullElse(description, "");
        Objects.requireNonNull(parameters, "parameters");
        if (!parameters.isObject()) {
            throw new IllegalArgumentException("the parameters of tool '" + name + "' must be a JSON Schema object, not " + parameters);
        }
    }

    /** @param schema the JSON Schema as text */
    public static Tool of(String name, String description, String schema) {
        try {
            return new Tool(name, description, Json.MAPPER.readTree(schema));
        } catch (JacksonException e) {
            throw new IllegalArgumentException("the parameters of tool '" + name + "' are no JSON: " + schema, e);
        }
    }
}
