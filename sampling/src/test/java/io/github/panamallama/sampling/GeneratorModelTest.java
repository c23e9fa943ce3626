package io.github.panamallama.sampling;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The loop over a real model, vocabulary and engine. */
class GeneratorModelTest {
    private static Model model;
    private static Engine engine;

    @BeforeAll
    static void load() {
        model = Model.load(Path.of("..", "models", "java-tiny-f16.gguf"));
        engine = Engine.open(model, EngineOptions.defaults().withContextSize(512).withThreads(1));
    }

    @AfterAll
    static void unload() {
        engine.close();
        model.close();
    }

    private static int[] prompt(String text) {
        return model.vocabulary().tokenize(text, true, false);
    }

    private static List<Integer> tokens(String prompt, SamplerOptions sampling, GeneratorOptions options) {
        try (var sequence = engine.newSequence();
                var generator = Generator.over(sequence, prompt(prompt), Sampler.of(sampling), options)) {
            var tokens = new ArrayList<Integer>();
            while (generator.advance()) {
                tokens.add(generator.token());
            }
            return tokens;
        }
    }

    @Test
    void greedyTextIsWhatItsTokensStandFor() {
        var text = new StringBuilder();
        var tokens = new ArrayList<Integer>();
        try (var sequence = engine.newSequence()) {
            var prompt = prompt("public static int max(int a, int b) {\n");
            var options = GeneratorOptions.defaults().withMaxTokens(24).withLogProbs(2);
            var generator = Generator.over(sequence, prompt, Sampler.of(SamplerOptions.greedy()), options);
            while (generator.hasNext()) {
                var next = generator.next();
                tokens.add(next.token());
                text.append(next.text());
                assertEquals(next.token(), next.logProbs().top().getFirst().token(), "greedy takes the most likely token");
                assertTrue(next.logProbs().chosen().logProbability() <= 0);
            }
            assertEquals(FinishReason.LENGTH, generator.finishReason());
            assertEquals(prompt.length + tokens.size() - 1, sequence.length(), "the last token is not evaluated");
        }
        assertEquals(24, tokens.size());
        assertEquals(model.vocabulary().detokenize(tokens.stream().mapToInt(i -> i).toArray()), text.toString());
    }

    @Test
    void theSameSeedGivesTheSameTokensAndAnotherSeedOthers() {
        var options = GeneratorOptions.defaults().withMaxTokens(32);
        var sampling = SamplerOptions.defaults().withTemperature(1.2f).withSeed(7);
        var first = tokens("class A {", sampling, options);
        assertEquals(first, tokens("class A {", sampling, options));
        assertFalse(first.equals(tokens("class A {", sampling.withSeed(8), options)), "seeds 7 and 8 agree on 32 tokens");
    }

    @Test
    void stopStringsEndTheTextBeforeThem() {
        try (var sequence = engine.newSequence()) {
            var options = GeneratorOptions.defaults().withMaxTokens(200).withStopStrings(";");
            var generator = Generator.over(sequence, prompt("import java.util."), Sampler.of(SamplerOptions.greedy()), options);
            var text = new StringBuilder();
            generator.forEachRemaining(token -> text.append(token.text()));
            assertEquals(FinishReason.STOP_STRING, generator.finishReason());
            assertEquals(";", generator.stopString());
            assertFalse(text.toString().contains(";"), text.toString());
        }
    }

    @Test
    void aGenerationEndsWhereTheContextDoes() {
        try (var sequence = engine.newSequence()) {
            sequence.append(new int[engine.contextSize() - 20], null);
            var bias = SamplerOptions.greedy();
            for (int t = 0; t < model.vocabulary().size(); t++) {
                if (model.vocabulary().isEndOfGeneration(t)) {
                    bias = bias.withLogitBias(t, Float.NEGATIVE_INFINITY);
                }
            }
            var generator = Generator.over(sequence, prompt("int x"), Sampler.of(bias), GeneratorOptions.defaults());
            int count = 0;
            while (generator.advance()) {
                count++;
            }
            assertEquals(FinishReason.CONTEXT_FULL, generator.finishReason());
            assertEquals(engine.contextSize(), sequence.length());
            assertEquals(21 - prompt("int x").length, count, "the last token needs no cell");
        }
    }

    @Test
    void cancelEndsItFromAnotherThread() throws Exception {
        try (var sequence = engine.newSequence()) {
            var generator = Generator.over(sequence, prompt("class B {"), Sampler.of(SamplerOptions.defaults()),
                    GeneratorOptions.defaults());
            assertTrue(generator.advance());
            Thread.ofPlatform().start(generator::cancel).join();
            assertFalse(generator.advance());
            assertEquals(FinishReason.CANCELLED, generator.finishReason());
        }
    }

    @Test
    void anEmptyPromptIsRefused() {
        try (var sequence = engine.newSequence()) {
            var sampler = Sampler.of(SamplerOptions.greedy());
            assertThrows(IllegalArgumentException.class, () -> Generator.over(sequence, new int[0], sampler, GeneratorOptions.defaults()));
            assertArrayEquals(new int[0], sequence.tokens());
        }
    }
}
