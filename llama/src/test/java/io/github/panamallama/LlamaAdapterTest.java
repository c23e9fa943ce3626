package io.github.panamallama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.ClosedException;
import io.github.panamallama.runtime.chat.ChatMessage;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.strategy.BeamSearch;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Adapters chosen per request. Greedy texts of equal batch shapes are compared; under the random adapters used here they part at once
 * from those of the model as it is.
 */
class LlamaAdapterTest {
    /** F16, in which batch shapes change logits least. */
    private static final Path MODEL = Path.of("..", "models", "java-tiny-f16.gguf");
    private static final String PROMPT = "public final class Point {\n    private final int x;\n";
    private static final String QUESTION = "What does the method `isEmpty` of `StringUtils` do?";
    private static final GenerationOptions GREEDY = GenerationOptions.defaults().withTemperature(0).withMaxTokens(24);

    @TempDir
    static Path folder;
    private static Path oneFile;
    private static Path otherFile;
    private static Llama llama;
    private static AdapterSet one;
    private static AdapterSet other;

    @BeforeAll
    static void load() {
        var base = GgufFile.read(MODEL);
        oneFile = RandomAdapter.of(1).write(base, folder.resolve("one.gguf"));
        otherFile = RandomAdapter.of(2).write(base, folder.resolve("other.gguf"));
        llama = open();
        one = AdapterSet.of(llama.adapter(oneFile));
        other = AdapterSet.of(llama.adapter(otherFile));
    }

    @AfterAll
    static void close() {
        llama.close();
    }

    private static Llama open() {
        return Llama.load(MODEL, LlamaOptions.defaults().withContextSize(1024).withThreads(2).withGeneration(GREEDY));
    }

    // --- errors -----------------------------------------------------------------------------------------------------------

