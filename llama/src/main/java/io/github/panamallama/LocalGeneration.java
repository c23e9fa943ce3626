package io.github.panamallama;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.sampling.Branch;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.Generator;
import io.github.panamallama.sampling.GeneratorOptions;
import io.github.panamallama.sampling.IncompleteException;
import io.github.panamallama.sampling.LogProbs;
import io.github.panamallama.sampling.Sampler;
import io.github.panamallama.sampling.StopStrings;
import io.github.panamallama.sampling.TokenProbability;
import io.github.panamallama.sampling.grammar.GrammarConstraint;
import io.github.panamallama.sampling.strategy.Confidence;
import io.github.panamallama.sampling.strategy.Decoding;
import io.github.panamallama.sampling.strategy.Plain;
import io.github.panamallama.sampling.strategy.StrategyOptions;
import io.github.panamallama.sampling.strategy.Work;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;

/**
 * A generation in this process, over one sequence: each {@link #next} evaluates in the caller's thread. What the sequence holds already of
 * the prompt is not evaluated again.
 */
final class LocalGeneration implements Generation {
    private final Sequence sequence;
    private final boolean ownsSequence;
    private final boolean truncated;
    private final int promptTokens;
    private final int cached;
    private final GenerationOptions options;
    /** One of the two does the work: the plain loop, or a strategy. */
    private final Generator generator;
    private final Decoding decoding;
    private final List<LogProbs> logProbs = new ArrayList<>();
    private final ReentrantLock running = new ReentrantLock();

    /** The grammar as the text goes on; null without one. */
    private final GrammarConstraint whole;
    private final StringBuilder text = new StringBuilder();
    private int[] tokens = new int[16];
    private int count;

    /** Whether the prompt is to be kept when it is evaluated. */
    private boolean unkept;
    private long keptNanos;
    private int generated;
    private long promptNanos;
    private long generationNanos;
    private volatile FinishReason reason;
    private boolean complete = true;

    /**
     * @param sequence  its tokens are reused as far as they begin {@code prompt}; the others are cut off
     * @param owns      whether the sequence is closed at the end, or now if this fails
     * @param truncated whether the prompt is not all that was asked for
     * @param spelling  whether control tokens are spelled out in the text
     */
    LocalGeneration(Sequence sequence, boolean owns, int[] prompt, boolean truncated, GenerationOptions options, boolean spelling) {
        this.sequence = sequence;
        this.ownsSequence = owns;
        this.truncated = truncated;
        this.options = options;
        promptTokens = prompt.length;
        boolean plain = options.strategy() == null && !options.confidence();
        // penalties count what is reused as well, but a strategy hears only of what it evaluates
        cached = plain || !options.sampling().usesHistory() ? sharedPrefix(sequence, prompt) : 0;
        try {
            sequence.truncate(cached);
            var engine = sequence.engine();
            var vocabulary = engine.model().vocabulary();
            int most = options.maxTokens() == 0 ? Integer.MAX_VALUE : options.maxTokens();
            boolean keeps = options.promptCache() != null && cached < prompt.length - 1 && (plain || !options.sampling().usesHistory());
            int from = cached;
            if (keeps && !plain) { // a strategy evaluates its prompt by its own ways
                long start = System.nanoTime();
                keep(Arrays.copyOfRange(prompt, cached, prompt.length - 1));
                keptNanos = System.nanoTime() - start;
                from = prompt.length - 1;
            }
            unkept = keeps && plain;
            var rest = Arrays.copyOfRange(prompt, from, prompt.length);
            whole = options.grammar() == null ? null : options.grammar().constraint(vocabulary);
            var constraint = whole == null ? null : whole.within(Math.min(most, engine.contextSize() - prompt.length));
            if (plain) {
                var sampler = Sampler.of(options.sampling(), vocabulary);
                for (int i = 0; i < cached; i++) {
                    sampler.accept(prompt[i]);
                }
                sampler = constraint == null ? sampler : Sampler.constrained(sampler, constraint);
                generator = Generator.over(new Timed(), rest, engine.newRow(), sampler, vocabulary,
                        spelling ? vocabulary.spellingDecoder() : vocabulary.decoder(),
                        new GeneratorOptions(most, StopStrings.of(options.stop()), options.logProbs()));
                decoding = null;
            } else {
                var strategy = options.strategy() == null ? new Plain() : options.strategy();
                decoding = strategy.start(sequence, rest, StrategyOptions.defaults().withMaxTokens(most)
                        .withStopStrings(StopStrings.of(options.stop())).withSampling(options.sampling()).withConstraint(constraint)
                        .withConfidence(options.confidence() || options.logProbs() >= 0).withSpelling(spelling));
                generator = null;
            }
        } catch (RuntimeException | Error e) {
            if (owns) {
                sequence.close();
            }
            throw e;
        }
    }

