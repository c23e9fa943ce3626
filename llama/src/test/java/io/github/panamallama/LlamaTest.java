package io.github.panamallama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.sampling.FinishReason;
import java.util.ArrayList;
import java.util.NoSuchElementException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

class LlamaTest {
    private static final String PROMPT = "public final class Point {\n    private final int x;\n";
    private static final GenerationOptions GREEDY = GenerationOptions.defaults().withTemperature(0).withMaxTokens(24);

    private static Llama llama;

    @BeforeAll
    static void load() {
        llama = Llama.loadDefault(LlamaOptions.defaults().withContextSize(2048).withThreads(2).withGeneration(GREEDY));
    }

    @AfterAll
    static void close() {
        llama.close();
    }

    @Test
    void thePiecesOfACompletionAreItsText() {
        var pieces = new ArrayList<String>();
        var completion = llama.complete(PROMPT);
        completion.forEach(pieces::add);
        assertTrue(pieces.size() > 1, pieces.toString());
        assertFalse(pieces.contains(""));
        assertEquals(llama.complete(PROMPT).text(), String.join("", pieces));
        try (var stream = llama.complete(PROMPT).stream()) {
            assertEquals(pieces, stream.toList());
        }
    }

    @Test
    void itEndsForAReasonAndCountsWhatItTook() {
        var completion = llama.complete(PROMPT);
        assertThrows(IllegalStateException.class, completion::finishReason);
        completion.text();
        assertEquals(FinishReason.LENGTH, completion.finishReason());
        assertEquals(24, completion.stats().generatedTokens());
        assertEquals(llama.model().vocabulary().tokenize(PROMPT, true, false).length, completion.stats().promptTokens());
        assertTrue(completion.stats().promptNanos() > 0 && completion.stats().generationNanos() > 0);
        assertFalse(completion.iterator().hasNext());
        assertThrows(NoSuchElementException.class, () -> completion.iterator().next());
    }

    @Test
    void aStopTextEndsItAndIsLeftOut() {
        var whole = llama.complete(PROMPT).text();
        var stop = whole.substring(8, 11);
        var completion = llama.complete(PROMPT, GREEDY.withStop(stop));
        assertEquals(whole.substring(0, whole.indexOf(stop)), completion.text());
        assertEquals(FinishReason.STOP_STRING, completion.finishReason());
    }

    @Test
    void closingEndsItWithWhatHasComeSoFar() {
        var completion = llama.complete(PROMPT);
        var first = completion.iterator().next();
        completion.close();
        assertFalse(first.isEmpty());
        assertFalse(completion.iterator().hasNext());
        assertEquals(FinishReason.CANCELLED, completion.finishReason());
        completion.close();
    }

