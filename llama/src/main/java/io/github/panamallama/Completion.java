package io.github.panamallama;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.IncompleteException;
import io.github.panamallama.sampling.LogProbs;
import io.github.panamallama.sampling.strategy.Confidence;
import io.github.panamallama.sampling.strategy.Work;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * Text that a model is writing, as a stream of pieces. Whoever reads it does the work: nothing is evaluated before the first piece is
 * asked for, and nothing more when nobody asks. It can be read once. Reading it to the end frees what it holds; who stops earlier
 * closes it. One thread reads; {@link #close} may come from any thread and ends a piece that is being computed within one decode step.
 *
 * <p>Under a grammar, a text that ran out of tokens or context before it was whole ends with an {@link IncompleteException}.
 */
public final class Completion implements Iterable<String>, AutoCloseable {
    /**
     * What a generation took.
     *
     * @param promptTokens    tokens of the prompt
     * @param cachedTokens    of these, tokens that an earlier generation had evaluated already
     * @param generatedTokens tokens written
     * @param promptNanos     nanoseconds for evaluating the prompt
     * @param generationNanos nanoseconds for evaluating and choosing the tokens written
     * @param truncated       whether some of the text was left out to fit the context
     */
    public record Stats(int promptTokens, int cachedTokens, int generatedTokens, long promptNanos, long generationNanos,
            boolean truncated) {
    }

    private final Generation generation;
    private final Iterator<String> pieces;

    Completion(Generation generation) {
        this.generation = generation;
        pieces = new Pieces(generation);
    }

    /** The pieces still to come, the same iterator each time. No piece is empty, none ends within a character. */
    @Override
    public Iterator<String> iterator() {
        return pieces;
    }

    /** The pieces still to come. */
    public Stream<String> stream() {
        return StreamSupport.stream(Spliterators.spliteratorUnknownSize(pieces, Spliterator.ORDERED | Spliterator.NONNULL), false)
                .onClose(this::close);
    }

    /** Reads to the end: all the text still to come. */
    public String text() {
        var text = new StringBuilder();
        forEach(text::append);
        return text.toString();
    }

    /**
     * Why it ended.
     *
     * @throws IllegalStateException while it goes on
     */
    public FinishReason finishReason() {
        if (generation.reason() == null) {
            throw new IllegalStateException("the text isn't finished; read it to the end or close it first");
        }
        return generation.reason();
    }

    /** The blocks of the model that it is written with. */
    public LayerPlan plan() {
        return generation.plan();
    }

    /** What it has taken so far. */
    public Stats stats() {
        return generation.stats();
    }

    /** One entry per token written so far; empty unless {@link GenerationOptions#withLogProbs} asked for it. With a strategy, NaN where the
     * model was not asked. */
    public List<LogProbs> logProbs() {
        return generation.logProbs();
    }

    /**
     * How sure the model is of the tokens written so far; grows with the text, and lets a reader stop where the model only guesses.
     *
     * @throws IllegalStateException if {@link GenerationOptions#withConfidence} didn't ask for it
     */
    public Confidence confidence() {
        if (generation.confidence() == null) {
            throw new IllegalStateException("confidence was not measured; ask for it with GenerationOptions.withConfidence(true)");
        }
        return generation.confidence();
    }

    /** What a strategy has cost so far, in rows and batches; null without {@link GenerationOptions#withStrategy} or confidence, and of an
     * {@link IsolatedLlama} until the end. */
    public Work work() {
        return generation.work();
    }

    /**
     * Reads to the end: all the text still to come.
     *
     * @throws IncompleteException if a grammar was asked for and the text is only a beginning of one of its texts
     */
    String wholeText() {
        var text = text();
        generation.requireWhole();
        return text;
    }

    /** What runs below. */
    Generation generation() {
        return generation;
    }

    /** Stops. Does nothing after the end. */
    @Override
    public void close() {
        generation.cancel();
    }

    /** Looks one piece ahead, because only evaluating tells whether there is one. */
    private static final class Pieces implements Iterator<String> {
        private final Generation generation;
        private String next;

        Pieces(Generation generation) {
            this.generation = generation;
        }

        @Override
        public boolean hasNext() {
            if (next == null) {
                next = generation.next();
            }
            return next != null;
        }

        @Override
        public String next() {
            if (!hasNext()) {
                throw new NoSuchElementException("the text has ended");
            }
            var piece = next;
            next = null;
            return piece;
        }
    }
}
