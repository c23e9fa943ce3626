package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.DecodeCancelledException;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.FlashAttention;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * One engine under 64 virtual threads, a part of which is cancelled at random. What was not cancelled gives the tokens of a run
 * alone; greedy texts may first differ only where the two best logits are closer than the model's noise. Afterwards the engine
 * holds nothing.
 */
class ManyThreadsTest {
    private static final int THREADS = 64;

    /** Plenty of cells; cells for a sixth of the threads, so that sequences lose theirs and are evaluated again; two ids. */
    static Stream<Arguments> settings() {
        var narrow = EngineOptions.defaults().withBatchSize(Noise.WIDE - 1).withFlashAttention(FlashAttention.OFF).withThreads(1);
        var plenty = narrow.withContextSize(8192).withMaxSequences(48);
        var scarce = narrow.withContextSize(768).withMaxSequences(16);
        var scarceIds = narrow.withContextSize(768).withMaxSequences(3);
        var usual = EngineOptions.defaults().withContextSize(2048).withThreads(2);
        return Stream.of(
                Arguments.of(Models.shippedF16(), plenty, 1L),
                Arguments.of(Models.shippedQ8(), usual, 2L),
                Arguments.of(Models.random(RandomModel.Architecture.LLAMA), scarce, 3L),
                Arguments.of(Models.random(RandomModel.Architecture.LLAMA), scarceIds, 4L),
                Arguments.of(Models.random(RandomModel.Architecture.GEMMA3), scarce, 5L),
                Arguments.of(Models.random(RandomModel.Architecture.MAMBA), scarce, 6L),
                Arguments.of(Models.random(RandomModel.Architecture.JAMBA), scarceIds, 7L));
    }

    /** @param tokens what was generated; @param gaps between the two best logits at each */
    private record Generation(int[] tokens, float[] gaps) {
    }

    private sealed interface Outcome {
        record Done(Generation generation) implements Outcome {
        }

        record Cancelled(int generated) implements Outcome {
        }
    }

    @ParameterizedTest
    @MethodSource("settings")
    @Timeout(value = 5, unit = TimeUnit.MINUTES)
    void nothingIsLostAndNothingLeaks(Path path, EngineOptions options, long seed) throws Exception {
        System.out.println("seed " + seed);
        var random = new SplittableRandom(seed);
        try (var model = Model.load(path)) {
            double tolerance = Noise.tolerance(model, options);
            System.out.println("logits may differ by " + tolerance);
            var prompts = new ArrayList<int[]>();
            var lengths = new int[THREADS];
            var cancelAfter = new int[THREADS];
            for (int i = 0; i < THREADS; i++) {
                prompts.add(random.ints(1 + random.nextInt(70), 0, model.vocabulary().size()).toArray());
                lengths[i] = 1 + random.nextInt(20);
                cancelAfter[i] = random.nextInt(3) == 0 ? random.nextInt(lengths[i]) : -1;
            }
            var alone = new ArrayList<Generation>();
            try (var engine = Engine.open(model, options)) {
                for (int i = 0; i < THREADS; i++) {
                    alone.add(generate(engine, prompts.get(i), lengths[i]));
                }
            }
            List<Outcome> outcomes;
            try (var engine = Engine.open(model, options)) {
                outcomes = together(engine, prompts, lengths, cancelAfter);
                assertEquals(0, engine.stats().sequenceIds(), "native sequence ids that nobody gave back");
                assertEquals(0, engine.stats().cells(), "cells that nobody gave back");
                // and it still works
                assertSame(alone.getFirst(), generate(engine, prompts.getFirst(), lengths[0]), tolerance, "afterwards");
            }
            int done = 0;
            for (int i = 0; i < THREADS; i++) {
                switch (outcomes.get(i)) {
                    case Outcome.Done(var generation) -> {
                        done++;
                        assertSame(alone.get(i), generation, tolerance, "thread " + i + " with seed " + seed);
                    }
                    case Outcome.Cancelled(int generated) -> {
                        assertTrue(cancelAfter[i] >= 0, "thread " + i + " was cancelled by nobody");
                        assertTrue(generated >= cancelAfter[i] && generated <= lengths[i]);
                    }
                }
            }
            assertTrue(done >= THREADS / 2, "only " + done + " threads came through");
        }
    }

