package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.DecodeCancelledException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.SamplingException;
import io.github.panamallama.sampling.track.Tally;
import io.github.panamallama.sampling.track.Track;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** One strategy at work behind one track. Chooses tokens; text and ends are the {@link Decoding}'s business. */
abstract class Run {
    final Track main;
    final Chooser chooser;
    final Language language;
    final StrategyOptions options;
    final Gauge gauge;
    final int base;               // tokens of the track before the prompt
    final int[] prompt;
    /** Prompt and chosen tokens. */
    final Ints history;
    /** How many of them the track has evaluated is {@code main.length() - base}; the logits behind the last of those, if that is all. */
    final Row row;
    private final Map<String, Long> events = new TreeMap<>();
    private boolean started;
    private volatile boolean cancelled;

    Run(Track main, int[] prompt, StrategyOptions options, Language language) {
        this.main = main;
        this.prompt = prompt.clone();
        this.options = options;
        this.language = language;
        if (options.constraint() != null && options.constraint().mask().size() != main.vocabularySize()) {
            throw new IllegalArgumentException("the constraint is for a vocabulary of " + options.constraint().mask().size()
                    + " tokens, the model has " + main.vocabularySize() + "; make it from this model's vocabulary");
        }
        chooser = new Chooser(language.sampler(options.sampling()), options.constraint() == null ? null : options.constraint().fork());
        gauge = new Gauge(options.confidence());
        base = main.length();
        history = new Ints(this.prompt);
        row = new Row(main.vocabularySize());
    }

    /**
     * Chooses the next tokens, at least one. The choosers have accepted them, the history holds them. Where this fails, that is true of
     * those in {@code out}.
     */
    final void advance(Steps out) {
        try {
            goOn(out);
        } catch (SamplingException e) {
            throw new SamplingException(place() + ": " + e.getMessage());
        }
    }

    /** Where a row was no distribution, for readers. */
    String place() {
        return "token " + (history.size() - prompt.length + 1);
    }

    private void goOn(Steps out) {
        if (!started) {
            begin();
            for (int token : prompt) {
                chooser.acceptPrompt(token);
            }
            started = true;
        } else if (!gauge.on() && behind()) {
            int forced = chooser.forced();
            if (forced >= 0) {
                commit(forced);
                gauge.unmeasured(forced, out);
                return;
            }
            if (options.fastForward() && forward(out)) {
                return;
            }
        }
        choose(out);
    }

    /** Writes forced text, but for its last token, which might be a longer one with what follows. */
    private boolean forward(Steps out) {
        var text = chooser.forcedText();
        if (text.length() < 2) {
            return false;
        }
        int[] tokens = language.tokenize(text);
        int n = 0;
        for (; n < tokens.length - 1 && chooser.allows(tokens[n]); n++) {
            commit(tokens[n]);
            gauge.unmeasured(tokens[n], out);
        }
        count("forwarded", n);
        return n > 0;
    }

    /** Evaluates the prompt. */
    void begin() {
        evaluate();
    }

    abstract void choose(Steps out);

    /** Whether the last token chosen is not yet evaluated, so that another one may simply follow it. */
    boolean behind() {
        return main.length() < base + history.size();
    }

    /** Evaluates what is pending; {@link #row} then follows the last token. Nothing happens if nothing is pending. */
    final void evaluate() {
        int done = main.length() - base;
        if (done < history.size()) {
            main.append(history.from(done), row);
        }
    }

    /** Evaluates what other tracks than the main one need, in one batch, unless the decoding was cancelled meanwhile. */
    final void evaluate(List<Track.Run> runs) {
        if (cancelled) {
            throw new DecodeCancelledException("the decoding was cancelled");
        }
        main.evaluate(runs);
    }

    /** Whether a generated text of these tokens goes no further: the model or a stop string ends it. */
    final boolean over(int[] generated) {
        if (language.ends(generated[generated.length - 1])) {
            return true;
        }
        if (options.stopStrings().isEmpty()) {
            return false;
        }
        var matcher = options.stopStrings().matcher();
        matcher.push(language.text(generated));
        return matcher.matched();
    }

    final void commit(int token) {
        chooser.accept(token);
        history.add(token);
    }

    final void count(String event) {
        count(event, 1);
    }

    final void count(String event, long times) {
        events.merge(event, times, Long::sum);
    }

    /** The track of a second model; null without one. */
    Tally helper() {
        return null;
    }

    final Work work() {
        var helper = helper();
        return new Work(main.tally().rows(), main.tally().batches(), helper == null ? 0 : helper.rows(), helper == null ? 0
                : helper.batches(), events);
    }

    /** The decoding ends after {@code generated} tokens: the track forgets what lies behind them, branches are closed. */
    void end(int generated) {
        int length = base + prompt.length + generated;
        if (main.length() > length) {
            main.truncate(length);
        }
    }

    /** Ends an evaluation in flight, or refuses the next one of a burst, from any thread. */
    void cancel() {
        cancelled = true;
        main.cancel();
    }
}
