package io.github.panamallama.bench;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.TokenDecoder;
import io.github.panamallama.sampling.Constraint;
import io.github.panamallama.sampling.Sampler;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarVocabulary;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * Our side of the generation benchmarks, in the JVM that measures: model and engine stay open between measurements, so that
 * what is timed is a program that has run for a while. Upstream's side starts a process for each and times itself from after
 * its own warm-up.
 */
final class Worker implements AutoCloseable {
    private final Model model;
    private final Engine engine;
    private final GenerationWork work;
    private final int[] prompt;
    private GrammarVocabulary vocabulary;   // made when a grammar first asks for it

    Worker(Path path, GenerationWork work, int threads, int parallel) {
        this.work = work;
        this.model = Model.load(path);
        try {
            this.engine = Engine.open(model, EngineOptions.defaults().withContextSize(work.contextSize()).withThreads(threads)
                    .withMaxSequences(Math.max(16, parallel)));
        } catch (RuntimeException e) {
            model.close();
            throw e;
        }
        this.prompt = model.vocabulary().tokenize(work.prompt(), true, true);
    }

    int promptTokens() {
        return prompt.length;
    }

    /** Draws {@code work.generate()} tokens after the prompt; returns tokens per second from the first draw to the last. */
    double generate(long seed) {
        try (var generation = new Generation(seed)) {
            generation.prefill();
            long start = System.nanoTime();
            generation.run();
            return rate(work.generate() - 1, System.nanoTime() - start);
        }
    }

    /** As {@link #generate}, every token held to a grammar that doesn't end before. */
    double generateWithin(Grammar grammar, long seed) {
        try (var generation = new Generation(seed, grammar.constraint(vocabulary()))) {
            generation.prefill();
            long start = System.nanoTime();
            generation.run();
            return rate(work.generate() - 1, System.nanoTime() - start);
        }
    }

    private GrammarVocabulary vocabulary() {
        if (vocabulary == null) {
            vocabulary = GrammarVocabulary.of(model.vocabulary());
        }
        return vocabulary;
    }

    /**
     * The same generation {@code parallel} times at once, each in a virtual thread, all prompts evaluated before the clock
     * starts; returns the sum of tokens per second until the last one ends.
     */
    double generateConcurrently(int parallel, long seed) throws InterruptedException {
        var start = new long[1];
        var ready = new CyclicBarrier(parallel, () -> start[0] = System.nanoTime());
        try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            List<Future<?>> all = new ArrayList<>();
            for (int i = 0; i < parallel; i++) {
                long own = seed + i;
                all.add(threads.submit(() -> {
                    try (var generation = new Generation(own)) {
                        generation.prefill();
                        ready.await();
                        generation.run();
                        return null;
                    } catch (InterruptedException | BrokenBarrierException e) {
                        throw new IllegalStateException(e);
                    }
                }));
            }
            for (var one : all) {
                try {
                    one.get();
                } catch (ExecutionException e) {
                    throw new IllegalStateException("a generation failed", e.getCause());
                }
            }
            return rate((long) parallel * (work.generate() - 1), System.nanoTime() - start[0]);
        }
    }

    private static double rate(long tokens, long nanos) {
        return tokens * 1e9 / nanos;
    }

    @Override
    public void close() {
        engine.close();
        model.close();
    }

    /** One generation, written as a program would: evaluate, draw, accept, turn into text. */
    private final class Generation implements AutoCloseable {
        private final Sequence sequence = engine.newSequence();
        private final Row row = engine.newRow();
        private final Sampler sampler;
        private final TokenDecoder decoder = model.vocabulary().decoder();
        private final StringBuilder text = new StringBuilder();

        Generation(long seed) {
            this.sampler = Sampler.of(work.sampler(model.vocabulary()).withSeed(seed));
        }

        Generation(long seed, Constraint constraint) {
            this.sampler = Sampler.constrained(Sampler.of(work.sampler(model.vocabulary()).withSeed(seed)), constraint);
        }

        void prefill() {
            sequence.append(prompt, row);
        }

        void run() {
            int token = draw();
            for (int i = 1; i < work.generate(); i++) {
                sequence.append(token, row);
                token = draw();
            }
        }

        private int draw() {
            int token = sampler.sample(row);
            sampler.accept(token);
            text.append(decoder.push(token));
            return token;
        }

        @Override
        public void close() {
            sequence.close();
        }
    }
}
