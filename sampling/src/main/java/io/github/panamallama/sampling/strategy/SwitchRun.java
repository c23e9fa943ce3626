package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.sampling.track.Tally;
import io.github.panamallama.sampling.track.Track;
import java.util.BitSet;

/** {@link EntropySwitching}. The history is what both tracks catch up with. */
final class SwitchRun extends Run {
    private final Track small;
    private final double threshold;
    private final int dwell;
    private final double[] recent;    // bits
    private final int[] prefix;
    private int seen;
    private boolean large;
    private int since;
    /** Which generated tokens the large model chose. */
    final BitSet byLarge = new BitSet();

    SwitchRun(double threshold, int window, int dwell, Track main, Track small, int[] prompt, StrategyOptions options, Language language) {
        super(main, prompt, options, language);
        EntropySwitching.check(threshold, window, dwell);
        this.small = small;
        this.threshold = threshold;
        this.dwell = dwell;
        recent = new double[window];
        prefix = main.tokens();
    }

    @Override
    Tally helper() {
        return small.tally();
    }

    @Override
    void begin() {
        // nothing: whoever is asked reads the prompt
    }

    @Override
    void choose(Steps out) {
        catchUp(large ? main : small);
        recent[seen++ % recent.length] = RowMath.entropy(row) / Math.log(2);
        since++;
        int generated = history.size() - prompt.length;
        int token = chooser.sample(row);
        gauge.add(row, token, out);
        commit(token);
        byLarge.set(generated, large);
        count(large ? "large" : "small");

        double sum = 0;
        int n = Math.min(seen, recent.length);
        for (int i = 0; i < n; i++) {
            sum += recent[i];
        }
        boolean wanted = sum / n > threshold;
        if (wanted != large && since >= dwell) {
            large = wanted;
            since = 0;
            count("switches");
        }
    }

    @Override
    String place() {
        return "the " + (large ? "large" : "small") + " model, " + super.place();
    }

    private void catchUp(Track track) {
        var due = new Ints();
        for (int i = track.length(); i < base; i++) {
            due.add(prefix[i]);
        }
        for (int i = Math.max(0, track.length() - base); i < history.size(); i++) {
            due.add(history.get(i));
        }
        if (track == main) {
            count("catchUp", due.size() - 1);
        }
        try {
            track.append(due.toArray(), row);
        } catch (ContextFullException e) {
            count(track == main ? "largeFull" : "smallFull");
            throw new ContextFullException("the " + (track == main ? "large" : "small") + " model: " + e.getMessage());
        }
    }

    @Override
    void end(int generated) {
        small.close();
        super.end(generated);
    }

    @Override
    void cancel() {
        super.cancel();
        small.cancel();
    }
}
