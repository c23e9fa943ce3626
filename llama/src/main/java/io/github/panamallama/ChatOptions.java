package io.github.panamallama;

import io.github.panamallama.runtime.chat.ChatTemplate;
import io.github.panamallama.runtime.chat.Tool;
import java.util.List;

/**
 * How a conversation is held.
 *
 * @param system     what the model is told before everything else, or null
 * @param tools      what the model may call
 * @param reasoning  whether the model reasons before it answers, where its template lets one choose; null leaves it to the template
 * @param template   the template, or null for the model's own
 * @param generation how answers are generated, or null for the options of the {@link Llama}
 */
public record ChatOptions(String system, List<Tool> tools, Boolean reasoning, ChatTemplate template, GenerationOptions generation) {
    private static final ChatOptions DEFAULTS = new ChatOptions(null, List.of(), null, null, null);

    public ChatOptions {
        tools = List.copyOf(tools);
    }

    public static ChatOptions defaults() {
        return DEFAULTS;
    }

    public ChatOptions withSystem(String text) {
        return new ChatOptions(text, tools, reasoning, template, generation);
    }

    public ChatOptions withTools(Tool... tools) {
        return new ChatOptions(system, List.of(tools), reasoning, template, generation);
    }

    public ChatOptions withReasoning(Boolean reasoning) {
        return new ChatOptions(system, tools, reasoning, template, generation);
    }

    public ChatOptions withTemplate(ChatTemplate template) {
        return new ChatOptions(system, tools, reasoning, template, generation);
    }

    public ChatOptions withGeneration(GenerationOptions generation) {
        return new ChatOptions(system, tools, reasoning, template, generation);
    }
}
