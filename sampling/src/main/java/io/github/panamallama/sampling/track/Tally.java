package io.github.panamallama.sampling.track;

/** Counts what was evaluated. */
public final class Tally {
    private long rows;
    private long batches;

    public void add(int rows) {
        this.rows += rows;
        batches++;
    }

    /** Tokens evaluated, whether or not their logits were wanted. */
    public long rows() {
        return rows;
    }

    /** Calls that evaluated them. */
    public long batches() {
        return batches;
    }
}
