package io.github.panamallama;

import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.TokenDecoder;
import io.github.panamallama.sampling.Branch;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.Generator;
import io.github.panamallama.sampling.GeneratorOptions;
import io.github.panamallama.sampling.LogProbs;
import io.github.panamallama.sampling.Sampler;
import io.github.panamallama.sampling.StopStrings;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;

/**
 * One run of a model over one sequence, pulled piece by piece: each {@link #next} evaluates in the caller's thread. {@link #cancel}
 * may come from any thread. What the sequence holds already of the prompt is not evaluated again.
 */
final class Generation {
    private final Sequence sequence;
    private final boolean ownsSequence;
    private final boolean truncated;
    private final int promptTokens;
    private final int cached;
    private final Generator generator;
    private final List<LogProbs> logProbs = new ArrayList<>();
    private final ReentrantLock running = new ReentrantLock();

    private int generated;
    private long promptNanos;
    private long generationNanos;
    private volatile FinishReason reason;

    /**
     * @param sequence  its tokens are reused as far as they begin {@code prompt}; the others are cut off
     * @param owns      whether the sequence is closed at the end
     * @param truncated whether the prompt is not all that was asked for
     * @param decoder   what tokens become text by
     */
    Generation(Sequence sequence, boolean owns, int[] prompt, boolean truncated, GenerationOptions options, TokenDecoder decoder) {
        this.sequence = sequence;
        this.ownsSequence = owns;
        this.truncated = truncated;
        promptTokens = prompt.length;
        cached = sharedPrefix(sequence, prompt);
        sequence.truncate(cached);
        var sampler = Sampler.of(options.sampling());
        for (int i = 0; i < cached; i++) {
            sampler.accept(prompt[i]);      // penalties count what was reused as well
        }
        var vocabulary = sequence.engine().model().vocabulary();
        generator = Generator.over(new Timed(), Arrays.copyOfRange(prompt, cached, prompt.length), sequence.engine().newRow(), sampler, vocabulary,
                decoder, new GeneratorOptions(options.maxTokens() == 0 ? Integer.MAX_VALUE : options.maxTokens(), StopStrings.of(options.stop()),
                        options.logProbs()));
    }

    /** How much of the prompt the sequence holds; less than all of it, because the last token's logits are needed. */
    private static int sharedPrefix(Sequence sequence, int[] prompt) {
        int most = Math.min(sequence.length(), prompt.length - 1);
        int shared = 0;
        while (shared < most && sequence.token(shared) == prompt[shared]) {
            shared++;
        }
        return shared;
    }

    /** The next piece of text, never empty; null at the end. */
    String next() {
        running.lock();
        try {
            while (reason == null) {
                long before = promptNanos;
                long start = System.nanoTime();
                boolean more = generator.advance();
                generationNanos += System.nanoTime() - start - (promptNanos - before);
                if (!more) {
                    end(generator.finishReason());
                    return null;
                }
                if (generator.token() >= 0 && generator.finishReason() != FinishReason.STOP) {
                    generated++;
                    if (generator.logProbs() != null) {
                        logProbs.add(generator.logProbs());
                    }
                }
                var text = generator.text();
                if (generator.finishReason() != null) {
                    end(generator.finishReason());
                }
                if (!text.isEmpty()) {
                    return text;
                }
            }
            return null;
        } catch (RuntimeException | Error e) {
            end(FinishReason.FAILED);
            throw e;
        } finally {
            running.unlock();
        }
    }

    private void end(FinishReason why) {
        if (reason == null) {
            reason = why;
            if (ownsSequence) {
                sequence.close();
            }
        }
    }

    /** Ends the run: at once if it is idle, within one decode step if a thread is in {@link #next}. */
    void cancel() {
        if (reason != null) {
            return;
        }
        if (running.tryLock()) {
            try {
                end(FinishReason.CANCELLED);
            } finally {
                running.unlock();
            }
        } else {
            generator.cancel();
        }
    }

    /** Null while it goes on. */
    FinishReason reason() {
        return reason;
    }

    List<LogProbs> logProbs() {
        return List.copyOf(logProbs);
    }

    Completion.Stats stats() {
        return new Completion.Stats(promptTokens, cached, generated, promptNanos, generationNanos, truncated);
    }

    /** The sequence, with a clock at the prompt. */
    private final class Timed implements Branch {
        @Override
        public void append(int[] tokens, Row last) {
            long start = System.nanoTime();
            try {
                sequence.append(tokens, last);
            } finally {
                promptNanos += System.nanoTime() - start;
            }
        }

        @Override
        public void append(int token, Row row) {
            sequence.append(token, row);
        }

        @Override
        public boolean full() {
            return sequence.length() >= sequence.engine().contextSize();
        }

        @Override
        public void cancel() {
            sequence.cancel();
        }
    }
}
