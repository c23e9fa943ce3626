package io.github.panamallama.runtime.chat;

import java.util.List;
import java.util.Objects;

/**
 * One message of a conversation.
 *
 * @param role system, user, assistant, tool, or what else the template knows
 * @param content the text; "" where there is none
 * @param reasoning what the assistant thought before it answered; "" where nothing
 * @param toolCalls what the assistant called
 * @param toolCallId of a tool message: the call that it answers; "" otherwise
 * @param name of a tool message: the tool; "" otherwise
 */
public record ChatMessage(String role, String content, String reasoning, List<ToolCall> toolCalls, String toolCallId, String name) {
    public ChatMessage {
        Objects.requireNonNull(role, "role");
        content = Objects.requireNonNullElse(content, "");
        reasoning = Objects.requireNonNullElse(reasoning, "");
        toolCalls = toolCalls == null ? List.of() : List.copyOf(toolCalls);
        toolCallId = Objects.requireNonNullElse(toolCallId, "");
        name = Objects.requireNonNullElse(name, "");
    }

    public ChatMessage(String role, String content) {
        this(role, content, "", List.of(), "", "");
    }

    public static ChatMessage system(String content) {
        return new ChatMessage("system", content);
    }

    public static ChatMessage user(String content) {
        return new ChatMessage("user", content);
    }

    public static ChatMessage assistant(String content) {
        return new ChatMessage("assistant", content);
    }

    /** What the assistant answered, as the next turn's history. */
    public static ChatMessage assistant(ParsedReply reply) {
        return new ChatMessage("assistant", reply.content(), reply.reasoning(), reply.toolCalls(), "", "");
    }

    /** The result of a call. */
    public static ChatMessage tool(ToolCall call, String result) {
        return new ChatMessage("tool", result, "", List.of(), call.id(), call.name());
    }
}
