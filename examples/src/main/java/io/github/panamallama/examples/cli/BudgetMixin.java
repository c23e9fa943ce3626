package io.github.panamallama.examples.cli;

import io.github.panamallama.layers.Budget;
import io.github.panamallama.layers.BudgetControl;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.sampling.strategy.PlanSwitching;
import io.github.panamallama.sampling.strategy.Strategy;
import java.time.Duration;
import java.util.regex.Pattern;
import picocli.CommandLine;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.TypeConversionException;

/** Plans that change while a text is written, so that it keeps to a budget. */
final class BudgetMixin {
    /** What it is called where strategies are named. */
    static final String NAME = "budget";

    @Option(names = "--budget", paramLabel = "SHARE", description = {
        "Change among the plans of --layers FILE and the whole model while writing, so that tokens take at most this share of the",
        "blocks' work on average, for instance 0.8. 'layers search --keep 0.5,0.75 -o FILE' finds such plans."})
    private Double share;

    @Option(names = "--token-time", paramLabel = "TIME", converter = TimeConverter.class,
            description = "The same, so that a token takes no longer than this, for instance 20ms.")
    private Duration time;

    /** Numbers with a unit. */
    static final class TimeConverter implements ITypeConverter<Duration> {
        private static final Pattern TIME = Pattern.compile("(\\d{1,9}(?:\\.\\d+)?)(us|ms|s)");

        @Override
        public Duration convert(String text) {
            var match = TIME.matcher(text);
            double nanos = !match.matches() ? 0 : Double.parseDouble(match.group(1)) * switch (match.group(2)) {
                case "us" -> 1e3;
                case "ms" -> 1e6;
                default -> 1e9;
            };
            if (nanos < 1) {
                throw new TypeConversionException("'" + text + "' is no time above 0 with a unit, such as 20ms, 500us or 1.5s");
            }
            return Duration.ofNanos((long) nanos);
        }
    }

    /** Whether it was asked for. */
    boolean asked() {
        return share != null || time != null;
    }

    /** Refuses what excludes it, before any model is loaded. */
    void check(CommandLine command, LayersMixin layers, StrategyMixin.Name strategy, SelfDraftMixin selfDraft) {
        if (!asked()) {
            return;
        }
        var option = share != null ? "--budget" : "--token-time";
        if (share != null && time != null) {
            throw new ParameterException(command, "--budget and --token-time exclude each other");
        }
        if (share != null && !(share > 0 && share <= 1)) {
            throw new ParameterException(command, "--budget is " + share + "; it must be above 0 and at most 1");
        }
        if (!layers.isPlanFile()) {
            throw new ParameterException(command, option + " chooses among plans: --layers must name a file (.json) that 'layers search' "
                    + "wrote");
        }
        if (strategy != null && strategy != StrategyMixin.Name.GREEDY && strategy != StrategyMixin.Name.SAMPLE) {
            throw new ParameterException(command, option + " is for greedy and sample; leave out --strategy " + strategy);
        }
        if (selfDraft.asked()) {
            throw new ParameterException(command, option + " and --self-draft exclude each other");
        }
    }

    /** Sequences that the engine needs at the same time. */
    int sequences() {
        return asked() ? 3 : 1;
    }

    /** The strategy if it was asked for, otherwise the given one. */
    Strategy or(Strategy other, CommandLine command, Model model, LayersMixin layers) {
        if (!asked()) {
            return other;
        }
        var ladder = BudgetControl.ladder(layers.plans(model));
        double least = ladder.getFirst().cost() / model.layerCount();
        if (share != null && share < least) {
            throw new ParameterException(command, "--budget " + share + " can't be kept: the cheapest plan, '" + ladder.getFirst()
                    + "', takes " + least);
        }
        return new PlanSwitching(share != null ? Budget.ofWork(ladder, share) : Budget.ofTime(ladder, time));
    }
}
