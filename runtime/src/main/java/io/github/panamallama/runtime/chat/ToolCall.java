package io.github.panamallama.runtime.chat;

import java.util.Objects;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;

/**
 * A call that the model asks for.
 *
 * @param id what the model or the caller named the call; "" where the format has none
 * @param name the tool
 * @param arguments the arguments as JSON text, an object; while an answer streams, or when the model wrote no valid JSON, possibly not JSON
 */
public record ToolCall(String id, String name, String arguments) {
    public ToolCall {
        id = Objects.requireNonNullElse(id, "");
        Objects.requireNonNull(name, "name");
        arguments = arguments == null || arguments.isBlank() ? "{}" : arguments;
    }

    public ToolCall(String name, String arguments) {
        this("", name, arguments);
    }

    /** The arguments as a tree; {@link ChatTemplateException} where the model wrote no valid JSON. */
    public JsonNode argumentsTree() {
        try {
            return Json.MAPPER.readTree(arguments);
        } catch (JacksonException e) {
            throw new ChatTemplateException("the arguments of the call to '" + name + "' are no JSON: " + arguments, 0, e);
        }
    }
}