    /** Evaluates all of a prompt but its last token, whose logits the next process wants too, and puts it into the cache of prompts. */
    private void keep(int[] rest) {
        sequence.append(rest, null);
        sequence.save(options.promptCache());
    }

    @Override
    public LayerPlan plan() {
        return sequence.plan();
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

    @Override
    public String next() {
        running.lock();
        try {
            while (reason == null) {
                long before = promptNanos;
                long start = System.nanoTime();
                boolean first = count == 0;
                boolean more = generator != null ? generator.advance() : decoding.advance();
                long nanos = System.nanoTime() - start - (promptNanos - before);
                if (decoding != null && first) {
                    promptNanos = keptNanos + nanos;        // a strategy evaluates its prompt with the first token
                } else {
                    generationNanos += nanos;
                }
                var finish = generator != null ? generator.finishReason() : decoding.finishReason();
                if (!more) {
                    end(finish);
                    break;
                }
                int token = generator != null ? generator.token() : decoding.token();
                if (token >= 0) {
                    take(token, finish);
                }
                var piece = generator != null ? generator.text() : decoding.text();
                text.append(piece);
                if (finish != null) {
                    end(finish);
                }
                if (!piece.isEmpty()) {
                    return piece;
                }
            }
            if (!complete && (reason == FinishReason.LENGTH || reason == FinishReason.CONTEXT_FULL)) {
                throw incomplete();
            }
            return null;
        } catch (RuntimeException | Error e) {
            end(e instanceof IncompleteException ? FinishReason.CONTEXT_FULL : FinishReason.FAILED);
            throw e;
        } finally {
            running.unlock();
        }
    }

    private void take(int token, FinishReason finish) {
        if (whole != null) {
            whole.accept(token);
        }
        if (finish == FinishReason.STOP) {
            return;
        }
        if (count == tokens.length) {
            tokens = Arrays.copyOf(tokens, 2 * count);
        }
        tokens[count++] = token;
        generated++;
        if (generator != null && generator.logProbs() != null) {
            logProbs.add(generator.logProbs());
        } else if (decoding != null && options.logProbs() >= 0) {
            int last = decoding.confidence().size() - 1;
            logProbs.add(new LogProbs(new TokenProbability(token, decoding.confidence().logProbability(last)), List.of()));
        }
    }

    @Override
    public String text() {
        return text.toString();
    }

    @Override
    public void requireWhole() {
        if (!complete) {
            throw incomplete();
        }
    }

    private IncompleteException incomplete() {
        return new IncompleteException(reason, Arrays.copyOf(tokens, count), text.toString());
    }

    private void end(FinishReason why) {
        if (reason == null) {
            // what stands before a stop text is judged as text, because the tokens go further
            complete = whole == null || (why == FinishReason.STOP_STRING
                    ? options.grammar().triggers().isEmpty() && options.grammar().accepts(text.toString())
                    : whole.ended() || whole.complete() && why != FinishReason.CANCELLED);
            reason = why;
            if (decoding != null) {
                decoding.close();
            }
            if (ownsSequence) {
                sequence.close();
            }
        }
    }

    /** Ends the run: at once if it is idle, within one decode step if a thread is in {@link #next}. */
    @Override
    public void cancel() {
        if (reason != null) {
            return;
        }
        if (running.tryLock()) {
            try {
                end(FinishReason.CANCELLED);
            } finally {
                running.unlock();
            }
        } else if (generator != null) {
            generator.cancel();
        } else {
            decoding.cancel();
        }
    }

    @Override
    public FinishReason reason() {
        return reason;
    }

    @Override
    public List<LogProbs> logProbs() {
        return List.copyOf(logProbs);
    }

    @Override
    public Confidence confidence() {
        return options.confidence() ? decoding.confidence() : null;
    }

    @Override
    public Work work() {
        return decoding == null ? null : decoding.work();
    }

    @Override
    public Completion.Stats stats() {
        return new Completion.Stats(promptTokens, cached, generated, promptNanos, generationNanos, truncated);
    }

    /** The sequence, with a clock at the prompt. */
    private final class Timed implements Branch {
        @Override
        public void append(int[] tokens, Row last) {
            long start = System.nanoTime();
            try {
                if (unkept) {
                    unkept = false;
                    keep(Arrays.copyOf(tokens, tokens.length - 1));
                    sequence.append(tokens[tokens.length - 1], last);
                } else {
                    sequence.append(tokens, last);
                }
            } finally {
                promptNanos += count == 0 ? System.nanoTime() - start : 0;     // later runs are tokens that a grammar forced
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
