package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.sampling.strategy.PlanDrafts;
import io.github.panamallama.sampling.strategy.Strategy;
import picocli.CommandLine;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/** Drafts by a part of the model's own blocks, which the whole model verifies. */
final class SelfDraftMixin {
    /** What it is called where strategies are named. */
    static final String NAME = "self-draft";

    @Option(names = "--self-draft", paramLabel = "PLAN", description = "Draft tokens with these of the model's blocks alone, for instance "
            + "0-4,6,8-11, and verify them with all: the same texts, sooner if most drafts are right.")
    private String plan;

    /** Whether it was asked for. */
    boolean asked() {
        return plan != null;
    }

    /** Refuses what excludes it, before any model is loaded. */
    void check(CommandLine command, StrategyMixin.Name strategy) {
        if (plan != null && strategy != null && strategy != StrategyMixin.Name.GREEDY && strategy != StrategyMixin.Name.SAMPLE) {
            throw new ParameterException(command, "--self-draft is a way to be faster at greedy and sample; leave out --strategy "
                    + strategy);
        }
    }

    /** Sequences that the engine needs at the same time. */
    int sequences() {
        return plan == null ? 1 : 2;
    }

    /** The strategy if it was asked for, otherwise the given one. */
    Strategy or(Strategy other, CommandLine command, Model model) {
        if (plan == null) {
            return other;
        }
        return PlanDrafts.of(parse(command, plan, model));
    }

    /** The plan that drafts. */
    LayerPlan plan(CommandLine command, Model model) {
        return parse(command, plan, model);
    }

    static LayerPlan parse(CommandLine command, String plan, Model model) {
        try {
            return LayerPlan.parse(plan, model.layerCount());
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, "--self-draft: " + e.getMessage());
        }
    }
}