    @Test
    void filesThatAreNoAdapterOfThisModelAreRefusedAndLeaveItAsItWas() {
        var before = llama.complete(PROMPT).text();
        var loaded = llama.adapters();
        var stranger = folder.resolve("tiny.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(stranger);
        var foreign = RandomAdapter.of(3).write(GgufFile.read(stranger), folder.resolve("foreign.gguf"));
        assertThrows(GgufException.class, () -> llama.adapter(folder.resolve("missing.gguf")));
        assertThrows(AdapterException.class, () -> llama.adapter(stranger));
        var refused = assertThrows(AdapterException.class, () -> llama.adapter(foreign));
        assertTrue(refused.getMessage().contains("foreign.gguf"), refused.getMessage());
        assertEquals(loaded, llama.adapters());
        assertEquals(before, llama.complete(PROMPT).text());
    }

    @Test
    void anAdapterOfAnotherModelIsRefusedByEveryRequest() {
        try (var elsewhere = open()) {
            var foreign = AdapterSet.of(elsewhere.adapter(oneFile));
            var options = GREEDY.withAdapters(foreign);
            assertThrows(IllegalArgumentException.class, () -> llama.complete(PROMPT, options));
            assertThrows(IllegalArgumentException.class, () -> llama.infill("int x = ", ";", options));
            assertThrows(IllegalArgumentException.class, () -> llama.generate(PROMPT, Grammar.choices(List.of("a", "b")), options));
            assertThrows(IllegalArgumentException.class, () -> llama.aligned(PROMPT, Grammar.choices(List.of("a", "b")), options, 1));
            assertThrows(IllegalArgumentException.class, () -> llama.chat(ChatOptions.defaults().withGeneration(options)));
            try (var chat = llama.chat()) {
                var answer = chat.send(QUESTION).text();
                assertThrows(IllegalArgumentException.class, () -> chat.adapters(foreign));
                assertEquals(AdapterSet.none(), chat.adapters());
                assertEquals(answer, chat.history().getLast().content(), "the conversation is as before");
                assertFalse(chat.send("And `size`?").text().isBlank());
            }
        }
    }

    @Test
    void aClosedAdapterIsRefusedAndItsPathLoadsItAgain() {
        var file = RandomAdapter.of(4).write(GgufFile.read(MODEL), folder.resolve("closed.gguf"));
        var adapter = llama.adapter(file);
        adapter.close();
        assertThrows(ClosedException.class, () -> llama.complete(PROMPT, GREEDY.withAdapters(AdapterSet.of(adapter))));
        assertFalse(llama.adapters().contains(adapter));
        assertNotSame(adapter, llama.adapter(file));
        llama.adapter(file).close();
    }

    // --- loading ----------------------------------------------------------------------------------------------------------

    @Test
    void aPathIsLoadedOnceAndClosedWithTheModel() {
        Adapter adapter;
        try (var own = open()) {
            adapter = own.adapter(oneFile);
            assertSame(adapter, own.adapter(folder.resolve(".").resolve("one.gguf")));
            assertEquals(List.of(adapter), own.adapters());
            own.complete(PROMPT, GREEDY.withAdapters(AdapterSet.of(adapter))).iterator().next();     // left open, with its sequence
        }
        assertTrue(adapter.closed());
    }

    // --- requests ---------------------------------------------------------------------------------------------------------

    @Test
    void requestsOfEveryKindAreAnsweredUnderTheirAdapters() {
        var adapted = GREEDY.withAdapters(one);
        assertNotEquals(llama.complete(PROMPT, GREEDY).text(), llama.complete(PROMPT, adapted).text());
        assertNotEquals(llama.complete(PROMPT, adapted).text(), llama.complete(PROMPT, GREEDY.withAdapters(other)).text());
        assertNotEquals(llama.infill("int x = ", ";\n").text(), llama.infill("int x = ", ";\n", adapted).text());
        var names = Grammar.regex("[a-z]{12}");
        assertNotEquals(llama.generate("Name: ", names), llama.generate("Name: ", names, adapted));
        var search = new BeamSearch(2, 1);
        assertNotEquals(llama.complete(PROMPT, GREEDY.withStrategy(search)).text(),
                llama.complete(PROMPT, adapted.withStrategy(search)).text());
    }

    @Test
    void alignedTextsAreDrawnFromTheAdaptedModel() {
        var language = Grammar.choices(List.of("a", "b", "c"));
        try (var base = llama.aligned(PROMPT, language); var adapted = llama.aligned(PROMPT, language, GREEDY.withAdapters(one), 1)) {
            double difference = base.enumerate(200).logMass() - adapted.enumerate(200).logMass();
            assertTrue(Math.abs(difference) > 0.1, "log masses differ by " + difference);
        }
    }

    @Test
    void scaleZeroIsTheModelAsItIs() {
        assertEquals(llama.complete(PROMPT).text(),
                llama.complete(PROMPT, GREEDY.withAdapters(AdapterSet.of(llama.adapter(oneFile), 0))).text());
    }

    @Test
    void requestsAtTheSameTimeKeepToTheirOwnAdapters() throws Exception {
        var sets = List.of(AdapterSet.none(), one, other, AdapterSet.of(llama.adapter(oneFile), 0.5f).with(llama.adapter(otherFile), 0.5f));
        var alone = new ArrayList<String>();
        for (var set : sets) {
            alone.add(llama.complete(PROMPT, GREEDY.withAdapters(set)).text());
        }
        assertEquals(4, Set.copyOf(alone).size(), "all differ: " + alone);
        try (var threads = Executors.newFixedThreadPool(4)) {
            var tasks = new ArrayList<Callable<String>>();
            for (var set : sets) {
                tasks.add(() -> llama.complete(PROMPT, GREEDY.withAdapters(set)).text());
            }
            var together = new ArrayList<String>();
            for (var task : threads.invokeAll(tasks)) {
                together.add(task.get());
            }
            // beside others a row is rounded otherwise, and a text may part from its own where two tokens are as good as equal, but
            // not at its start, where the other sets' texts have parted from it
            for (int i = 0; i < sets.size(); i++) {
                int common = commonPrefix(alone.get(i), together.get(i));
                for (int j = 0; j < sets.size(); j++) {
                    if (j != i) {
                        assertTrue(common > commonPrefix(alone.get(i), alone.get(j)), i + ": " + together.get(i) + " for " + alone.get(i));
                    }
                }
            }
        }
    }

    private static int commonPrefix(String a, String b) {
        int i = 0;
        while (i < Math.min(a.length(), b.length()) && a.charAt(i) == b.charAt(i)) {
            i++;
        }
        return i;
    }

    // --- conversations ----------------------------------------------------------------------------------------------------

    private static Chat chat(AdapterSet set) {
        return llama.chat(ChatOptions.defaults().withGeneration(GREEDY.withAdapters(set)));
    }

    @Test
    void aConversationKeepsToTheAdaptersOfItsOptions() {
        try (var chat = chat(one); var base = chat(AdapterSet.none())) {
            assertEquals(one, chat.adapters());
            assertNotEquals(base.send(QUESTION).text(), chat.send(QUESTION).text());
            chat.reset();
            assertEquals(one, chat.adapters());
        }
    }

    @Test
    void aSwitchedConversationAnswersAsOneThatWasAlwaysUnderTheSet() {
        try (var chat = chat(AdapterSet.none())) {
            chat.send(QUESTION).text();
            for (var set : List.of(one, other, AdapterSet.none(), one)) {
                chat.adapters(set);
                assertEquals(set, chat.adapters());
                var turns = new ArrayList<>(chat.history());
                turns.add(ChatMessage.user("And `size`?"));
                var reply = chat.send("And `size`?");
                var answer = reply.text();
                try (var always = chat(set)) {
                    assertEquals(always.send(turns.toArray(ChatMessage[]::new)).text(), answer, "under " + set);
                }
                assertEquals(0, reply.stats().cachedTokens(), "nothing that another set evaluated is used");
                var next = chat.send("Why?");
                next.text();
                assertTrue(next.stats().cachedTokens() > reply.stats().promptTokens(), "what the same set evaluated is: " + next.stats());
            }
        }
    }

    @Test
    void anEqualSetChangesNothing() {
        try (var chat = chat(one)) {
            chat.send(QUESTION).text();
            int length = chat.length();
            chat.adapters(AdapterSet.of(llama.adapter(oneFile)));
            assertEquals(length, chat.length());
        }
    }

    @Test
    void switchingEndsAReplyThatIsStillComing() {
        try (var chat = chat(AdapterSet.none())) {
            var reply = chat.send(QUESTION);
            reply.iterator().next();
            chat.adapters(one);
            assertEquals(2, chat.history().size(), "what was said is kept");
            assertFalse(chat.send("And `size`?").text().isBlank());
        }
    }

    /** What stands before the tokens that activate it is evaluated without it, and stays. */
    @Test
    void anActivatedAdapterKeepsWhatStandsBeforeItsTokens() {
        int[] answerBegins = llama.model().vocabulary().tokenize("<|im_start|>assistant", false, true);
        var file = folder.resolve("activated.gguf");
        GgufWriter.copyOf(GgufFile.read(oneFile)).putU32s("adapter.alora.invocation_tokens", answerBegins).write(file);
        try (var activated = Adapter.load(llama.model(), file); var chat = chat(AdapterSet.none())) {
            chat.send(QUESTION).text();
            int before = chat.length();
            chat.adapters(AdapterSet.of(activated));
            int kept = chat.length();
            assertTrue(kept > 0 && kept < before, kept + " of " + before + " tokens are kept");
            var reply = chat.send("And `size`?");
            reply.text();
            assertEquals(kept, reply.stats().cachedTokens());
            chat.adapters(AdapterSet.none());
            assertEquals(kept, chat.length(), "and back");
        }
    }
}
