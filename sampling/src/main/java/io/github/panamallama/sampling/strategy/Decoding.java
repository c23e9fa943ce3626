package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.DecodeCancelledException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.IncompleteException;
import io.github.panamallama.sampling.StopStrings;
import io.github.panamallama.sampling.track.Track;
import java.util.Iterator;
import java.util.NoSuchElementException;

/**
 * A text in the making, by one {@link Strategy}. Use it as a cursor ({@link #advance}, {@link #token}, {@link #text}) or as an iterator;
 * the strategy works in bursts where that is its nature (drafts; beam search chooses everything at once). One caller at a time; {@link
 * #cancel} may come from any thread. Close it: branches hold cells of the engine.
 */
public final class Decoding implements Iterator<DecodedToken>, AutoCloseable {
    private final Run run;
    private final Language language;
    private final Language.Reader reader;
    private final StopStrings.Matcher stops;
    private final int maxTokens;
    private final Steps burst = new Steps();
    private int taken;
    private LlamaException failure;    // of the run, behind what it chose before
    private final Confidence confidence = new Confidence();
    private final StringBuilder whole = new StringBuilder();

    private int token = -1;
    private String text = "";
    private boolean looked;
    private boolean ended;
    private FinishReason finish;
    private volatile boolean cancelled;

    static Decoding start(Strategy strategy, Sequence sequence, int[] prompt, StrategyOptions options) {
        return new Decoding(Runs.of(strategy, Track.of(sequence), sequence.engine(), prompt, options));
    }

    Decoding(Run run) {
        this.run = run;
        language = run.language;
        reader = language.reader();
        stops = run.options.stopStrings().matcher();
        maxTokens = run.options.maxTokens();
    }

    /**
     * Goes on by one token.
     *
     * @return false if the decoding has ended; {@link #finishReason} says why
     * @throws ContextFullException if not even the prompt fits
     * @throws IncompleteException  if the context is full where the constraint does not let the text end
     * @throws io.github.panamallama.sampling.ConstraintException if the constraint leads to a dead end
     * @throws io.github.panamallama.runtime.SamplingException if a row is no distribution
     */
    public boolean advance() {
        looked = false;
        if (finish != null) {
            refuseIncomplete();
            return false;
        }
        boolean done = false;
        try {
            boolean more = step();
            done = true;
            return more;
        } finally {
            if (!done && finish == null) {
                finish = FinishReason.FAILED;
            }
            if (finish != null) {
                settle();
            }
        }
    }

    private boolean step() {
        if (cancelled) {
            return end(FinishReason.CANCELLED);
        }
        if (taken == burst.size()) {
            if (failure == null) {
                refill();
            }
            if (cancelled || failure instanceof DecodeCancelledException) {
                return end(FinishReason.CANCELLED);
            }
            if (taken == burst.size()) {
                return endBy(failure);
            }
        }
        token = burst.token(taken);
        confidence.add(burst, taken);
        taken++;
        if (language.ends(token)) {
            text = rest();
            finish = FinishReason.STOP;
        } else {
            text = stops.push(reader.push(token));
            if (stops.matched()) {
                finish = FinishReason.STOP_STRING;
            } else if (confidence.size() >= maxTokens) {
                text += rest();
                finish = FinishReason.LENGTH;
            }
        }
        whole.append(text);
        return true;
    }

    private void refill() {
        burst.clear();
        taken = 0;
        try {
            run.advance(burst);
        } catch (LlamaException e) {
            failure = e;
        }
    }

    private boolean endBy(LlamaException failure) {
        if (!(failure instanceof ContextFullException) || confidence.size() == 0) {
            throw failure;
        }
        boolean more = end(FinishReason.CONTEXT_FULL);
        if (!more) {
            refuseIncomplete();
        }
        return more;
    }

    private void refuseIncomplete() {
        if (finish == FinishReason.CONTEXT_FULL && !run.chooser.mayEnd()) {
            throw new IncompleteException(confidence.tokens(), whole.toString());
        }
    }

    private String rest() {
        String rest = stops.push(reader.rest());
        return stops.matched() ? rest : rest + stops.flush();
    }

    private boolean end(FinishReason reason) {
        finish = reason;
        token = -1;
        text = rest();
        whole.append(text);
        return !text.isEmpty();
    }

    private void settle() {
        if (!ended) {
            ended = true;
            run.end(confidence.size());
        }
    }

    /** The token of the last {@link #advance}, -1 if it had only text to release. */
    public int token() {
        return token;
    }

    /** The text that the last {@link #advance} released. */
    public String text() {
        return text;
    }

    /** All text so far. */
    public String wholeText() {
        return whole.toString();
    }

    /** All tokens so far. */
    public int[] tokens() {
        return confidence.tokens();
    }

    /** How sure the model is of the tokens so far; the same object each time. */
    public Confidence confidence() {
        return confidence;
    }

    /** What it has cost so far. */
    public Work work() {
        return run.work();
    }

    /** Why the decoding ended, null while it goes on. */
    public FinishReason finishReason() {
        return finish;
    }

    /** The stop string that ended the text, null if none did. */
    public String stopString() {
        return stops.stop();
    }

    @Override
    public boolean hasNext() {
        if (!looked) {
            looked = advance();
        }
        return looked;
    }

    @Override
    public DecodedToken next() {
        if (!hasNext()) {
            throw new NoSuchElementException("the decoding has ended: " + finish);
        }
        looked = false;
        int last = confidence.size() - 1;
        return token < 0 ? new DecodedToken(-1, text, Double.NaN, Double.NaN, Double.NaN)
                : new DecodedToken(token, text, confidence.logProbability(last), confidence.entropy(last), confidence.margin(last));
    }

    /** Ends the decoding within one step of the engine, from any thread; it finishes as {@link FinishReason#CANCELLED}. */
    public void cancel() {
        cancelled = true;
        run.cancel();
    }

    /** Ends the decoding where it is and closes its branches. The sequence stays open. */
    @Override
    public void close() {
        if (finish == null) {
            finish = FinishReason.CANCELLED;
        }
        settle();
    }
}