    @Test
    void closingFromAnotherThreadEndsARunningCompletion() throws Exception {
        var completion = llama.complete(PROMPT, GREEDY.withMaxTokens(0).withSampling(withoutAnEnd()));
        var started = new CountDownLatch(1);
        try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            var read = threads.submit(() -> {
                completion.forEach(piece -> started.countDown());
                return completion.finishReason();
            });
            started.await();
            completion.close();
            assertEquals(FinishReason.CANCELLED, read.get());
        }
        assertTrue(completion.stats().generatedTokens() < 2000, "it would have filled the context");
    }

    private static io.github.panamallama.sampling.SamplerOptions withoutAnEnd() {
        var options = GREEDY.sampling();
        for (int token : llama.model().vocabulary().endOfGeneration()) {
            options = options.withLogitBias(token, Float.NEGATIVE_INFINITY);
        }
        return options;
    }

    @Test
    void aFullContextEndsACompletion() {
        try (var small = Llama.loadDefault(LlamaOptions.defaults().withContextSize(256).withThreads(2))) {
            var completion = small.complete(PROMPT, GREEDY.withMaxTokens(0).withSampling(withoutAnEnd()));
            completion.text();
            assertEquals(FinishReason.CONTEXT_FULL, completion.finishReason());
            assertTrue(completion.stats().promptTokens() + completion.stats().generatedTokens() >= 256);
        }
    }

    @Test
    void logProbabilitiesComeOnePerToken() {
        var completion = llama.complete(PROMPT, GREEDY.withLogProbs(2));
        completion.text();
        assertEquals(completion.stats().generatedTokens(), completion.logProbs().size());
        for (var at : completion.logProbs()) {
            assertEquals(2, at.top().size());
            assertEquals(at.chosen().token(), at.top().getFirst().token());
            assertTrue(at.chosen().logProbability() <= 0);
        }
        var without = llama.complete(PROMPT);
        without.text();
        assertTrue(without.logProbs().isEmpty());
    }

    @Test
    void aSeedMakesDrawsRepeatable() {
        var drawn = GenerationOptions.defaults().withMaxTokens(24).withTemperature(1.5f);
        assertEquals(llama.complete(PROMPT, drawn.withSeed(5)).text(), llama.complete(PROMPT, drawn.withSeed(5)).text());
        assertNotEquals(llama.complete(PROMPT, drawn.withSeed(5)).text(), llama.complete(PROMPT, drawn.withSeed(6)).text());
    }

    @Test
    void fillsInWhatBothSidesCallFor() {
        assertTrue(llama.canInfill());
        var prefix = "    public static boolean isBlank(String s) {\n        if (s == null) {\n            ";
        var suffix = "\n        }\n        return s.trim().isEmpty();\n    }\n";
        assertEquals("return false;", llama.infill(prefix, suffix).text().strip());
    }

    @Test
    void sidesThatAreTooLongAreCutFromTheirFarEnds() {
        var completion = llama.infill("int first;\n".repeat(5000) + "return ", ";\n" + "int last;\n".repeat(5000));
        completion.text();
        assertTrue(completion.stats().truncated());
        assertTrue(completion.stats().promptTokens() <= 2048 - 24);
        assertTrue(completion.stats().promptTokens() > 2048 - 100, "the context is used");
        var short_ = llama.infill("return ", ";");
        short_.text();
        assertFalse(short_.stats().truncated());
    }

    @Test
    void aPromptLongerThanTheContextIsRefusedOrCutAsAsked() {
        var prompt = "int x = 1;\n".repeat(1000);
        var refused = assertThrows(ContextFullException.class, () -> llama.complete(prompt));
        assertTrue(refused.getMessage().contains("2048"), refused.getMessage());
        var cut = llama.complete(prompt, GREEDY.withTruncation(true));
        cut.text();
        assertTrue(cut.stats().truncated());
        assertEquals(24, cut.stats().generatedTokens());
    }

    @Test
    void manyThreadsShareOneLlama() throws Exception {
        var alone = llama.complete(PROMPT).stats().promptTokens();
        try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            var all = IntStream.range(0, 24).mapToObj(i -> threads.submit(() -> {
                var completion = llama.complete(PROMPT, GREEDY.withSeed(i));
                var text = completion.text();
                assertFalse(text.isEmpty());
                return completion.stats();
            })).toList();
            for (var one : all) {
                assertEquals(24, one.get().generatedTokens());
                assertEquals(alone, one.get().promptTokens());
            }
        }
    }

    @Test
    void nothingIsEvaluatedBeforeTheFirstPieceIsAskedFor() {
        var completion = llama.complete(PROMPT);
        assertEquals(0, completion.stats().promptNanos());
        completion.close();
        assertEquals(0, completion.stats().promptNanos());
    }

    @Test
    void aCompletionOfAClosedLlamaFailsByName() {
        var closed = Llama.loadDefault(LlamaOptions.defaults().withThreads(2));
        closed.close();
        var failure = new AtomicReference<Throwable>();
        try {
            closed.complete("int x").text();
        } catch (RuntimeException e) {
            failure.set(e);
        }
        assertEquals(io.github.panamallama.runtime.ClosedException.class, failure.get() == null ? null : failure.get().getClass());
    }

    @Test
    void optionsOutOfRangeAreRefusedWithTheirValue() {
        var refused = assertThrows(IllegalArgumentException.class, () -> GREEDY.withMaxTokens(-3));
        assertTrue(refused.getMessage().contains("-3"), refused.getMessage());
        assertThrows(IllegalArgumentException.class, () -> GREEDY.withStop(""));
        assertThrows(IllegalArgumentException.class, () -> GREEDY.withLogProbs(-2));
        assertNull(ChatOptions.defaults().system());
    }
}
