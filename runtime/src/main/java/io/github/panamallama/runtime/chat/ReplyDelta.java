package io.github.panamallama.runtime.chat;

import java.util.List;

/**
 * What a piece of an answer added.
 *
 * @param content further text for the user
 * @param reasoning further reasoning
 * @param toolCalls calls that are now complete
 */
public record ReplyDelta(String content, String reasoning, List<ToolCall> toolCalls) {
    static final ReplyDelta NOTHING = new ReplyDelta("", "", List.of());

    public ReplyDelta {
        toolCalls = List.copyOf(toolCalls);
    }
}
