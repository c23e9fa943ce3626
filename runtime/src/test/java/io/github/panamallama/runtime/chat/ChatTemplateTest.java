package io.github.panamallama.runtime.chat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ChatTemplateTest {
    private static final String CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
            + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    private static String render(String template) {
        return new JinjaTemplate(template).render(new LinkedHashMap<>(), Clock.systemUTC(), 0);
    }

    /** Each would take hours or gigabytes, or reach out of the template, if it were let. */
    @ParameterizedTest
    @ValueSource(strings = {
        "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% if false %}x{% endif %}{% endfor %}{% endfor %}",
        "{{ range(1000000000)|length }}",
        "{{ ('x' * 1000000000)|length }}",
        "{{ (['x'] * 1000000000)|length }}",
        "{% set ns = namespace(s='xx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}",
        "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}"
            + "{{ ns.a == ns.b }}",
        "{% set l = [] %}{% set _ = l.append(l) %}{{ l }}",
        "{% set a = [] %}{% set b = [] %}{% set _ = a.append(a) %}{% set _ = b.append(b) %}{{ a == b }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% set a = 'a' * 1000000 %}{% set b = 'a' * 500000 ~ 'b' %}{% for i in range(10000) %}{{ b in a }}{% endfor %}",
        "{% for i in range(100000) %}{{ 'x' * 10000 }}{% endfor %}",
        "{{ 'x'|center(1000000000)|length * 'y' * 1000000 * 'z' }}",
        "{{ '%0999999999d' % 5 }}",
        "{{ 9 ** 9999999 }}",
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as p %}",
        "{% extends '/etc/passwd' %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ ''.getClass().forName('java.lang.Runtime') }}",
        "{{ messages.getClass() }}",
        "{{ namespace().class.name }}",
        "{{ ____int3rpr3t3r____.config }}",
    })
    void aHostileTemplateNeitherHangsNorFillsTheHeapNorReachesOut(String template) {
        assertTimeoutPreemptively(Duration.ofSeconds(60), () -> {
            var e = assertThrows(ChatTemplateException.class, () -> render(template));
            assertFalse(e.getMessage().isBlank());
        });
    }

    @ParameterizedTest
    @ValueSource(ints = {1_000, 300_000})
    void deepNestingIsRefused(int depth) {
        for (var unit : List.of("(", "[", "{%if 1%}", "-", "not ", "1 if ")) {
            String template = (unit.startsWith("{%") ? "" : "{{ ") + unit.repeat(depth) + "1";
            assertThrows(ChatTemplateException.class, () -> render(template), unit);
        }
    }

    @Test
    void theMessageNamesLineAndCause() {
        var e = assertThrows(ChatTemplateException.class, () -> render("one\ntwo\n{{ missing.part }}\n"));
        assertEquals(3, e.line());
        assertTrue(e.getMessage().contains("line 3") && e.getMessage().contains("missing"), e.getMessage());
        e = assertThrows(ChatTemplateException.class, () -> ChatTemplate.of("\n{% if x %}", "", ""));
        assertEquals(2, e.line());
        e = assertThrows(ChatTemplateException.class, () -> render("{{ raise_exception('No system role') }}"));
        assertTrue(e.getMessage().contains("No system role"), e.getMessage());
        assertThrows(ChatTemplateException.class, () -> render("{{ 1 +"));
        assertThrows(ChatTemplateException.class, () -> render("{% frobnicate %}"));
        assertThrows(ChatTemplateException.class, () -> render("{{ x|frobnicate }}"));
        assertThrows(ChatTemplateException.class, () -> render("{% break %}"));
    }

    @Test
    void longConversationsStayWithinTheLimits() {
        var messages = new ArrayList<ChatMessage>();
        String text = "word ".repeat(2000);
        for (int i = 0; i < 500; i++) {
            messages.add(i % 2 == 0 ? ChatMessage.user(text) : ChatMessage.assistant(text));
        }
        String out = ChatTemplate.of(CHATML, "", "").render(messages).text();
        assertTrue(out.length() > 500 * text.length());
    }

    @Test
    void aTemplateCannotChangeWhatItWasGiven() {
        var schema = Tool.of("t", "d", "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}}}");
        String before = schema.parameters().toString();
        var template = ChatTemplate.of("{% set _ = tools[0].function.parameters.properties.pop('a') if tools else 0 %}{% for m in messages %}{{ m.content }}{% endfor %}", "", "");
        assertEquals("hello", template.render(List.of(ChatMessage.user("hello")), PromptOptions.defaults().withTools(schema)).text());
        assertEquals(before, schema.parameters().toString());
    }

    @Test
    void variablesClockAndTokensReachTheTemplate() {
        var template = ChatTemplate.of("{{ bos_token }}{{ strftime_now('%d %B %Y %H:%M') }} {{ effort }} {{ nested.list[1] }}"
                + "{% for m in messages %}{{ m.content }}{% endfor %}{{ eos_token }}", "<s>", "</s>");
        var options = PromptOptions.defaults().withClock(Clock.fixed(Instant.parse("2026-02-03T04:05:06Z"), ZoneOffset.UTC))
                .withVariable("effort", "high").withVariable("nested", Map.of("list", List.of(1, 2)));
        assertEquals("<s>03 February 2026 04:05 high 2Hi</s>", template.render(List.of(ChatMessage.user("Hi")), options).text());
        assertThrows(ChatTemplateException.class,
                () -> template.render(List.of(ChatMessage.user("Hi")), PromptOptions.defaults().withVariable("x", new Object())));
    }

    @Test
    void whatLooksLikeACallAndIsNoneStaysContent() {
        var template = ChatTemplate.of("{% if tools %}{{ tools|tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
                + "{% for t in m.tool_calls or [] %}\n<tool_call>\n{{ t.function|tojson }}\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
                + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", "", "");
        var tool = Tool.of("add", "Adds", "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}");
        var prompt = template.render(List.of(ChatMessage.user("Hi")), PromptOptions.defaults().withTools(tool));
        var call = prompt.parse("Well.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call><|im_end|>\n");
        assertEquals(new ParsedReply("Well.", "", List.of(new ToolCall("add", "{\"a\":1}"))), call);
        for (var text : List.of("<tool_call> is a tag.", "<tool_call>\n{\"name\": \"add\", \"arg",
                "a <tool_call>{broken json}</tool_call> b", "<tool_c",
                "{\"name\": \"add\"}")) {
            assertEquals(new ParsedReply(text, "", List.of()), prompt.parse(text));
        }
        // without tools in the prompt nothing is a call
        var plain = template.render(List.of(ChatMessage.user("Hi")));
        String text = "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>";
        assertEquals(text, plain.parse(text).content());
        assertEquals(List.of("<|im_end|>"), plain.stopStrings());
    }

    @Test
    void partialMarkersNeverLeak() {
        var template = ChatTemplate.of("{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
                + "{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}", "", "");
        var prompt = template.render(List.of(ChatMessage.user("Hi")));
        assertTrue(prompt.opensReasoning());
        var parser = prompt.parser();
        var seen = new StringBuilder();
        for (char c : "Hm <t.\n</thin king</think>\n\nYes < no.<|im_end|>\nmore".toCharArray()) {
            var delta = parser.push(String.valueOf(c));
            seen.append(delta.reasoning()).append(delta.content());
            assertFalse(seen.toString().contains("</think") || seen.toString().contains("<|im"), seen.toString());
        }
        parser.end();
        assertEquals(new ParsedReply("Yes < no.", "Hm <t.\n</thin king", List.of()), parser.reply());
        assertThrows(IllegalStateException.class, () -> parser.push("x"));
    }

    @Test
    void builtInTemplatesStandInWhereTheModelsOwnCantBeUsed() {
        var conversation = List.of(ChatMessage.system("Be brief."), ChatMessage.user("Hi"));
        String chatml = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
        assertEquals(chatml, ChatTemplate.builtin("chatml").render(conversation).text());
        assertEquals(chatml, ChatTemplate.ofModelFile(null, "", "").render(conversation).text());
        assertEquals(chatml, ChatTemplate.ofModelFile("<|im_start|> {% unknown_tag %}", "", "").render(conversation).text());
        assertEquals(chatml, ChatTemplate.ofModelFile(CHATML, "", "").render(conversation).text());
        assertEquals(List.of("<|im_end|>"), ChatTemplate.builtin("chatml").render(conversation).stopStrings());
        assertThrows(ChatTemplateException.class, () -> ChatTemplate.builtin("no such template"));
        assertThrows(ChatTemplateException.class, () -> ChatTemplate.ofModelFile("{% unknown_tag %}", "", ""));
        assertThrows(ChatTemplateException.class, () -> ChatTemplate.builtin("chatml").render(List.of(ChatMessage.user("a\0b"))));
        String longText = "x".repeat(100_000);
        assertTrue(ChatTemplate.builtin("llama3").render(List.of(ChatMessage.user(longText))).text().contains(longText));
    }

    @Test
    void aModelBringsItsTemplateAndTokens(@TempDir Path folder) {
        var path = folder.resolve("m.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).writer()
                .put("tokenizer.chat_template", "{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}").write(path);
        try (var model = Model.load(path)) {
            var prompt = ChatTemplate.of(model).render(List.of(ChatMessage.user("Hi")));
            assertTrue(prompt.text().endsWith("[Hi]"), prompt.text());
            assertEquals(!prompt.text().equals("[Hi]"), prompt.startsWithBos());
        }
    }

    @Test
    void manyThreadsRenderTheSame() throws Exception {
        var template = ChatTemplate.of(CHATML, "", "");
        try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            var results = new ArrayList<Future<Boolean>>();
            for (int i = 0; i < 64; i++) {
                String text = "message " + i;
                results.add(threads.submit(() -> {
                    for (int k = 0; k < 20; k++) {
                        if (!template.render(List.of(ChatMessage.user(text))).text().contains("user\n" + text + "<|im_end|>")) {
                            return false;
                        }
                    }
                    return true;
                }));
            }
            for (var r : results) {
                assertTrue(r.get());
            }
        }
    }
}
