package io.github.panamallama.sampling.strategy;

/** How many tokens a {@link SpeculativeRun} drafts per pass. */
interface DraftLength {
    static DraftLength fixed(int length) {
        return new DraftLength() {
            @Override
            public int most() {
                return length;
            }

            @Override
            public int next() {
                return length;
            }

            @Override
            public void passed(int drafted, int accepted, long draftNanos, long verifyNanos) {
                // whatever it was, the next one is as long
            }
        };
    }

    int most();

    /** Tokens to draft in the next pass, 0 to {@link #most}. */
    int next();

    /** What came of it, and how long both halves of the pass took. */
    void passed(int drafted, int accepted, long draftNanos, long verifyNanos);
}
