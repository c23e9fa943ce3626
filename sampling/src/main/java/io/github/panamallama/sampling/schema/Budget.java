package io.github.panamallama.sampling.schema;

/** What compiling one schema may cost. */
final class Budget {
    private final int maxFormulas;
    private final long maxSteps;
    private final long deadline;
    private final long nanos;
    private boolean over;
    private int formulas;
    private long steps;

    /**
     * @param maxFormulas formulas that may exist
     * @param maxSteps    shapes that may be combined
     * @param nanos       time in nanoseconds from now on
     */
    Budget(int maxFormulas, long maxSteps, long nanos) {
        this.maxFormulas = maxFormulas;
        this.maxSteps = maxSteps;
        this.nanos = nanos;
        deadline = System.nanoTime() + nanos;
    }

    void formula() {
        if (++formulas > maxFormulas && !over) {
            throw new Refusal(null, "the schema takes more than " + maxFormulas + " combined formulas; use fewer alternatives");
        }
        step();
    }

    /** Compiling is over; what is left is bounded by what it found. */
    void end() {
        over = true;
    }

    void step() {
        if (over) {
            return;
        }
        if (++steps > maxSteps) {
            throw new Refusal(null, "the schema takes more than " + maxSteps + " combinations; use fewer alternatives");
        }
        if ((steps & 63) == 0 && System.nanoTime() - deadline > 0) {
            throw new Refusal(null, "the schema takes more than " + nanos / 1_000_000 + " ms to compile; use fewer alternatives");
        }
    }
}
