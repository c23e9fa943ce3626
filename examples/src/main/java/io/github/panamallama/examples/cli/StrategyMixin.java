package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.strategy.AdaDec;
import io.github.panamallama.sampling.strategy.BeamSearch;
import io.github.panamallama.sampling.strategy.BestOfN;
import io.github.panamallama.sampling.strategy.ContrastiveSearch;
import io.github.panamallama.sampling.strategy.EntropySwitching;
import io.github.panamallama.sampling.strategy.MtpDrafts;
import io.github.panamallama.sampling.strategy.NGramDrafts;
import io.github.panamallama.sampling.strategy.Speculative;
import io.github.panamallama.sampling.strategy.Strategy;
import io.github.panamallama.sampling.strategy.TrigramTable;
import io.github.panamallama.sampling.strategy.Uscd;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.stream.Collectors;
import picocli.CommandLine;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.TypeConversionException;

/** Which strategy chooses the tokens, and its settings. A setting of another strategy is an error. */
final class StrategyMixin {
    /** The strategies by the names that users give them. */
    enum Name {
        GREEDY, SAMPLE, BEAM, BEST, CONTRASTIVE, ADADEC, USCD, DRAFT, NGRAM, SWITCH;

        @Override
        public String toString() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /** An engine has at most 256 sequences, one of which is the text itself. */
    static final int MOST_TEXTS = 255;
    /** No model here is asked to go that far ahead; a larger number is a slip. */
    private static final int MOST_TOKENS = 4096;

    @Option(names = "--strategy", paramLabel = "NAME", converter = NameConverter.class, description = {
        "How tokens are chosen: greedy (the default without --temp), sample, beam, best (of several), contrastive (avoids "
                + "what is like the text so far), adadec (looks ahead where the "
                + "model is unsure), uscd (contrasts with a second prompt), draft (a small model or the model's own head drafts), ngram (drafts from text), switch (two "
                + "models by entropy)."})
    private Name name;

    @Option(names = "--beams", paramLabel = "N", description = "beam: texts kept at each step. Default: 4.")
    private Integer beams;

    @Option(names = "--length-penalty", paramLabel = "X",
            description = "beam: scores are log-probabilities over length to the power of X. Default: 1.")
    private Double alpha;

    @Option(names = "--best-of", paramLabel = "N", description = "best: texts drawn, of which the likeliest is kept. Default: 4.")
    private Integer bestOf;

    @Option(names = "--threshold", paramLabel = "X", description = "adadec: entropy in nats at which it pauses; without it the one that "
            + "learn-threshold stored. switch: mean entropy in bits above which the large model writes; 1 without it.")
    private Double threshold;

    @Option(names = "--thresholds", paramLabel = "FILE",
            description = "adadec: where learn-threshold stored it, if not in the usual place.")
    private Path thresholds;

    @Option(names = "--candidates", paramLabel = "N", description = "adadec: tokens compared at a pause. Default: 3. "
            + "contrastive: tokens compared at each position. Default: 4.")
    private Integer candidates;

    @Option(names = "--alpha", paramLabel = "X", description = "contrastive: weight of a token's likeness to those before it against its "
            + "probability, 0 to 1. Default: 0.6.")
    private Double likeness;

    @Option(names = "--lookahead", paramLabel = "N", description = "adadec: tokens each is continued for. Default: 5.")
    private Integer lookahead;

    @Option(names = "--lame-prompt", paramLabel = "TEXT",
            description = "uscd: the prompt without what helps, for instance its examples; \\n is a line's end.")
    private String lamePrompt;

    @Option(names = "--kappa", paramLabel = "X",
            description = "uscd: above this collision probability nothing is contrasted. Default: 0.6.")
    private Double kappa;

    @Option(names = "--draft-model", paramLabel = "MODEL", converter = ModelFile.class,
            description = "draft: a small model of the same vocabulary. Without it the model's own head for multi-token prediction "
                    + "(MTP), which some models have.")
    private Path draftModel;

    @Option(names = "--draft-tokens", paramLabel = "N", description = "draft: tokens drafted at a time. Default: 4; 2 with the model's own "
            + "head.")
    private Integer draftTokens;

    @Option(names = "--corpus", paramLabel = "FILE", description = "ngram: text that drafts are taken from. May be repeated.")
    private List<Path> corpus;

    @Option(names = "--draft-nodes", paramLabel = "N", description = "ngram: tokens drafted at a time. Default: 12.")
    private Integer draftNodes;

    @Option(names = "--small-model", paramLabel = "MODEL", converter = ModelFile.class,
            description = "switch: the small model, of the same vocabulary.")
    private Path smallModel;

    @Option(names = "--window", paramLabel = "N", description = "switch: tokens that the mean entropy is over. Default: 5.")
    private Integer window;

    @Option(names = "--dwell", paramLabel = "N", description = "switch: least tokens between two switches. Default: 5.")
    private Integer dwell;

