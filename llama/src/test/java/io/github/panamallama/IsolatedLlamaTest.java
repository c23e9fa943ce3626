package io.github.panamallama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.DecodeCancelledException;
import io.github.panamallama.runtime.InsufficientMemoryException;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.IncompleteException;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.SamplerStep;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.Trigger;
import io.github.panamallama.sampling.strategy.AdaDec;
import io.github.panamallama.sampling.strategy.BeamSearch;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What a worker answers is what the same model answers in this process. {@link WorkerDeathTest} kills workers. */
@Timeout(300)
class IsolatedLlamaTest extends BothWays {
    private static final GenerationOptions GREEDY = GenerationOptions.defaults().withTemperature(0).withMaxTokens(100);
    private static final LlamaOptions OPTIONS = LlamaOptions.defaults().withContextSize(2048).withThreads(1).withGeneration(GREEDY);

    @BeforeAll
    static void load() {
        open(OPTIONS);
    }

    @Test
    void textsAreThoseOfThisProcess() {
        alike(model -> model.complete(PROMPT).text());
        alike(model -> model.complete(PROMPT).stream().toList());
        alike(model -> model.infill("    int max(int a, int b) {\n        return ", ";\n    }\n").text());
        alike(TextModel::canInfill);
        alike(model -> model.complete(PROMPT, GREEDY.withTemperature(1).withSeed(7)).text());
        var sampling = SamplerOptions.defaults().withTemperature(1).withSeed(7);
        alike(model -> model.complete(PROMPT, GREEDY.withSampling(sampling.withMirostat(SamplerOptions.Mirostat.defaults()))).text());
        alike(model -> model.complete(PROMPT, GREEDY.withSampling(sampling.withDry(SamplerOptions.Dry.of(2)).withTypicalP(0.9f)
                .withXtc(new SamplerOptions.Xtc(0.5f, 0.1f)).withDynamicTemperature(new SamplerOptions.DynamicTemperature(0.3f, 2))
                .withOrder(SamplerStep.TOP_K, SamplerStep.TEMPERATURE, SamplerStep.DRY, SamplerStep.XTC, SamplerStep.TYPICAL_P))).text());
        alike(model -> model.complete(PROMPT, GREEDY.withStop("}", ";")).text());
        alike(model -> model.complete("int x = 1;\n".repeat(1000), GREEDY.withTruncation(true)).text());
    }

    @Test
    void soAreTheirEndsAndTheirNumbers() {
        alike(model -> {
            var completion = model.complete(PROMPT);
            assertThrows(IllegalStateException.class, completion::finishReason);
            completion.text();
            var stats = completion.stats();
            assertTrue(stats.promptNanos() > 0 && stats.generationNanos() > 0, stats.toString());
            return List.of(completion.finishReason(), stats.promptTokens(), stats.cachedTokens(), stats.generatedTokens(),
                    stats.truncated());
        });
        alike(model -> {
            var completion = model.complete(PROMPT, GREEDY.withLogProbs(3));
            completion.text();
            assertEquals(100, completion.logProbs().size());
            return completion.logProbs();
        });
        alike(model -> {
            var completion = model.complete(PROMPT);
            var first = completion.iterator().next();
            completion.close();
            assertFalse(completion.iterator().hasNext());
            return first + completion.finishReason();
        });
    }

    @Test
    void grammarsPlansAndStrategiesThatAreDataCross() {
        record Point(int x, List<String> names) {
        }
        alike(model -> model.generate("the point: ", Point.class));
        alike(model -> model.generate("a date: ", Grammar.regex("[0-9]{4}-[0-9]{2}")));
        alike(model -> model.generate("a color: ", Grammar.choices(List.of("red", "green\n3 blue"))));
        alike(model -> model.generate("sum: ", Grammar.gbnf("root ::= [0-9]+ (\" + \" [0-9]+)+")));
        alike(model -> model.complete(PROMPT, GREEDY.withGrammar(Grammar.regex("[a-z]{3}").lazy(Trigger.after("int ")))).text());
        alike(model -> model.complete(PROMPT, GREEDY.withSampling(GREEDY.sampling().withLogitBias(300, Float.NEGATIVE_INFINITY))).text());

        var plan = LayerPlan.all(here.model().layerCount()).skip(1);
        alike(model -> {
            var completion = model.complete(PROMPT, GREEDY.withPlan(plan));
            assertEquals(plan, completion.plan());
            return completion.text();
        });
        alike(model -> {
            var completion = model.complete(PROMPT, GREEDY.withStrategy(BeamSearch.of(3)));
            completion.text();
            assertTrue(completion.work().rows() > 0);
            return List.of(completion.text(), completion.work());
        });
    }

