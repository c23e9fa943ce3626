package io.github.panamallama.runtime.chat;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** Answers that upstream's own tests take apart, read from their source, against what our parser makes of them. */
class UpstreamRepliesTest {
    /** At least as many of the comparable cases agree; raise it with the parser. */
    private static final int FLOOR = 281;

    private CppSource source;
    private final Map<String, Tool> tools = new HashMap<>();
    private final Map<String, ParsedReply> messages = new HashMap<>();
    private final Map<String, List<Tool>> toolLists = new HashMap<>();

    private static final class Unreadable extends RuntimeException {
        private static final long serialVersionUID = 1L;
    }

    private static final class Case {
        String template;
        String input;
        List<Tool> tools = List.of();
        Boolean thinking = true;
        boolean parsesReasoning;
        String unlike;
        String content = "";
        String reasoning = "";
        List<ToolCall> calls = List.of();
    }

    @Test
    void agreesWithUpstreamOnTheAnswersOfItsTests() throws Exception {
        source = CppSource.of(Upstream.root().resolve("tests/test-chat.cpp"));
        String template = null;
        var cases = new ArrayList<Case>();
        int unreadable = 0;
        while (!source.atEnd()) {
            var t = source.next();
            if (t.is("common_chat_tool") && source.peek(1).is("{")) {
                String name = source.next().text();
                source.next();
                tools.put(name, Tool.of(string(), string(), string()));
            } else if (t.is("tools") && source.peek().is("{")) {
                toolLists.put("tools", toolList());
            } else if (t.is("common_chat_msg") && source.peek().text().startsWith("message_assist") && source.peek(1).is("=")) {
                String name = source.next().text();
                source.next();
                messages.put(name, message());
            } else if (t.is("peg_tester") && source.peek().is("(") && source.peek(1).kind() == CppSource.Kind.STRING) {
                source.next();
                template = source.string();
            } else if (t.is("peg_tester") && source.peek().is("(")) {
                template = null;
            } else if (t.is("tst") && source.peek().is(".") && source.peek(1).is("test")) {
                int at = source.at;
                try {
                    cases.add(one(template));
                } catch (Unreadable | IllegalStateException e) {
                    unreadable++;
                    source.at = at + 1;
                }
            }
        }

        long seed = Long.getLong("panamallama.seed", System.nanoTime());
        System.out.println("seed " + seed + " (-Dpanamallama.seed=)");
        var random = new Random(seed);
        var templates = new HashMap<String, ChatTemplate>();
        var unlike = new java.util.TreeMap<String, Integer>();
        var failures = new ArrayList<String>();
        int passed = 0;
        for (var c : cases) {
            if (!templates.containsKey(c.template)) {
                templates.put(c.template, ChatTemplate.of(Files.readString(Upstream.root().resolve(c.template)), "", ""));
            }
            var prompt = templates.get(c.template).render(List.of(ChatMessage.user("Hey")),
                    PromptOptions.defaults().withTools(c.tools).withThinking(c.thinking));
            var reply = prompt.parse(c.input);
            if (c.unlike == null && !c.parsesReasoning && !reply.reasoning().isEmpty()) {
                c.unlike = "reasoning left in the content";
            }
            if (c.unlike != null) {
                unlike.merge(c.unlike, 1, Integer::sum);
                continue;
            }
            String want = describe(c.content, c.reasoning, c.calls);
            String got = describe(reply.content(), reply.reasoning(), reply.toolCalls());
            var parser = prompt.parser();
            for (int at = 0; at < c.input.length();) {
                int n = 1 + random.nextInt(7);
                parser.push(c.input.substring(at, Math.min(c.input.length(), at + n)));
                at += n;
            }
            parser.end();
            String pieces = describe(parser.reply().content(), parser.reply().reasoning(), parser.reply().toolCalls());
            if (want.equals(got) && got.equals(pieces)) {
                passed++;
            } else {
                failures.add(c.template + "\n   input  " + c.input + "\n   want   " + want + "\n   got    " + got
                        + (got.equals(pieces) ? "" : "\n   pieces " + pieces));
            }
            assertTrue(got.equals(pieces) || !want.equals(got), () -> "pieces differ: " + failures.getLast());
        }
        System.out.println("upstream's answers: " + passed + " of " + (passed + failures.size())
                + " comparable cases agree; not comparable: " + unlike
                + ", unreadable " + unreadable);
        failures.forEach(f -> System.out.println("  differs: " + f.lines().findFirst().orElse("")));
        assertTrue(passed >= FLOOR, passed + " agree, " + FLOOR + " did before");
    }

    private static String describe(String content, String reasoning, List<ToolCall> calls) {
        var out = new StringBuilder("content=" + content.strip() + " | reasoning=" + reasoning.strip() + " | calls=");
        for (var c : calls) {
            var tree = Json.tryParse(c.arguments());
            out.append(c.name()).append(c.id().isEmpty() ? "" : "#" + c.id()).append(tree == null ? "?" + c.arguments()
                    : Json.write(tree)).append(' ');
        }
        return out.toString();
    }

