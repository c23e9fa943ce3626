package io.github.panamallama.runtime.chat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** What a template writes for an assistant's turn, the parser takes apart into the same parts: for every template, whole and in pieces. */
class ReplyRoundTripTest {
    private static final Tool WEATHER = Tool.of("get_weather", "Weather of a city", """
            {"type": "object", "properties": {
              "city": {"type": "string", "description": "The city"},
              "days": {"type": "integer", "description": "How many days"},
              "detailed": {"type": "boolean", "description": "More of it"}}, "required": ["city"]}""");
    private static final Tool TIME = Tool.of("get_time", "Time of a city", """
            {"type": "object", "properties": {"city": {"type": "string", "description": "The city"}}, "required": ["city"]}""");
    private static final ToolCall CALL = new ToolCall("call00001", "get_weather",
            "{\"city\": \"São \\\"Paulo\\\"\\n<SP>\", \"days\": 3, \"detailed\": true}");
    private static final ToolCall OTHER = new ToolCall("call00002", "get_time", "{\"city\": \"Rome & Vatican\"}");

    /** Turns whose parts can't be told apart in what the template writes. */
    private static boolean ambiguous(String template, Turn turn) {
        return switch (template) {
            // opens a reasoning in the turn and puts the content into it
            case "NVIDIA-Nemotron-Nano-v2.jinja" -> !turn.content.isEmpty();
            // writes the content beside a call as analysis
            case "openai-gpt-oss-120b.jinja" -> !turn.content.isEmpty() && !turn.calls.isEmpty();
            default -> false;
        };
    }

    record Turn(String content, String reasoning, List<ToolCall> calls) {
        boolean shownIn(String text) {
            return text.contains(content) && text.contains(reasoning) && calls.stream().allMatch(c -> text.contains(c.name()));
        }
    }

    private static final List<Turn> TURNS = List.of(
            new Turn("Hello there,\n\nhow are you?", "", List.of()),
            new Turn("The answer is 4 < 5.", "Let me think.\n\nTwo and two.", List.of()),
            new Turn("", "", List.of(CALL)),
            new Turn("", "", List.of(CALL, OTHER)),
            new Turn("I will look it up.", "", List.of(CALL)),
            new Turn("I will look it up.", "", List.of(OTHER, CALL)),
            new Turn("", "Which city?", List.of(CALL)),
            new Turn("I will look it up.", "Which city?", List.of(OTHER, CALL)));

    private static String calls(List<ToolCall> calls) {
        var out = new StringBuilder();
        for (var c : calls) {
            var tree = Json.tryParse(c.arguments());
            out.append(c.name()).append(tree == null ? "?" + c.arguments() : Json.write(tree)).append(' ');
        }
        return out.toString();
    }

    private static String describe(ParsedReply r) {
        return "content=" + r.content() + " | reasoning=" + r.reasoning() + " | calls=" + calls(r.toolCalls());
    }

    /** The turn as the template writes it behind the prompt; null where it leaves a part out or the prompt is no prefix of it. */
    private static String answer(ChatTemplate template, Turn turn, RenderedPrompt prompt, PromptOptions options,
            List<ChatMessage> messages) {
        var all = new ArrayList<>(messages);
        all.add(new ChatMessage("assistant", turn.content, turn.reasoning, turn.calls, "", ""));
        String full;
        try {
            full = template.text(all, options.withGenerationPrompt(false));
        } catch (ChatTemplateException e) {
            return null;
        }
        String head = prompt.text();
        int user = head.lastIndexOf("Probe question");
        if (!full.startsWith(head)) {
            return null;
        }
        String answer = full.substring(head.length());
        String shown = full.substring(user);
        return turn.shownIn(shown) ? answer : null;
    }

    @Test
    void everyTemplatesOwnTurnsParseBackWholeAndInPieces() throws Exception {
        long seed = Long.getLong("panamallama.seed", System.nanoTime());
        System.out.println("seed " + seed + " (-Dpanamallama.seed=)");
        var random = new Random(seed);
        var failures = new ArrayList<String>();
        int checked = 0;
        int unseen = 0;
        var covered = new java.util.TreeSet<String>();
        var withCalls = new java.util.TreeSet<String>();
        var messages = List.of(ChatMessage.user("Probe question"));
        for (Path file : Upstream.templates()) {
            String name = file.getFileName().toString();
            var template = ChatTemplate.of(Files.readString(file), "<s>", "</s>");
            for (var turn : TURNS) {
                String answer = null;
                RenderedPrompt prompt = null;
                // the prompt must be the head of what the template writes for this turn: with or without an opened reasoning
                for (var thinking : turn.reasoning.isEmpty() ? new Boolean[] {null, false, true} : new Boolean[] {null, true}) {
                    var options = PromptOptions.defaults().withTools(WEATHER, TIME).withThinking(thinking).withClock(Traits.PROBE_CLOCK);
                    try {
                        prompt = template.render(messages, options);
                    } catch (ChatTemplateException e) {
                        continue;
                    }
                    answer = answer(template, turn, prompt, options, messages);
                    if (answer != null) {
                        break;
                    }
                }
                if (answer == null || ambiguous(name, turn)) {
                    unseen++;
                    continue;
                }
                checked++;
                covered.add(name);
                if (!turn.calls.isEmpty()) {
                    withCalls.add(name);
                }
                var want = describe(new ParsedReply(turn.content, turn.reasoning, turn.calls));
                var whole = prompt.parse(answer);
                if (!describe(whole).equals(want)) {
                    failures.add(name + "\n    want " + want + "\n    got  " + describe(whole) + "\n    from " + answer + "\n    "
                            + template.format());
                    continue;
                }
                for (int round = 0; round < 5; round++) {
                    var parser = prompt.parser();
                    var content = new StringBuilder();
                    var reasoning = new StringBuilder();
                    var calls = new ArrayList<ToolCall>();
                    for (int at = 0; at < answer.length();) {
                        int n = round == 0 ? 1 : 1 + random.nextInt(12);
                        var delta = parser.push(answer.substring(at, Math.min(answer.length(), at + n)));
                        content.append(delta.content());
                        reasoning.append(delta.reasoning());
                        calls.addAll(delta.toolCalls());
                        at += n;
                    }
                    var delta = parser.end();
                    content.append(delta.content());
                    reasoning.append(delta.reasoning());
                    calls.addAll(delta.toolCalls());
                    for (var got : List.of(parser.reply(), new ParsedReply(content.toString(), reasoning.toString(), calls))) {
                        if (!describe(got).equals(want)) {
                            failures.add(name + " in pieces (round " + round + ")\n    want " + want + "\n    got  " + describe(got)
                                    + "\n    from " + answer + "\n    " + template.format());
                            round = 5;
                        }
                    }
                }
            }
        }
        System.out.println("turns parsed back: " + (checked - failures.size()) + " of " + checked + " in " + covered.size()
                + " templates, calls in "
                + withCalls.size() + "; " + unseen + " turns that the template does not write in full or not behind its own prompt");
        assertEquals("", String.join("\n", failures));
        assertTrue(checked >= 250, checked + " turns");
        assertTrue(withCalls.size() >= 50, withCalls.size() + " templates with calls");
    }
}