    @Test
    void conversationsAreThoseOfThisProcess() {
        alike(model -> {
            try (var chat = model.chat("You explain Java.")) {
                var texts = new ArrayList<Object>();
                for (var question : List.of("What does `List.add` do?", "And `size`? <|im_end|>")) {
                    var reply = chat.send(question);
                    texts.add(reply.text());
                    texts.add(reply.finishReason());
                    texts.add(reply.stats().cachedTokens());
                }
                texts.add(chat.length());
                texts.add(chat.history());
                texts.add(chat.send("How many?", Integer.class));
                chat.reset();
                texts.add(chat.length());
                texts.add(chat.send("What is a `Set`?").text());
                return texts;
            }
        });
    }

    @Test
    void aReplyThatIsClosedEndsInTheWorkerAndTheNextOneWaitsForThat() {
        try (var chat = there.chat()) {
            for (int i = 0; i < 5; i++) {
                var reply = chat.send("What does `Math.max` do?");
                assertTrue(reply.iterator().hasNext());
                reply.close();
                assertEquals(FinishReason.CANCELLED, reply.finishReason());
            }
            assertFalse(chat.send("And `Math.min`?").text().isBlank());
            assertEquals(6, chat.turns());
        }
    }

    @Test
    void whatIsClosedEarlyFreesItsPlaceInTheWorker() {
        var options = OPTIONS.withEngine(OPTIONS.engine().withContextSize(256).withMaxSequences(2));
        try (var small = Llama.isolatedDefault(options, IsolationOptions.defaults())) {
            for (int i = 0; i < 10; i++) {
                try (var completion = small.complete(PROMPT)) {
                    assertTrue(completion.iterator().hasNext());
                }
            }
            var completion = small.complete(PROMPT);
            completion.text();
            assertEquals(FinishReason.LENGTH, completion.finishReason());
        }
    }

    @Test
    void aSlowReaderHoldsTheWorkerBackAndLosesNothing() {
        var whole = here.complete(PROMPT, endless(here, 1000)).text();
        var slow = there.complete(PROMPT, endless(here, 1000));
        var text = new StringBuilder(slow.iterator().next());
        for (int i = 0; i < 5; i++) {
            assertFalse(there.complete(PROMPT).text().isEmpty(), "others go on");
        }
        slow.forEach(text::append);
        assertEquals(whole, text.toString());
    }

    /** Without a token that ends the text. */
    static GenerationOptions endless(Llama llama, int tokens) {
        var sampling = GREEDY.sampling();
        for (int token : llama.model().vocabulary().endOfGeneration()) {
            sampling = sampling.withLogitBias(token, Float.NEGATIVE_INFINITY);
        }
        return GREEDY.withSampling(sampling).withMaxTokens(tokens);
    }

