package io.github.panamallama.runtime.chat;

import java.time.Clock;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * How a template wants its messages, found by rendering small conversations and looking for what they said.
 *
 * @param typedContent content goes in as a list of parts, because the template drops plain strings
 * @param system whether it knows the system role; if not, the system text goes in front of the first user message
 * @param textArguments the arguments of calls go in as JSON text instead of a mapping
 * @param tools whether it shows tools to the model
 * @param toolCalls whether it renders an assistant's calls
 * @param reasoningKey the key it reads reasoning from; "" for a content part of type thinking; null where it reads none
 */
record Traits(boolean typedContent, boolean system, boolean textArguments, boolean tools, boolean toolCalls, String reasoningKey) {
    static final Clock PROBE_CLOCK = Clock.fixed(Instant.parse("2026-01-02T03:04:05Z"), ZoneOffset.UTC);
    static final Tool PROBE_TOOL = Tool.of("probe_tool", "Probes",
            "{\"type\":\"object\",\"properties\":{\"probe_key\":{\"type\":\"string\",\"description\":\"A key\"},"
            + "\"probe_other\":{\"type\":\"integer\",\"description\":\"Another\"}},\"required\":[\"probe_key\"]}");
    private static final Traits PLAIN = new Traits(false, true, false, true, true, "reasoning_content");

    /** Of built-in templates. */
    static final Traits BUILTIN = new Traits(false, true, false, false, false, null);

    /** Renders messages under given traits; throws {@link ChatTemplateException} where the template fails. */
    @FunctionalInterface
    interface Renderer {
        String render(List<ChatMessage> messages, PromptOptions options, Traits traits);
    }

    static Traits of(Renderer renderer) {
        var options = PromptOptions.defaults().withClock(PROBE_CLOCK).withGenerationPrompt(false);
        var user = ChatMessage.user("Probe_user");
        boolean plain = shows(renderer, List.of(user), options, PLAIN, "Probe_user");
        boolean typed = !plain && shows(renderer, List.of(user), options, PLAIN.withTypedContent(true), "Probe_user");
        var traits = PLAIN.withTypedContent(typed);
        boolean system = shows(renderer, List.of(ChatMessage.system("Probe_system"), user), options, traits, "Probe_system");
        traits = new Traits(typed, system, false, true, true, "reasoning_content");

        var withTools = options.withTools(PROBE_TOOL);
        boolean tools = shows(renderer, List.of(user), withTools, traits, "probe_key");
        var call = new ToolCall("probe0001", "probe_tool", "{\"probe_key\": \"Probe_value\"}");
        var calling = List.of(user, new ChatMessage("assistant", "", "", List.of(call), "", ""));
        String asMap = attempt(renderer, calling, withTools, traits);
        boolean mapWorks = asMap != null && asMap.contains("Probe_value") && !asMap.contains("'probe_key': 'Probe_value'");
        boolean text = false;
        if (!mapWorks) {
            String asText = attempt(renderer, calling, withTools, traits.withTextArguments(true));
            text = asText != null && asText.contains("Probe_value");
        }
        boolean calls = mapWorks || text;
        traits = new Traits(typed, system, text, tools, calls, "reasoning_content");

        String key = null;
        var thinking = List.of(user, new ChatMessage("assistant", "Probe_content", "Probe_reasoning", List.of(), "", ""));
        var thinkingCall = List.of(user, new ChatMessage("assistant", "Probe_content", "Probe_reasoning", List.of(call), "", ""));
        for (String k : List.of("reasoning_content", "reasoning", "thinking", "thought", "")) {
            var with = traits.withReasoningKey(k);
            if (thinks(renderer, thinking, options.withThinking(true), with)
                    || calls && thinks(renderer, thinkingCall, withTools.withThinking(true), with)) {
                key = k;
                break;
            }
        }
        return traits.withReasoningKey(key);
    }

    private static String attempt(Renderer renderer, List<ChatMessage> messages, PromptOptions options, Traits traits) {
        try {
            return renderer.render(messages, options, traits);
        } catch (ChatTemplateException e) {
            return null;
        }
    }

    private static boolean shows(Renderer renderer, List<ChatMessage> messages, PromptOptions options, Traits traits, String what) {
        String out = attempt(renderer, messages, options, traits);
        return out != null && out.contains(what);
    }

    /** Shows the reasoning, and not just by printing the list that holds it. */
    private static boolean thinks(Renderer renderer, List<ChatMessage> messages, PromptOptions options, Traits traits) {
        String out = attempt(renderer, messages, options, traits);
        return out != null && out.contains("Probe_reasoning") && !out.contains("Probe_reasoning'") && !out.contains("Probe_reasoning\"");
    }