    private String string() {
        String s = source.peek().kind() == CppSource.Kind.STRING ? source.string() : null;
        if (s == null) {
            throw new Unreadable();
        }
        source.accept(",");
        return s;
    }

    private String text() {
        if (source.peek().is("std::string")) {
            source.next();
            source.expect("(");
            String s = source.string();
            source.expect(")");
            return s;
        }
        if (source.peek().kind() != CppSource.Kind.STRING) {
            throw new Unreadable();
        }
        String s = source.string();
        if (source.peek().is("+")) {
            throw new Unreadable();
        }
        return s;
    }

    private List<Tool> toolList() {
        if (source.peek().kind() == CppSource.Kind.WORD && toolLists.containsKey(source.peek().text())) {
            return toolLists.get(source.next().text());
        }
        source.expect("{");
        var out = new ArrayList<Tool>();
        while (!source.accept("}")) {
            var t = tools.get(source.next().text());
            if (t == null) {
                throw new Unreadable();
            }
            out.add(t);
            source.accept(",");
        }
        return out;
    }

    private ParsedReply message() {
        String name = source.next().text();
        if (messages.containsKey(name)) {
            return messages.get(name);
        }
        source.expect("(");
        var args = new ArrayList<Object>();
        while (!source.accept(")")) {
            args.add(source.peek().is("{") ? calls() : text());
            source.accept(",");
        }
        return switch (name) {
            case "simple_assist_msg" -> reply(arg(args, 0), arg(args, 1), arg(args, 2), arg(args, 3), arg(args, 4));
            case "message_with_tool_calls" -> reply("", "", arg(args, 0), arg(args, 1), "");
            case "message_with_tool_calls_and_reasoning" -> reply("", arg(args, 2), arg(args, 0), arg(args, 1), "");
            case "message_with_content_and_tool_call" -> reply(arg(args, 0), "", arg(args, 1), arg(args, 2), "");
            case "message_with_reasoning_and_tool_call" -> reply("", arg(args, 0), arg(args, 1), arg(args, 2), "");
            case "message_with_reasoning_content_and_multiple_tool_calls" -> {
                @SuppressWarnings("unchecked")
                var calls = (List<ToolCall>) args.get(2);
                yield new ParsedReply(arg(args, 1), arg(args, 0), calls);
            }
            default -> throw new Unreadable();
        };
    }

    private static String arg(List<Object> args, int i) {
        return i < args.size() ? (String) args.get(i) : "";
    }

    private static ParsedReply reply(String content, String reasoning, String tool, String arguments, String id) {
        return new ParsedReply(content, reasoning, tool.isEmpty() ? List.of() : List.of(new ToolCall(id, tool, arguments)));
    }

    private List<ToolCall> calls() {
        source.expect("{");
        var out = new ArrayList<ToolCall>();
        while (!source.accept("}")) {
            source.expect("{");
            var parts = new ArrayList<String>();
            while (!source.accept("}")) {
                if (source.accept("{")) {
                    source.expect("}");
                    parts.add("");
                } else {
                    parts.add(text());
                }
                source.accept(",");
            }
            out.add(new ToolCall(parts.size() > 2 ? parts.get(2) : "", parts.get(0), parts.get(1)));
            source.accept(",");
        }
        return out;
    }

    private Case one(String template) {
        if (template == null) {
            throw new Unreadable();
        }
        var c = new Case();
        c.template = template;
        source.expect(".");
        source.expect("test");
        source.expect("(");
        c.input = text();
        source.expect(")");
        while (source.accept(".")) {
            String method = source.next().text();
            source.expect("(");
            switch (method) {
                case "run" -> {
                    source.expect(")");
                    return c;
                }
                case "reasoning_format" -> c.parsesReasoning = !source.next().is("COMMON_REASONING_FORMAT_NONE");
                case "enable_thinking" -> c.thinking = source.next().is("true");
                case "tools" -> c.tools = toolList();
                case "expect" -> {
                    var m = message();
                    c.content = m.content();
                    c.reasoning = m.reasoning();
                    c.calls = m.toolCalls();
                }
                case "expect_content" -> c.content = text();
                case "expect_reasoning" -> c.reasoning = text();
                case "expect_tool_calls" -> c.calls = calls();
                case "is_partial" -> {
                    if (source.next().is("true")) {
                        c.unlike = "partial calls";
                    }
                }
                case "add_generation_prompt", "continue_final_message", "messages" -> {
                    c.unlike = "continuations";
                    source.skipPast("(", ")");
                    continue;
                }
                case "json_schema" -> {
                    c.unlike = "schemas";
                    source.skipPast("(", ")");
                    continue;
                }
                case "parallel_tool_calls", "tool_choice", "expect_reconstruction" -> {
                    source.skipPast("(", ")");
                    continue;
                }
                default -> throw new Unreadable();
            }
            source.expect(")");
        }
        throw new Unreadable();
    }
}
