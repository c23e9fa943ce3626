package io.github.panamallama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.StateException;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Prompts and conversations that outlive their process: each {@link Llama} here stands for one. */
class SavedTest {
    private static final LlamaOptions OPTIONS =
            LlamaOptions.defaults().withContextSize(512).withThreads(2).withTemperature(0).withMaxTokens(16);
    private static final String PROMPT = "/**\n * The larger of two numbers.\n */\npublic static int max(";

    @TempDir
    private Path folder;

    private static Completion.Stats read(Llama llama, String prompt, GenerationOptions options, String expected) {
        try (var completion = llama.complete(prompt, options)) {
            assertEquals(expected, completion.text());
            return completion.stats();
        }
    }

    @Test
    void aPromptIsEvaluatedOnce() {
        var cached = OPTIONS.generation().withPromptCache(folder.resolve("prompt"));
        String expected;
        String longer;
        try (var llama = Llama.loadDefault(OPTIONS)) {
            expected = llama.complete(PROMPT).text();
            longer = llama.complete(PROMPT + "int a,").text();
            var stats = read(llama, PROMPT, cached, expected);
            assertEquals(0, stats.cachedTokens());
        }
        try (var llama = Llama.loadDefault(OPTIONS)) {
            var stats = read(llama, PROMPT, cached, expected);
            assertEquals(stats.promptTokens() - 1, stats.cachedTokens());
            assertEquals(0, read(llama, PROMPT, OPTIONS.generation(), expected).cachedTokens());
            stats = read(llama, PROMPT + "int a,", cached, longer);
            assertTrue(stats.cachedTokens() > 10 && stats.cachedTokens() < stats.promptTokens() - 1, stats.toString());
            stats = read(llama, PROMPT + "int a,", cached.withConfidence(true), longer);
            assertEquals(stats.promptTokens() - 1, stats.cachedTokens());
        }
    }

    @Test
    void theCacheOfPromptsHasOneModelAndPlan() throws IOException {
        var file = folder.resolve("prompt");
        var cached = OPTIONS.generation().withPromptCache(file);
        try (var llama = Llama.loadDefault(OPTIONS)) {
            llama.complete(PROMPT, cached).text();
            var planned = cached.withPlan(LayerPlan.parse("0-5,7", llama.model().layerCount()));
            var refused = assertThrows(StateException.class, () -> llama.complete(PROMPT, planned));
            assertTrue(refused.getMessage().contains("the plan 0-7, but this engine has 0-5,7; delete it"), refused.getMessage());
            Files.writeString(file, "my notes");
            refused = assertThrows(StateException.class, () -> llama.complete(PROMPT, cached));
            assertTrue(refused.getMessage().contains("prompt: it "), refused.getMessage());
            assertEquals("my notes", Files.readString(file));
            var nowhere = cached.withPromptCache(folder.resolve("none").resolve("prompt"));
            var failed = assertThrows(LlamaException.class, () -> llama.complete(PROMPT, nowhere).text());
            assertTrue(failed.getMessage().contains("can't write"), failed.getMessage());
        }
    }

    @Test
    void aRecurrentModelReusesItsPromptToo() {
        var path = folder.resolve("mamba.gguf");
        RandomModel.tiny(Architecture.MAMBA).write(path);
        var cached = OPTIONS.generation().withMaxTokens(4).withPromptCache(folder.resolve("prompt"));
        String expected;
        try (var llama = Llama.load(path, OPTIONS)) {
            expected = llama.complete("a text of some words", cached).text();
        }
        try (var llama = Llama.load(path, OPTIONS)) {
            var stats = read(llama, "a text of some words", cached, expected);
            assertEquals(stats.promptTokens() - 1, stats.cachedTokens());
            assertEquals(1 + stats.generatedTokens() - 1, llama.engine().stats().evaluated(), 1);
        }
    }

    @Test
    void anIsolatedModelKeepsPromptsAsWell() {
        var cached = OPTIONS.generation().withPromptCache(folder.resolve("prompt"));
        try (var llama = Llama.isolatedDefault(OPTIONS, IsolationOptions.defaults())) {
            var first = llama.complete(PROMPT, cached).text();
            try (var again = llama.complete(PROMPT, cached)) {
                assertEquals(first, again.text());
                assertEquals(again.stats().promptTokens() - 1, again.stats().cachedTokens());
            }
            var file = folder.resolve("chat.json");
            try (var chat = llama.chat()) {
                chat.send("What is a `List`?").text();
                chat.save(file);
                assertEquals(1, chat.turns());
                assertNull(chat.load(file).reason(), "what was evaluated came back");
            }
        }
    }

    @Test
    void aConversationGoesOnWhereItWas() throws IOException {
        var file = folder.resolve("chat.json");
        String expected;
        int length;
        try (var llama = Llama.loadDefault(OPTIONS); var chat = llama.chat("You explain Java.")) {
            chat.send("What does the class `ArrayList` do?").text();
            chat.save(file);
            length = chat.length();
            expected = chat.send("And `HashMap`?").text();
        }
        try (var llama = Llama.loadDefault(OPTIONS); var chat = llama.chat()) {
            chat.send("Something else").text();
            var loaded = chat.load(file);
            assertNull(loaded.reason());
            assertEquals(length, loaded.tokens());
            assertEquals(1, chat.turns());
            var reply = chat.send("And `HashMap`?");
            assertEquals(expected, reply.text());
            assertTrue(reply.stats().cachedTokens() >= length - 2, reply.stats() + " of " + length);

            Files.writeString(file.resolveSibling("chat.json.kv"), "nothing of the kind");
            loaded = chat.load(file);
            assertEquals(0, loaded.tokens());
            assertTrue(loaded.reason().contains("chat.json.kv"), loaded.reason());
            assertEquals(expected, chat.send("And `HashMap`?").text());

            Files.delete(file.resolveSibling("chat.json.kv"));
            assertTrue(chat.load(file).reason().contains("there is no"));
            assertEquals(expected, chat.send("And `HashMap`?").text());
        }
    }

    @Test
    void brokenConversationsAreRefusedAndChangeNothing() throws IOException {
        var file = folder.resolve("chat.json");
        try (var llama = Llama.loadDefault(OPTIONS); var chat = llama.chat()) {
            chat.send("What is a `List`?").text();
            chat.save(file);
            var whole = Files.readString(file);
            var before = chat.history();
            for (var broken : new String[] {"", "{", "[]", "{}", whole.replace("\"format\" : 1", "\"format\" : 7"), whole + "{}",
                    whole.replaceFirst("\"role\" : \"user\"", "\"role\" : null"), whole.replace("\"forgotten\" : 0", "\"forgotten\" : -1"),
                    whole.replace("\"content\"", "\"contents\""), whole.substring(0, whole.length() / 2)}) {
                assertNotEquals(whole, broken);
                Files.writeString(file, broken);
                var refused = assertThrows(LlamaException.class, () -> chat.load(file), broken);
                assertTrue(refused.getMessage().contains("chat.json holds no conversation"), refused.getMessage());
                assertEquals(before, chat.history());
            }
            var refused = assertThrows(LlamaException.class, () -> chat.load(folder.resolve("none.json")));
            assertTrue(refused.getMessage().contains("can't be read"), refused.getMessage());
            refused = assertThrows(LlamaException.class, () -> chat.save(folder.resolve("none").resolve("chat.json")));
            assertTrue(refused.getMessage().contains("can't write the conversation"), refused.getMessage());
            assertFalse(Files.exists(folder.resolve("none")));
        }
    }
}