    private Traits withTypedContent(boolean typed) {
        return new Traits(typed, system, textArguments, tools, toolCalls, reasoningKey);
    }

    private Traits withTextArguments(boolean text) {
        return new Traits(typedContent, system, text, tools, toolCalls, reasoningKey);
    }

    private Traits withReasoningKey(String key) {
        return new Traits(typedContent, system, textArguments, tools, toolCalls, key);
    }

    // ---- messages as the template sees them

    PyList messages(List<ChatMessage> messages, boolean developerRole) {
        var out = new PyList();
        String merged = null;
        for (var m : messages) {
            String role = m.role().equals("developer") && !developerRole ? "system" : m.role();
            if (role.equals("system") && !system && out.isEmpty()) {
                merged = merged == null ? m.content() : merged + "\n" + m.content();
                continue;
            }
            var msg = PyDict.of("role", role);
            String content = merged == null ? m.content() : merged + "\n" + m.content();
            merged = null;
            if ("".equals(reasoningKey) && !m.reasoning().isEmpty()) {
                var parts = new PyList();
                parts.add(PyDict.of("type", "thinking", "thinking", m.reasoning()));
                if (!content.isEmpty()) {
                    parts.add(PyDict.of("type", "text", "text", content));
                }
                msg.put("content", parts);
            } else if (typedContent) {
                var parts = new PyList();
                parts.add(PyDict.of("type", "text", "text", content));
                msg.put("content", parts);
            } else {
                msg.put("content", content);
            }
            if (!m.reasoning().isEmpty() && reasoningKey != null && !reasoningKey.isEmpty()) {
                msg.put(reasoningKey, m.reasoning());
            }
            if (!m.name().isEmpty()) {
                msg.put("name", m.name());
            }
            if (!m.toolCallId().isEmpty()) {
                msg.put("tool_call_id", m.toolCallId());
            }
            if (!m.toolCalls().isEmpty()) {
                var calls = new PyList();
                for (var call : m.toolCalls()) {
                    calls.add(call(call));
                }
                msg.put("tool_calls", calls);
            }
            out.add(msg);
        }
        if (merged != null) {
            // a system text alone has no user message to go into
            out.add(PyDict.of("role", "user", "content", merged));
        }
        return out;
    }

    private PyDict call(ToolCall call) {
        Object arguments = call.arguments();
        if (!textArguments) {
            var tree = Json.tryParse(call.arguments());
            if (tree == null) {
                throw new ChatTemplateException("the arguments of the call to '" + call.name()
                        + "' are no JSON, which this template needs: "
                        + call.arguments(), 0);
            }
            arguments = PyValues.fromJson(tree);
        }
        var out = PyDict.of("type", "function", "function", PyDict.of("name", call.name(), "arguments", arguments));
        if (!call.id().isEmpty()) {
            out.put("id", call.id());
        }
        return out;
    }

    static PyList tools(List<Tool> tools) {
        var out = new PyList();
        for (var t : tools) {
            out.add(PyDict.of("type", "function", "function",
                    PyDict.of("name", t.name(), "description", t.description(), "parameters", PyValues.fromJson(t.parameters()))));
        }
        return out;
    }

    private static String today(PromptOptions options, String pattern) {
        return DateTimeFormatter.ofPattern(pattern, Locale.ENGLISH).format(ZonedDateTime.now(options.clock()));
    }

    private static String toolsText(PromptOptions options) {
        return new Render(new Budget(1_000_000), options.clock(), Map.of()).json(tools(options.tools()), "    ", ",", ": ", false, false);
    }

    static Map<String, Object> variables(PyList messages, PromptOptions options, String bos, String eos) {
        Map<String, Object> v = new LinkedHashMap<>();
        v.put("messages", messages);
        v.put("bos_token", bos);
        v.put("eos_token", eos);
        v.put("add_generation_prompt", options.generationPrompt());
        if (options.thinking() != null) {
            v.put("enable_thinking", options.thinking());
        }
        if (!options.tools().isEmpty()) {
            v.put("tools", tools(options.tools()));
        }
        v.put("datetime", today(options, "MMM dd yyyy"));
        v.put("date_string", today(options, "dd MMM yyyy"));
        // the name that FireFunction gives the tools: their JSON as text
        v.put("functions", options.tools().isEmpty() ? "" : toolsText(options));
        options.variables().forEach((k, x) -> v.put(k, PyValues.fromJava(x)));
        return v;
    }
}