    static final class NameConverter implements ITypeConverter<Name> {
        @Override
        public Name convert(String text) {
            for (var name : Name.values()) {
                if (name.toString().equalsIgnoreCase(text)) {
                    return name;
                }
            }
            var all = Arrays.stream(Name.values()).map(Name::toString).collect(Collectors.joining(", "));
            throw new TypeConversionException("'" + text + "' is no strategy; the strategies are " + all);
        }
    }

    /** The one asked for; null if none was. */
    Name name() {
        return name;
    }

    /** Refuses settings that would have no effect, and what is missing; before any model is loaded. */
    void check(CommandLine command, SamplerOptions sampling, Set<Name> excluded) {
        if (name != null && excluded.contains(name)) {
            throw new ParameterException(command, "--strategy " + name + " needs a second prompt; use generate");
        }
        only(command, "--beams", beams, Name.BEAM);
        only(command, "--length-penalty", alpha, Name.BEAM);
        only(command, "--best-of", bestOf, Name.BEST);
        only(command, "--threshold", threshold, Name.ADADEC, Name.SWITCH);
        only(command, "--thresholds", thresholds, Name.ADADEC);
        only(command, "--candidates", candidates, Name.ADADEC, Name.CONTRASTIVE);
        only(command, "--alpha", likeness, Name.CONTRASTIVE);
        only(command, "--lookahead", lookahead, Name.ADADEC);
        only(command, "--lame-prompt", lamePrompt, Name.USCD);
        only(command, "--kappa", kappa, Name.USCD);
        only(command, "--draft-model", draftModel, Name.DRAFT);
        only(command, "--draft-tokens", draftTokens, Name.DRAFT);
        only(command, "--corpus", corpus, Name.NGRAM);
        only(command, "--draft-nodes", draftNodes, Name.NGRAM);
        only(command, "--small-model", smallModel, Name.SWITCH);
        only(command, "--window", window, Name.SWITCH);
        only(command, "--dwell", dwell, Name.SWITCH);
        range(command, "--beams", beams, 1, MOST_TEXTS);
        range(command, "--length-penalty", alpha, 0, 10);
        range(command, "--best-of", bestOf, 1, MOST_TEXTS);
        range(command, "--threshold", threshold, name == Name.ADADEC ? 0 : Double.NEGATIVE_INFINITY, Double.POSITIVE_INFINITY);
        range(command, "--candidates", candidates, 1, MOST_TEXTS);
        range(command, "--alpha", likeness, 0, 1);
        range(command, "--lookahead", lookahead, 0, MOST_TOKENS);
        range(command, "--kappa", kappa, 0, 1);
        range(command, "--draft-tokens", draftTokens, 1, MOST_TOKENS);
        range(command, "--draft-nodes", draftNodes, 1, MOST_TOKENS);
        range(command, "--window", window, 1, MOST_TOKENS);
        range(command, "--dwell", dwell, 0, Integer.MAX_VALUE);
        if (lamePrompt != null && lamePrompt.isEmpty()) {
            throw new ParameterException(command, "--lame-prompt is empty; leave out the examples of the prompt, not all of it");
        }
        needed(command, Name.USCD, "--lame-prompt TEXT", lamePrompt);
        needed(command, Name.SWITCH, "--small-model GGUF", smallModel);
        if (name == Name.GREEDY && sampling.temperature() > 0) {
            throw new ParameterException(command, "--strategy greedy draws nothing; leave --temp out, or use --strategy sample");
        }
        if (name == Name.BEST && sampling.temperature() == 0) {
            throw new ParameterException(command, "--strategy best compares draws; with --temp 0 they are all the same");
        }
    }

    private void only(CommandLine command, String option, Object value, Name... of) {
        if (value != null && !Arrays.asList(of).contains(name)) {
            throw new ParameterException(command, option + " is for --strategy " + of[0] + (of.length > 1 ? " and " + of[1] : ""));
        }
    }

    private static void range(CommandLine command, String option, Number value, double least, double most) {
        if (value != null && !(value.doubleValue() >= least && value.doubleValue() <= most)) {
            var bounds = most >= Integer.MAX_VALUE ? least > Double.NEGATIVE_INFINITY ? "at least " + shown(least) : "a number"
                    : shown(least) + " to " + shown(most);
            throw new ParameterException(command, option + " is " + value + "; it must be " + bounds);
        }
    }

    private static String shown(double bound) {
        return Long.toString((long) bound);
    }

    private void needed(CommandLine command, Name of, String option, Object value) {
        if (name == of && value == null) {
            throw new ParameterException(command, "--strategy " + of + " needs " + option);
        }
    }

    /** How tokens are chosen without options for that: by drawing where the strategy's name says so. */
    SamplerOptions otherwise(SamplerOptions usual) {
        return name == Name.SAMPLE || name == Name.BEST ? SamplerOptions.defaults() : usual;
    }

