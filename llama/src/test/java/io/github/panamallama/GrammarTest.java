package io.github.panamallama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.chat.Tool;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.IncompleteException;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarVocabulary;
import io.github.panamallama.sampling.grammar.Trigger;
import io.github.panamallama.sampling.strategy.AdaDec;
import io.github.panamallama.sampling.strategy.BeamSearch;
import io.github.panamallama.sampling.strategy.BestOfN;
import io.github.panamallama.sampling.strategy.ContrastiveSearch;
import io.github.panamallama.sampling.strategy.EntropySwitching;
import io.github.panamallama.sampling.strategy.NGramDrafts;
import io.github.panamallama.sampling.strategy.Plain;
import io.github.panamallama.sampling.strategy.PlanDrafts;
import io.github.panamallama.sampling.strategy.Speculative;
import io.github.panamallama.sampling.strategy.Strategy;
import io.github.panamallama.sampling.strategy.TrigramTable;
import io.github.panamallama.sampling.strategy.Uscd;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Values, grammars and strategies by the facade, on the shipped model. */
class GrammarTest {
    record City(String name, int population, List<String> sights, Optional<City> sister) {
    }

    enum Size { SMALL, LARGE }

    private static final String PROMPT = "public static int max(";
    private static final GenerationOptions GREEDY = GenerationOptions.defaults().withTemperature(0).withMaxTokens(48);
    private static final Grammar JSON = Grammar.json();

    private static Llama llama;

    @BeforeAll
    static void load() {
        llama = Llama.loadDefault(LlamaOptions.defaults().withContextSize(1024).withThreads(2).withGeneration(GREEDY));
    }

    @AfterAll
    static void close() {
        llama.close();
    }

    @Test
    void aRecordComesFromAPrompt() {
        for (int seed = 0; seed < 20; seed++) {
            var city = llama.generate("The capital of France:", City.class, GREEDY.withTemperature(1.5f).withSeed(seed).withMaxTokens(40));
            assertFalse(city.name() == null || city.sights() == null || city.sister() == null, city.toString());
        }
        assertEquals(llama.generate(PROMPT, City.class), llama.generate(PROMPT, City.class), "greedy");
        assertTrue(Set.of(Size.values()).contains(llama.generate("The size is ", Size.class)));
    }

    @Test
    void aTypeWithoutASchemaIsRefusedByName() {
        var error = assertThrows(IllegalArgumentException.class, () -> llama.generate(PROMPT, Runnable.class));
        assertTrue(error.getMessage().contains("Runnable"), error.getMessage());
    }

    @Test
    void textsOfAGrammarAreAlwaysWhole() {
        for (int most = 1; most < 40; most += 3) {
            for (int seed = 0; seed < 6; seed++) {
                var options = GREEDY.withTemperature(2).withSeed(seed).withMaxTokens(most);
                var completion = llama.complete(PROMPT, options.withGrammar(JSON));
                var text = completion.text();
                assertTrue(JSON.accepts(text), text);
                assertTrue(completion.stats().generatedTokens() <= most, text);
                assertEquals(text, llama.generate(PROMPT, JSON, options));
            }
        }
    }

    @Test
    void theContextIsRoomToo() {
        try (var small = Llama.loadDefault(LlamaOptions.defaults().withContextSize(256).withThreads(2))) {
            var strings = Grammar.regex("\"[a-z]*\"");
            var text = small.generate(PROMPT, strings, GREEDY.withMaxTokens(0));
            assertTrue(strings.accepts(text), text);
        }
    }

    @Test
    void tooFewTokensForAnyTextAreRefusedBeforeAnything() {
        var error = assertThrows(ConstraintException.class,
                () -> llama.generate(PROMPT, Grammar.regex("[0-9]{200}"), GREEDY.withMaxTokens(20)));
        assertTrue(error.getMessage().contains("room for 20"), error.getMessage());
        assertFalse(llama.complete(PROMPT).text().isEmpty(), "the engine goes on");
    }

    @Test
    void aTextThatAStopCutsIsNotGivenAsWhole() {
        var letters = Grammar.regex("[a-z]{30}");
        var whole = llama.generate(PROMPT, letters);
        var stop = whole.substring(10, 12);
        var prefix = whole.substring(0, whole.indexOf(stop));
        var error = assertThrows(IncompleteException.class, () -> llama.generate(PROMPT, letters, GREEDY.withStop(stop)));
        assertEquals(prefix, error.text());
        var completion = llama.complete(PROMPT, GREEDY.withGrammar(letters).withStop(stop));
        assertEquals(prefix, completion.text(), "who reads pieces and asked for the stop gets the beginning");
        assertEquals(FinishReason.STOP_STRING, completion.finishReason());
    }

    @Test
    void aStopAfterAWholeTextIsFine() {
        var grammar = Grammar.regex("[ab]{3}[c-z]*");
        assertEquals(3, llama.generate(PROMPT, grammar, GREEDY.withStop("c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o",
                "p", "q", "r",
                "s", "t", "u", "v", "w", "x", "y", "z")).length());
    }

    @Test
    void aLazyGrammarWaitsForItsTrigger() {
        var asleep = GREEDY.withGrammar(Grammar.regex("[0-9]{3}").lazy(Trigger.after("no model writes this")));
        assertEquals(llama.complete(PROMPT).text(), llama.complete(PROMPT, asleep).text());
        var text = llama.complete(PROMPT).text();
        var trigger = text.substring(4, 6);
        var woken = llama.complete(PROMPT, GREEDY.withGrammar(Grammar.regex("[0-9]{3}").lazy(Trigger.after(trigger)))).text();
        int at = woken.indexOf(trigger);
        assertTrue(woken.substring(at + 2).matches("[0-9]{3}"), woken);
    }

