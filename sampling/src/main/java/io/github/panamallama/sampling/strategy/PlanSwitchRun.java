package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.PlanControl;
import io.github.panamallama.sampling.track.Tally;
import io.github.panamallama.sampling.track.Track;

/** {@link PlanSwitching}. */
final class PlanSwitchRun extends Run {
    private final PlanControl control;
    private final Tally tally = new Tally();
    /** Holds what the main track does and what was generated; null before that. */
    private volatile Track branch;
    private LayerPlan plan;

    PlanSwitchRun(PlanControl control, Track main, int[] prompt, StrategyOptions options, Language language) {
        super(main, prompt, options, language);
        this.control = control;
    }

    @Override
    Tally helper() {
        return tally;
    }

    @Override
    boolean behind() {
        return length() < base + history.size();
    }

    private int length() {
        var track = branch;
        return (track == null ? main : track).length();
    }

    @Override
    void choose(Steps out) {
        if (behind()) {
            evaluateUnderPlan();
        }
        int token = chooser.sample(row);
        gauge.add(row, token, out);
        commit(token);
    }

    private void evaluateUnderPlan() {
        long start = System.nanoTime();
        follow();
        int[] due = history.from(length() - base);
        branch.append(due, row);
        long nanos = System.nanoTime() - start;
        count(plan.toString(), due.length);
        for (int i = 0; i < due.length; i++) {
            control.took(nanos / due.length);
        }
    }

    private void follow() {
        var wanted = control.plan();
        if (branch == null) {
            branch = main.fork(wanted, tally);
        } else if (!wanted.equals(plan)) {
            var old = branch;
            branch = old.fork(wanted, tally);
            old.close();
            count("changes");
        }
        plan = wanted;
    }

    @Override
    void end(int generated) {
        if (branch != null) {
            branch.close();
        }
        super.end(generated);
    }

    @Override
    void cancel() {
        super.cancel();
        var track = branch;
        if (track != null) {
            track.cancel();
        }
    }
}