    /** How the model has to be loaded: with its own head, if that is to draft. */
    ModelOptions modelOptions(CommandLine command, Path model, ModelOptions usual) {
        if (!ownHead()) {
            return usual;
        }
        if (Model.mtpHeads(model) == 0) {
            throw new ParameterException(command, "--strategy draft: " + model
                    + " has no head of its own for multi-token prediction (MTP); "
                    + "name a small model with --draft-model GGUF");
        }
        return usual.withMtp(true);
    }

    private boolean ownHead() {
        return name == Name.DRAFT && draftModel == null;
    }

    /** Sequences that the engine needs at the same time. */
    int sequences() {
        return name == null ? 1 : switch (name) {
            case GREEDY, SAMPLE -> 1;
            case BEAM -> 2 * beams() + 2;
            case BEST -> (bestOf == null ? 4 : bestOf) + 2;
            case CONTRASTIVE -> contrastive().candidates();
            case ADADEC -> (candidates == null ? 3 : candidates) + 2;
            case USCD -> 3;
            case DRAFT, SWITCH -> 2;
            case NGRAM -> Math.max(8, draftNodes == null ? 0 : draftNodes) + 2;
        };
    }

    private int beams() {
        return beams == null ? 4 : beams;
    }

    private ContrastiveSearch contrastive() {
        var strategy = candidates == null ? ContrastiveSearch.of() : ContrastiveSearch.of().withCandidates(candidates);
        return likeness == null ? strategy : strategy.withAlpha(likeness);
    }

    /** A strategy, and the second model that it asks, which is to be closed after it. */
    record Ready(Strategy strategy, Model second, Engine engine) implements AutoCloseable {
        @Override
        public void close() {
            try (var model = second; var closing = engine) {
                // both, in this order from the last
            }
        }
    }

    /** The strategy; its own part is null for the plain loop. */
    Ready ready(CommandLine command, Model model, EngineOptions options) {
        if (name == null || name == Name.GREEDY || name == Name.SAMPLE) {
            return new Ready(null, null, null);
        }
        if (ownHead() || name != Name.DRAFT && name != Name.SWITCH) {
            return new Ready(checked(command, () -> alone(model)), null, null);
        }
        var second = Model.load(name == Name.DRAFT ? draftModel : smallModel);
        Engine engine = null;
        try {
            engine = Engine.open(second, options);
            var opened = engine;
            return new Ready(checked(command, () -> name == Name.DRAFT ? new Speculative(opened, draftTokens == null ? 4 : draftTokens)
                    : new EntropySwitching(opened, threshold == null ? 1 : threshold, window == null ? 5 : window,
                            dwell == null ? 5 : dwell)),
                    second, engine);
        } catch (RuntimeException | Error e) {
            if (engine != null) {
                engine.close();
            }
            second.close();
            throw e;
        }
    }

    private Strategy alone(Model model) {
        return switch (name) {
            case DRAFT -> draftTokens == null ? MtpDrafts.of() : new MtpDrafts(draftTokens);
            case BEAM -> new BeamSearch(beams(), alpha == null ? 1 : alpha);
            case BEST -> BestOfN.of(bestOf == null ? 4 : bestOf);
            case CONTRASTIVE -> contrastive();
            case ADADEC -> {
                var strategy = threshold != null ? AdaDec.of(threshold) : learned(model);
                strategy = candidates == null ? strategy : strategy.withCandidates(candidates);
                yield lookahead == null ? strategy : strategy.withDepth(lookahead);
            }
            case USCD -> {
                var strategy = Uscd.of(model.vocabulary().tokenize(lameText(), true, false));
                yield kappa == null ? strategy : strategy.withKappa(kappa);
            }
            case NGRAM -> {
                var texts = new ArrayList<int[]>();
                for (var file : corpus == null ? List.<Path>of() : corpus) {
                    texts.add(model.vocabulary().tokenize(Sources.read(file), false, false));
                }
                var strategy = NGramDrafts.of(TrigramTable.of(model.vocabulary(), texts));
                yield draftNodes == null ? strategy : strategy.withTree(draftNodes, Math.max(1, draftNodes / 2));
            }
            default -> throw new AssertionError(name);
        };
    }

    private AdaDec learned(Model model) {
        try {
            return AdaDec.learned(model, thresholds == null ? LearnThresholdCommand.usualFile() : thresholds);
        } catch (LlamaException e) {
            throw new CommandException(e.getMessage() + ". 'panama-llama learn-threshold SOURCES' learns one; --threshold X does without");
        }
    }

    /** Whether the second prompt is the first, so that there is nothing to contrast. */
    boolean contrastsNothing(String prompt) {
        return name == Name.USCD && lameText().equals(prompt);
    }

    private String lameText() {
        return lamePrompt.replace("\\n", "\n");
    }

    private interface Making {
        Strategy make();
    }

    /** Values that a strategy refuses are wrong arguments. */
    private static Strategy checked(CommandLine command, Making making) {
        try {
            return making.make();
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, e.getMessage());
        }
    }
}
