package io.github.panamallama.runtime.chat;

import java.time.Clock;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * How a conversation becomes a prompt.
 *
 * @param tools what the model may call
 * @param generationPrompt whether the prompt ends where the assistant's answer begins
 * @param thinking whether the model may reason first, for templates that know {@code enable_thinking}; null leaves it to the template
 * @param variables further template variables, such as {@code reasoning_effort}: strings, numbers, booleans, lists, maps, JsonNode
 * @param clock what {@code strftime_now} reads
 */
public record PromptOptions(List<Tool> tools, boolean generationPrompt, Boolean thinking, Map<String, Object> variables, Clock clock) {
    private static final PromptOptions DEFAULTS = new PromptOptions(List.of(), true, null, Map.of(), Clock.systemDefaultZone());

    public PromptOptions {
        tools = List.copyOf(tools);
        variables = new LinkedHashMap<>(variables);
        Objects.requireNonNull(clock, "clock");
    }

    public static PromptOptions defaults() {
        return DEFAULTS;
    }

    public PromptOptions withTools(List<Tool> tools) {
        return new PromptOptions(tools, generationPrompt, thinking, variables, clock);
    }

    public PromptOptions withTools(Tool... tools) {
        return withTools(List.of(tools));
    }

    public PromptOptions withGenerationPrompt(boolean generationPrompt) {
        return new PromptOptions(tools, generationPrompt, thinking, variables, clock);
    }

    public PromptOptions withThinking(Boolean thinking) {
        return new PromptOptions(tools, generationPrompt, thinking, variables, clock);
    }

    public PromptOptions withVariable(String name, Object value) {
        var more = new LinkedHashMap<>(variables);
        more.put(name, value);
        return new PromptOptions(tools, generationPrompt, thinking, more, clock);
    }

    public PromptOptions withClock(Clock clock) {
        return new PromptOptions(tools, generationPrompt, thinking, variables, clock);
    }
}