    private static List<Outcome> together(Engine engine, List<int[]> prompts, int[] lengths, int[] cancelAfter) throws Exception {
        var calls = new ArrayList<Callable<Outcome>>();
        for (int i = 0; i < THREADS; i++) {
            int own = i;
            calls.add(() -> generateOrBeCancelled(engine, prompts.get(own), lengths[own], cancelAfter[own]));
        }
        var outcomes = new ArrayList<Outcome>();
        try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            for (var future : threads.invokeAll(calls)) {
                outcomes.add(future.get());
            }
        }
        return outcomes;
    }

    private static Generation generate(Engine engine, int[] prompt, int length) {
        try (var sequence = engine.newSequence()) {
            var row = engine.newRow();
            var generation = new Generation(new int[length], new float[length]);
            sequence.append(prompt, row);
            for (int i = 0; i < length; i++) {
                draw(row, generation, i);
                if (i + 1 < length) {
                    sequence.append(generation.tokens[i], row);
                }
            }
            return generation;
        }
    }

    /**
     * Another thread cancels before or while the token after {@code cancelAfter} is evaluated; it may also come too late. Every
     * other one goes on after that, because a cancelled append changes nothing.
     */
    private static Outcome generateOrBeCancelled(Engine engine, int[] prompt, int length, int cancelAfter) throws InterruptedException {
        boolean goesOn = length % 2 == 0;
        Thread canceller = null;
        int generated = 0;
        try (var sequence = engine.newSequence()) {
            var row = engine.newRow();
            var generation = new Generation(new int[length], new float[length]);
            if (cancelAfter == 0) {
                canceller = Thread.startVirtualThread(sequence::cancel);
            }
            append(sequence, prompt, row, goesOn);
            while (true) {
                draw(row, generation, generated);
                generated++;
                if (generated == cancelAfter) {
                    canceller = Thread.startVirtualThread(sequence::cancel);
                }
                if (generated == length) {
                    return new Outcome.Done(generation);
                }
                append(sequence, new int[] {generation.tokens[generated - 1]}, row, goesOn);
            }
        } catch (DecodeCancelledException e) {
            return new Outcome.Cancelled(generated);
        } finally {
            if (canceller != null) {
                canceller.join();
            }
        }
    }

    private static void append(Sequence sequence, int[] tokens, Row row, boolean again) {
        int before = sequence.length();
        try {
            sequence.append(tokens, row);
        } catch (DecodeCancelledException e) {
            assertEquals(before, sequence.length(), "a cancelled run counts as appended");
            if (!again) {
                throw e;
            }
            sequence.append(tokens, row);
        }
    }

    private static void draw(Row row, Generation generation, int i) {
        int best = 0;
        float second = Float.NEGATIVE_INFINITY;
        for (int token = 1; token < row.size(); token++) {
            if (row.get(token) > row.get(best)) {
                second = row.get(best);
                best = token;
            } else {
                second = Math.max(second, row.get(token));
            }
        }
        generation.tokens[i] = best;
        generation.gaps[i] = row.get(best) - second;
    }

    private static void assertSame(Generation expected, Generation got, double tolerance, String what) {
        int first = Arrays.mismatch(expected.tokens, got.tokens);
        if (first >= 0) {
            // two logits that each move by up to the tolerance
            assertTrue(expected.gaps[first] <= 2 * tolerance, what + ": token " + first + " is " + got.tokens[first] + ", alone it was "
                    + expected.tokens[first] + " by " + expected.gaps[first] + ", noise allows " + 2 * tolerance);
        }
    }
}