    @Test
    void theVocabularyIsPreparedOnce() {
        assertEquals(GrammarVocabulary.of(llama.model().vocabulary()), GrammarVocabulary.of(llama.model().vocabulary()));
    }

    private List<Strategy> strategies(Engine second) {
        var vocabulary = llama.model().vocabulary();
        return List.of(new Plain(), AdaDec.of(0.5), Uscd.of(vocabulary.tokenize("int", true, false)), BeamSearch.of(3), BestOfN.of(3),
                ContrastiveSearch.of(), Speculative.of(second), PlanDrafts.of(LayerPlan.all(llama.model().layerCount()).skip(2, 4)),
                NGramDrafts.of(TrigramTable.empty(vocabulary)), EntropySwitching.of(second, 1));
    }

    @Test
    void everyStrategyComposesWithAGrammar() {
        try (var second = Engine.open(llama.model(), EngineOptions.defaults().withContextSize(1024).withThreads(2))) {
            for (var strategy : strategies(second)) {
                var options = GREEDY.withTemperature(0.7f).withSeed(3).withMaxTokens(24).withStrategy(strategy);
                var text = llama.generate(PROMPT, JSON, options);
                assertTrue(JSON.accepts(text), strategy + ": " + text);
                var completion = llama.complete(PROMPT, options.withConfidence(true));
                completion.text();
                assertTrue(completion.logProbs().isEmpty(), "nobody asked for them");
                assertTrue(completion.confidence().size() >= completion.stats().generatedTokens(), strategy.toString());
                assertTrue(completion.work().rows() > 0);
            }
        }
    }

    @Test
    void plainStrategyWritesWhatTheLoopWrites() {
        var loop = llama.complete(PROMPT, GREEDY.withLogProbs(0));
        var strategy = llama.complete(PROMPT, GREEDY.withLogProbs(0).withStrategy(new Plain()));
        assertEquals(loop.text(), strategy.text());
        assertEquals(loop.logProbs(), strategy.logProbs());
        assertNull(loop.work());
    }

    @Test
    void confidenceGrowsWithTheTextAndHasToBeAskedFor() {
        var completion = llama.complete(PROMPT, GREEDY.withConfidence(true));
        var pieces = new ArrayList<String>();
        for (var piece : completion) {
            pieces.add(piece);
            assertTrue(completion.confidence().measured() >= pieces.size());
            if (pieces.size() == 3) {
                completion.close();
            }
        }
        assertEquals(3, pieces.size());
        assertTrue(completion.confidence().meanLogProbability() <= 0);
        assertThrows(IllegalStateException.class, () -> llama.complete(PROMPT).confidence());
        assertThrows(IllegalArgumentException.class, () -> GREEDY.withLogProbs(3).withConfidence(true));
    }

    @Test
    void alignedDrawsAreTextsOfTheGrammarWithTheirWeights() {
        var grammar = Grammar.choices(List.of("int a", "int b", "String s"));
        var seen = new TreeSet<String>();
        try (var texts = llama.aligned(PROMPT, grammar, GREEDY.withSeed(5), 2)) {
            for (var draw : texts.draw(20)) {
                assertTrue(grammar.accepts(draw.text()), draw.text());
                assertTrue(draw.logProbability() <= 0 && Double.isFinite(draw.logWeight()));
                seen.add(draw.text());
            }
            assertTrue(texts.logMassBound() < 0);
        }
        assertFalse(seen.isEmpty());
    }

    @Test
    void alignedDrawsOfUnboundedGrammarsEnd() {
        try (var texts = llama.aligned(PROMPT, JSON, GREEDY.withMaxTokens(12), 1)) {
            for (var draw : texts.draw(5)) {
                assertTrue(JSON.accepts(draw.text()), draw.text());
            }
        }
    }

    @Test
    void aChatAnswersWithAValue() {
        try (var chat = llama.chat("You explain Java.")) {
            var city = chat.send("Name a city.", City.class);
            assertFalse(city.name() == null);
            assertEquals(3, chat.history().size());
            var digits = Grammar.regex("[0-9]{4}");
            assertTrue(digits.accepts(chat.send("A year?", digits).text()));
            assertFalse(chat.send("And now freely?").text().isEmpty());
        }
    }

    /** A value that looks like a call of a tool is a value all the same. */
    record Call(String name, Arguments arguments) {
    }

    record Arguments(int x) {
    }

    @Test
    void aValueIsNoToolCall() {
        var tool = Tool.of("f", "a tool", "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\"}}}");
        try (var chat = llama.chat(ChatOptions.defaults().withTools(tool))) {
            assertFalse(chat.send("Call something.", Call.class).arguments() == null);
        }
    }

    @Test
    void aChatTakesStrategies() {
        var drafts = PlanDrafts.of(LayerPlan.all(llama.model().layerCount()).skip(2));
        for (var strategy : List.of(AdaDec.of(0.5), ContrastiveSearch.of(), drafts)) {
            try (var chat = llama.chat(ChatOptions.defaults().withGeneration(GREEDY.withStrategy(strategy)))) {
                chat.send("What does `ArrayList` do?").text();
                var second = chat.send("And `LinkedList`?");
                second.text();
                assertTrue(second.stats().cachedTokens() > 0, strategy.toString());
                assertEquals(4, chat.history().size());
            }
        }
    }
}
