package io.github.panamallama.sampling;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.SamplingException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class ConstrainedSamplerTest {
    private static final List<int[]> TEXTS = List.of(new int[] {1, 2, 3}, new int[] {1, 2, 4}, new int[] {5});

    private static Sampler constrained(SamplerOptions options) {
        return Sampler.constrained(Sampler.of(options), new FiniteConstraint(6, TEXTS, 0));
    }

    @Test
    void onlyAllowedTokensAreChosenAndTheRowStaysAsItIs() {
        var sampler = constrained(SamplerOptions.greedy());
        float[] logits = {9, 1, 8, 7, 6, 2};
        var row = Reference.row(logits);
        assertEquals(5, sampler.sample(row), "the best of 1 and 5");
        assertArrayEquals(logits, row.toArray());
        sampler.accept(1);
        assertEquals(2, sampler.forced());
        assertFalse(sampler.mayEnd());
        sampler.accept(2);
        assertEquals(-1, sampler.forced());
        assertEquals(3, sampler.sample(row));
        sampler.accept(3);
        assertTrue(sampler.mayEnd());
        assertEquals(0, sampler.sample(row), "end of generation, and only that");
        assertEquals(0, sampler.forced());
        sampler.accept(0);
        assertThrows(ConstraintException.class, () -> sampler.sample(row));
        assertEquals(-1, sampler.forced());
    }

    @Test
    void theDrawIsTheInnerOneOverWhatIsAllowed() {
        var random = new Random(5);
        float[] logits = Reference.logits(random, 6, 2);
        var options = SamplerOptions.defaults().withTemperature(1.3f).withTopK(0).withTopP(1).withMinP(0).withLogitBias(5,
                0.7f).withSeed(3);
        var sampler = constrained(options);
        var masked = logits.clone();
        for (int token : new int[] {0, 2, 3, 4}) {
            masked[token] = Float.NEGATIVE_INFINITY;
        }
        double[] expected = Reference.distribution(masked, options, new int[0]);
        var into = new Candidates(6);
        sampler.distribution(Reference.row(logits), into);
        assertEquals(2, into.size());
        for (int i = 0; i < into.size(); i++) {
            assertEquals(expected[into.token(i)], into.value(i), 1e-6);
        }
    }

    @Test
    void theAdjustedRowShowsBiasPenaltiesAndMaskAndTheRowStaysAsItIs() {
        float[] logits = {1, 2, 3, 4, 5, 6};
        var row = Reference.row(logits);
        var scratch = new Row(6);
        var greedy = Sampler.greedy();
        assertSame(row, greedy.adjusted(row, scratch), "nothing to change");
        var options = SamplerOptions.greedy().withLogitBias(5, -0.5f).withPresencePenalty(1).withRepetitionPenalty(2);
        var inner = Sampler.of(options);
        inner.acceptPrompt(1);
        assertArrayEquals(new float[] {1, 0, 3, 4, 5, 5.5f}, inner.adjusted(row, scratch).toArray());
        float out = Float.NEGATIVE_INFINITY;
        var constrained = constrained(options);
        constrained.acceptPrompt(1);
        assertArrayEquals(new float[] {out, 0, out, out, out, 5.5f}, constrained.adjusted(row, scratch).toArray());
        assertArrayEquals(new float[] {out, 2, out, out, out, 6}, constrained(SamplerOptions.greedy()).adjusted(row, scratch).toArray());
        assertArrayEquals(logits, row.toArray());
    }

    @Test
    void promptTokensAreNotTheConstraintsAndRollBackWithTheOthers() {
        var options = SamplerOptions.greedy().withRepetitionPenalty(2);
        var sampler = constrained(options);
        sampler.acceptPrompt(4);
        sampler.acceptPrompt(5);
        var row = Reference.row(0, 3, 0, 0, 0, 4);
        assertEquals(1, sampler.sample(row), "5 was in the prompt and is penalised");
        sampler.accept(1);
        sampler.accept(2);
        sampler.rollback(3);
        assertEquals(5, sampler.sample(row), "back to before the second token of the prompt");
        sampler.rollback(1);
        assertThrows(IllegalArgumentException.class, () -> sampler.rollback(1));
    }

    @Test
    void forksGoTheirOwnWays() {
        var sampler = constrained(SamplerOptions.greedy());
        var fork = sampler.fork();
        sampler.accept(1);
        fork.accept(5);
        assertEquals(2, sampler.forced());
        assertEquals(0, fork.forced());
    }

    @Test
    void tokensThatAreNotAllowedAndDeadEndsAreTypedErrors() {
        var sampler = constrained(SamplerOptions.greedy());
        assertThrows(ConstraintException.class, () -> sampler.accept(3));
        assertEquals(5, sampler.sample(Reference.row(0, 1, 0, 0, 0, 2)), "nothing has changed");
        var dead = Sampler.constrained(Sampler.greedy(), new FiniteConstraint(6, List.of(), 0));
        assertTrue(assertThrows(ConstraintException.class, () -> dead.sample(Reference.row(1, 2, 3, 4, 5,
                6))).getMessage().startsWith("dead end"));
        assertThrows(SamplingException.class, () -> sampler.sample(Reference.row(0, Float.NaN, 0, 0, 0, 1)));
        assertThrows(IllegalArgumentException.class, () -> sampler.sample(new Row(7)));
    }

    @Test
    void masksOfAllKindsShowExactlyWhatIsAllowed() {
        var random = new Random(77);
        for (int size : new int[] {1, 63, 64, 65, 200, 1000}) {
            var masked = new MaskedRow();
            for (int round = 0; round < 30; round++) {
                float[] logits = Reference.logits(random, size, 3);
                var mask = new TokenMask(size);
                double density = round % 3 == 0 ? 1 : round % 3 == 1 ? 0.02 : random.nextDouble();
                for (int i = 0; i < size; i++) {
                    if (random.nextDouble() < density) {
                        mask.set(i);
                    }
                }
                float[] seen = masked.of(Reference.row(logits), mask).toArray();
                for (int i = 0; i < size; i++) {
                    assertEquals(mask.get(i) ? logits[i] : Float.NEGATIVE_INFINITY, seen[i]);
                }
            }
        }
    }

    @Test
    void generatedTextSatisfiesTheConstraintAndForcedTokensCostNoStep() {
        try (var model = Model.load(Path.of("..", "models", "java-tiny-f16.gguf"));
                var engine = Engine.open(model, EngineOptions.defaults().withContextSize(256).withThreads(1))) {
            var vocabulary = model.vocabulary();
            var texts = List.of("public static void main(String[] args)", "private final int count;", "private final int size;");
            var tokens = texts.stream().map(text -> vocabulary.tokenize(text, false, false)).toList();
            var constraint = new FiniteConstraint(vocabulary.size(), tokens, vocabulary.endOfGeneration());
            long[] steps = new long[2];
            var results = new ArrayList<String>();
            for (int confidence = 0; confidence < 2; confidence++) {
                try (var sequence = engine.newSequence()) {
                    long before = engine.stats().steps();
                    var generator = Generator.over(sequence, vocabulary.tokenize("class A {\n    ", true, false),
                            Sampler.constrained(Sampler.greedy(), constraint.fork()),
                            GeneratorOptions.defaults().withLogProbs(confidence == 0 ? GeneratorOptions.NO_LOG_PROBS : 0));
                    var text = new StringBuilder();
                    while (generator.advance()) {
                        text.append(generator.text());
                    }
                    results.add(text.toString());
                    steps[confidence] = engine.stats().steps() - before;
                    assertEquals(FinishReason.STOP, generator.finishReason());
                }
            }
            assertTrue(texts.contains(results.get(0)), results.get(0));
            assertEquals(results.get(0), results.get(1));
            assertTrue(steps[0] <= 4 && steps[1] > steps[0], Arrays.toString(steps));

            try (var sequence = engine.newSequence()) {
                int[] prompt = new int[250];
                Arrays.fill(prompt, vocabulary.tokenize("a", false, false)[0]);
                var endless = new FiniteConstraint(vocabulary.size(), List.of(prompt), vocabulary.endOfGeneration());
                var generator = Generator.over(sequence, prompt, Sampler.constrained(Sampler.greedy(), endless),
                        GeneratorOptions.defaults().withLogProbs(0));
                var thrown = assertThrows(IncompleteException.class, () -> {
                    while (generator.advance()) {
                    }
                });
                assertEquals(7, thrown.tokens().length, "six cells, and the last token needs none");
                assertEquals("aaaaaaa", thrown.text());
                assertEquals(FinishReason.CONTEXT_FULL, generator.finishReason());
            }
        }
    }
}
