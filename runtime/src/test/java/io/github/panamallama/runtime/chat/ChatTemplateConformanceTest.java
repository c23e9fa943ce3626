package io.github.panamallama.runtime.chat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Rendering: every template of upstream's tree, and the prompts that upstream's own tests expect, read from their sources. */
class ChatTemplateConformanceTest {
    @Test
    void everyTemplateOfUpstreamsTreeRendersAStandardConversation() throws Exception {
        var failures = new ArrayList<String>();
        var conversation = List.of(ChatMessage.system("You are terse."), ChatMessage.user("How many legs has a spider?"),
                ChatMessage.assistant("Eight."), ChatMessage.user("And a crab?"));
        var templates = Upstream.templates();
        for (var file : templates) {
            try {
                var template = ChatTemplate.of(Files.readString(file), "<s>", "</s>");
                var out = template.text(conversation, PromptOptions.defaults());
                for (var part : List.of("You are terse.", "How many legs has a spider?", "Eight.", "And a crab?")) {
                    if (!out.contains(part)) {
                        failures.add(file.getFileName() + " drops: " + part);
                    }
                }
                if (template.supportsTools() && !template.text(conversation,
                        PromptOptions.defaults().withTools(Traits.PROBE_TOOL)).contains("probe_tool")) {
                    failures.add(file.getFileName() + " drops the tool");
                }
            } catch (ChatTemplateException e) {
                failures.add(file.getFileName() + ": " + e.getMessage());
            }
        }
        System.out.println("chat templates: " + (templates.size() - failures.size()) + " of " + templates.size() + " render");
        assertTrue(templates.size() >= 70, templates.size() + " templates");
        assertEquals(List.of(), failures);
    }

    @Test
    void promptsEqualThoseThatUpstreamsTemplateTestExpects() throws Exception {
        var source = CppSource.of(Upstream.root().resolve("tests/test-chat-template.cpp"));
        while (!(source.peek().is("test_cases") && source.peek(1).is("{"))) {
            source.next();
        }
        source.next();
        source.next();
        var base = List.of(ChatMessage.system("You are a helpful assistant"), ChatMessage.user("Hello"), ChatMessage.assistant("Hi there"),
                ChatMessage.user("Who are you"), ChatMessage.assistant("   I am an assistant   "), ChatMessage.user("Another question"));
        var failures = new ArrayList<String>();
        int cases = 0;
        int unsupported = 0;
        while (source.accept("{")) {
            var fields = new ArrayList<String>();
            boolean supported = true;
            var conversation = new ArrayList<>(base);
            while (!source.accept("}")) {
                if (source.peek().kind() == CppSource.Kind.STRING) {
                    fields.add(source.string());
                } else if (source.accept("U8C")) {
                    source.expect("(");
                    fields.add(source.string());
                    source.expect(")");
                } else if (source.peek().is("true") || source.peek().is("false")) {
                    supported = source.next().is("true");
                } else if (source.peek().is("{")) {
                    for (Object message : extra(source.json())) {
                        var pair = (List<?>) message;
                        conversation.add(new ChatMessage((String) pair.get(0), (String) pair.get(1)));
                    }
                } else {
                    source.next();
                }
            }
            source.accept(",");
            if (!supported) {
                unsupported++;
                continue;
            }
            cases++;
            String expected = fields.get(3).isEmpty() ? fields.get(2) : fields.get(3);
            String got;
            try {
                got = ChatTemplate.of(fields.get(1), fields.size() > 4 ? fields.get(4) : "", fields.size() > 5 ? fields.get(5) : "")
                        .text(conversation, PromptOptions.defaults());
            } catch (ChatTemplateException e) {
                got = "(" + e.getMessage() + ")";
            }
            if (!got.equals(expected)) {
                failures.add(fields.get(0) + "\n  expected " + expected.replace("\n", "\\n") + "\n  found    " + got.replace("\n", "\\n"));
            }
        }
        System.out.println("upstream's rendered prompts: " + (cases - failures.size()) + " of " + cases + " equal; " + unsupported
                + " that upstream itself does not run on Jinja left out");
        assertEquals(List.of(), failures);
        assertTrue(cases >= 30, cases + " cases");
    }

    /** Role and content pairs; the reader takes a brace list of pairs with a string first for an object. */
    private static List<Object> extra(Object json) {
        var out = new ArrayList<Object>();
        if (json instanceof Map<?, ?> map) {
            map.forEach((k, v) -> out.add(List.of(k, v)));
        } else {
            out.addAll((List<?>) json);
        }
        return out;
    }
}
