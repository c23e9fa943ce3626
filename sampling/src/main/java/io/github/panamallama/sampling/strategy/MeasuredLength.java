package io.github.panamallama.sampling.strategy;

/**
 * The draft length with the most tokens per second by what was measured so far, as {@link PlanDrafts} describes it. Times are straight
 * lines over the length, fitted by least squares, in which a pass counts less with each one that follows.
 */
final class MeasuredLength implements DraftLength {
    /** Passes without drafts after they stopped paying, and passes with drafts after which those without are timed again. */
    private static final int PAUSE = 32;
    /** Pauses become twice as long with each try that did not pay, up to this. */
    private static final int LONGEST_PAUSE = 128;
    private static final double MEMORY = 0.95;
    /** Length of the first draft, and of the first after a pause. */
    private static final int FIRST = 2;

    private final int least;
    private final int most;
    // of 2 tokens 1.5: nothing is known yet, and a few passes tell
    private double tested = 2;
    private double accepted = 1.5;
    private final Line draft = new Line(true);
    private final Line verify = new Line(false);
    private final Line plain = new Line(false);
    private int last;
    private int drafts;        // passes since the last timed one without a draft
    private boolean again;     // the last pass had no draft either, so that the next one without finds its graph as it needs it
    private int pause;
    private int nextPause = PAUSE;

    MeasuredLength(int least, int most) {
        this.least = least;
        this.most = most;
    }

    /** {@code y} over {@code x}. */
    private static final class Line {
        private final boolean throughZero;    // while nothing else is known: in proportion, or constant
        private double n;
        private double x;
        private double y;
        private double xx;
        private double xy;
        private double slope = Double.NaN;

        Line(boolean throughZero) {
            this.throughZero = throughZero;
        }

        void add(double atX, double value) {
            n = MEMORY * n + 1;
            x = MEMORY * x + atX;
            y = MEMORY * y + value;
            xx = MEMORY * xx + atX * atX;
            xy = MEMORY * xy + atX * value;
            double spread = n * xx - x * x;
            if (spread > 0.05 * n * n) {    // else the slope known before is better than none
                slope = Math.max(0, (n * xy - x * y) / spread);
            }
        }

        double at(double atX) {
            if (Double.isNaN(slope)) {
                return throughZero ? y / x * atX : y / n;
            }
            return Math.max(0, y / n - slope * x / n) + slope * atX;
        }
    }

    @Override
    public int most() {
        return most;
    }

    @Override
    public int next() {
        if (pause > 0) {
            pause--;
            return 0;
        }
        if (least == 0 && (plain.n == 0 || drafts >= PAUSE)) {
            return 0;
        }
        if (last == 0) {
            return clamp(FIRST);
        }
        int longest = Math.min(most, Math.max(FIRST, 2 * last));
        int best = least;
        for (int n = least + 1; n <= longest; n++) {
            best = rate(n) > rate(best) ? n : best;
        }
        if (best == 0) {
            pause = nextPause - 1;
            nextPause = Math.min(LONGEST_PAUSE, 2 * nextPause);
            last = 0;
        } else {
            nextPause = PAUSE;
        }
        return best;
    }

    private int clamp(int length) {
        return Math.max(least, Math.min(most, length));
    }

    /** Tokens per nanosecond. */
    private double rate(int n) {
        if (n == 0) {
            return 1 / plain.at(0);
        }
        double a = accepted / tested;
        double tokens = 1;
        for (int i = 0; i < n; i++) {
            tokens = 1 + a * tokens;
        }
        return tokens / (draft.at(n) + verify.at(n));
    }

    @Override
    public void passed(int drafted, int accepted, long draftNanos, long verifyNanos) {
        if (drafted == 0) {
            if (again) {
                plain.add(0, verifyNanos);
                drafts = 0;
            }
            again = true;
            return;
        }
        again = false;
        tested = MEMORY * tested + Math.min(drafted, accepted + 1);
        this.accepted = MEMORY * this.accepted + accepted;
        draft.add(drafted, draftNanos);
        verify.add(drafted, verifyNanos);
        last = drafted;
        drafts++;
    }
}
