package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.sampling.MaskedRow;
import io.github.panamallama.sampling.track.Track;
import java.util.Arrays;
import java.util.List;

/** {@link Uscd}. */
final class UscdRun extends Run {
    private final Uscd settings;
    private final boolean lazy;
    private final int[] lamePrompt;
    private final Contrast contrast;
    private final Row lameRow;
    private final MaskedRow lameMasked = new MaskedRow();
    private Track lame;
    private boolean contrasted;    // the last position
    private boolean contrasting;   // the lame row is being looked at

    /** @param lazy false keeps both sequences in step, which is only good for comparing */
    UscdRun(Uscd settings, Track main, int[] prompt, StrategyOptions options, Language language, boolean lazy) {
        super(main, prompt, options, language);
        this.settings = settings;
        this.lazy = lazy;
        lamePrompt = settings.lamePrompt();
        if (base + lamePrompt.length >= main.contextSize()) {
            throw new IllegalArgumentException("the lame prompt of " + lamePrompt.length + " tokens behind " + base
                    + " does not fit the context of " + main.contextSize());
        }
        if (Arrays.equals(lamePrompt, prompt)) {
            count("lameEqualsPrompt");    // a contrast with itself changes nothing
        }
        contrast = new Contrast(settings, main.vocabularySize());
        lameRow = new Row(main.vocabularySize());
    }

    @Override
    void begin() {
        int shared = Math.min(Track.commonPrefix(prompt, lamePrompt), Math.min(prompt.length, lamePrompt.length) - 1);
        if (shared > 0) {
            main.append(Arrays.copyOf(prompt, shared), null);
        }
        lame = main.fork();
        if (lazy) {
            evaluate();
        } else {
            both();
        }
    }

    /** Tokens that the lame sequence has not seen. */
    private int[] lameDue() {
        int done = lame.length() - base;
        var due = new Ints();
        for (int i = done; i < lamePrompt.length; i++) {
            due.add(lamePrompt[i]);
        }
        for (int i = Math.max(0, done - lamePrompt.length); i < history.size() - prompt.length; i++) {
            due.add(history.get(prompt.length + i));
        }
        return due.toArray();
    }

    private void both() {
        var due = lameDue();
        refuseFull(due);
        count("lameRows", due.length);
        evaluate(List.of(Track.Run.last(main, history.from(main.length() - base), row), Track.Run.last(lame, due, lameRow)));
    }

    private void catchUp() {
        var due = lameDue();
        if (due.length > 0) {
            refuseFull(due);
            count("lameRows", due.length);
            lame.append(due, lameRow);
        }
    }

    /** The end of the lame sequence is the end of both. */
    private void refuseFull(int[] due) {
        if (lame.length() + due.length > lame.contextSize()) {
            count("lameFull");
            throw new ContextFullException("context full: the lame prompt and what follows it, " + (lame.length() + due.length)
                    + " tokens, do not fit in " + lame.contextSize() + " cells");
        }
    }

    @Override
    String place() {
        return (contrasting ? "the lame prompt, " : "") + super.place();
    }

    @Override
    void choose(Steps out) {
        if (behind()) {
            if (lazy && !contrasted) {
                evaluate();
            } else {
                both();    // unsure positions tend to follow each other: one batch instead of two
            }
        }
        contrasted = false;
        var standard = chooser.allowed(row);
        int token;
        if (contrast.sure(standard)) {
            token = chooser.sample(row);
        } else {
            contrasted = true;
            count("contrasts");
            int usual = RowMath.argmax(standard);
            catchUp();
            contrasting = true;
            var scores = contrast.scores(options.constraint() == null ? lameRow : lameMasked.of(lameRow, chooser.mask()));
            contrasting = false;
            if (scores == null) {
                count("fallbacks");
                token = chooser.sample(row);
            } else {
                if (RowMath.argmax(scores) != usual) {
                    count("changed");
                }
                token = chooser.sample(scores);
            }
        }
        gauge.add(row, token, out);
        commit(token);
    }

    @Override
    void end(int generated) {
        if (lame != null) {
            lame.close();
        }
        super.end(generated);
    }

    @Override
    void cancel() {
        super.cancel();
        var second = lame;
        if (second != null) {
            second.cancel();
        }
    }
}
