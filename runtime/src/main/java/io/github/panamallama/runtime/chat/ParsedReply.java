package io.github.panamallama.runtime.chat;

import java.util.List;

/**
 * A model's answer, taken apart.
 *
 * @param content the text for the user
 * @param reasoning what the model thought first; "" where it did not
 * @param toolCalls the calls it asks for, in order
 */
public record ParsedReply(String content, String reasoning, List<ToolCall> toolCalls) {
    public ParsedReply {
        toolCalls = List.copyOf(toolCalls);
    }
}