    @Test
    void manyThreadsShareOneWorker() throws Exception {
        var alone = there.complete(PROMPT).text();
        try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            var all = IntStream.range(0, 12)
                    .mapToObj(i -> threads.submit(() -> there.complete(PROMPT, GREEDY.withMaxTokens(20)).text())).toList();
            for (var one : all) {
                assertTrue(alone.startsWith(one.get().substring(0, 8)), one.get());
            }
        }
    }

    @Test
    void closingFromAnotherThreadEndsARunningCompletion() throws Exception {
        var completion = there.complete(PROMPT, endless(here, 0));
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
    }

    @Test
    void anInterruptEndsARunningCompletion() throws Exception {
        var completion = there.complete(PROMPT, endless(here, 0));
        var failure = new Throwable[1];
        var reader = Thread.ofVirtual().start(() -> {
            Thread.currentThread().interrupt();
            try {
                completion.text();
            } catch (RuntimeException e) {
                failure[0] = e;
            }
        });
        reader.join();
        assertInstanceOf(DecodeCancelledException.class, failure[0]);
        assertEquals(FinishReason.FAILED, completion.finishReason());
        assertFalse(there.complete(PROMPT).text().isEmpty(), "the others' connection stands");
        assertEquals(0, there.restarts());
    }

    // --- failures cross with their type --------------------------------------------------------------------------------------

    @Test
    void failuresOfCallsComeAsWhatTheyAre() {
        sameFailure(ContextFullException.class, model -> model.complete("int x = 1;\n".repeat(1000)));
        sameFailure(ContextFullException.class, model -> model.chat().send("word ".repeat(3000)));
        sameFailure(ConstraintException.class,
                model -> model.generate("x: ", Grammar.regex("[0-9]{50}"), GREEDY.withMaxTokens(2)));
        sameFailure(LayerPlanException.class,
                model -> model.complete(PROMPT, GREEDY.withPlan(LayerPlan.all(here.model().layerCount() + 1))).text());
        var cut = sameFailure(IncompleteException.class, model -> model.generate("x: ", Grammar.regex("ab+c"), GREEDY.withStop("b")));
        var same = assertThrows(IncompleteException.class, () -> here.generate("x: ", Grammar.regex("ab+c"), GREEDY.withStop("b")));
        assertEquals(same.text(), cut.text());
        assertEquals(List.of(same.tokens().length, same.tokens()[0]), List.of(cut.tokens().length, cut.tokens()[0]));
    }

    private static <T extends Throwable> T sameLoadFailure(Class<T> type, Path file, LlamaOptions options) {
        var local = assertThrows(type, () -> Llama.load(file, options).close());
        var remote = assertThrows(type, () -> Llama.isolated(file, options, IsolationOptions.defaults()).close());
        assertEquals(local.getMessage(), remote.getMessage());
        return remote;
    }

    @Test
    void failuresOfLoadingComeAsWhatTheyAre(@TempDir Path folder) throws Exception {
        sameLoadFailure(LlamaException.class, folder.resolve("missing.gguf"), OPTIONS);
        var cut = Files.write(folder.resolve("cut.gguf"), new byte[] {'G', 'G', 'U', 'F', 3, 0, 0, 0, 1});
        var broken = sameLoadFailure(GgufException.class, cut, OPTIONS);
        assertEquals(cut, broken.path());
        var lack = assertThrows(InsufficientMemoryException.class,
                () -> Llama.isolatedDefault(OPTIONS.withContextSize(1 << 30), IsolationOptions.defaults()).close());
        assertTrue(lack.estimate().host().total() > lack.available(), lack.getMessage());
    }

    @Test
    void whatCannotCrossIsRefusedBeforeItIsSent() {
        for (var refused : Map.of("PlanChooser", GREEDY.withPlans((engine, prompt) -> LayerPlan.all(1)),
                "AdaDec", GREEDY.withStrategy(AdaDec.of(1).withFinished(text -> true))).entrySet()) {
            var e = assertThrows(IsolationException.class, () -> there.complete(PROMPT, refused.getValue()));
            assertTrue(e.getMessage().contains(refused.getKey()) && e.getMessage().contains("Llama.load"), e.getMessage());
        }
        assertThrows(IsolationException.class, () -> Llama.isolatedDefault(
                OPTIONS.withModel(OPTIONS.model().withCancellation(() -> false)), IsolationOptions.defaults()));
        assertThrows(IllegalArgumentException.class, () -> IsolationOptions.defaults().withHeap(-1));
    }

    @Test
    void progressIsToldHereAndEndsTheLoadByThrowing() {
        var parts = new ArrayList<Double>();
        Llama.isolatedDefault(OPTIONS.withModel(OPTIONS.model().withProgress(parts::add)), IsolationOptions.defaults()).close();
        assertEquals(0, parts.getFirst());
        assertEquals(1, parts.getLast());
        var enough = new IllegalStateException("enough");
        assertEquals(enough, assertThrows(IllegalStateException.class, () -> Llama.isolatedDefault(OPTIONS.withModel(
                OPTIONS.model().withProgress(part -> {
                    throw enough;
                })), IsolationOptions.defaults())));
        assertNotNull(there.complete(PROMPT).text());
    }
}
