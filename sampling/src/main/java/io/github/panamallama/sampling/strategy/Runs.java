package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Vocabulary;
import io.github.panamallama.sampling.track.Fingerprint;
import io.github.panamallama.sampling.track.Track;
import java.util.Arrays;

/** Puts strategies to work. */
final class Runs {
    private Runs() {
    }

    static Run of(Strategy strategy, Track main, Engine engine, int[] prompt, StrategyOptions options) {
        if (prompt.length == 0) {
            throw new IllegalArgumentException("nothing to go on from: the prompt has no tokens");
        }
        var vocabulary = engine.model().vocabulary();
        var language = Language.of(vocabulary, options.spelling());
        return switch (strategy) {
            case Plain plain -> new PlainRun(main, prompt, options, language);
            case AdaDec settings -> new AdaDecRun(settings, main, prompt, options, language);
            case Uscd settings -> new UscdRun(settings, main, prompt, options, language, true);
            case BeamSearch settings -> new BeamRun(settings, main, prompt, options, language);
            case BestOfN settings -> new BestRun(settings, main, prompt, options, language);
            case Speculative settings -> {
                requireSame(vocabulary, settings.draft().model().vocabulary(), "draft");
                var draft = Track.open(settings.draft(), AdapterSet.none());
                yield new SpeculativeRun(settings.length(), main, Drafter.model(main, draft), prompt, options, language);
            }
            case MtpDrafts settings -> {
                if (!engine.model().options().mtp()) {
                    throw new IllegalArgumentException("'" + engine.model().description() + (engine.model().mtpHeads() > 0
                            ? "' was loaded without its head for multi-token prediction; load it with ModelOptions.withMtp(true)"
                            : "' has no head for multi-token prediction; draft with a small model (Speculative)"));
                }
                yield new SpeculativeRun(settings.length(), main, Drafter.head(main, settings.length()), prompt, options, language);
            }
            case PlanDrafts settings -> {
                requirePlan(settings.plan(), engine, 2, "drafts with a plan are written on a second sequence");
                yield new SpeculativeRun(settings.lengths(options.sampling()), main, Drafter.plan(main, settings.plan()), prompt, options,
                        language);
            }
            case ContrastiveSearch settings -> {
                refuseRecurrent(engine.model(), "which can't branch inside a batch; use another strategy");
                yield new ContrastiveRun(settings, engine.model().layerCount(), main, prompt, options, language);
            }
            case NGramDrafts settings -> {
                settings.table().requireVocabulary(Fingerprint.of(vocabulary));
                refuseRecurrent(engine.model(), "which can't branch inside a batch; draft with a model instead");
                yield new NGramRun(settings, main, prompt, options, language);
            }
            case PlanSwitching settings -> {
                var control = settings.control().get();
                for (var plan : control.plans()) {
                    requirePlan(plan, engine, 3, "a text under changing plans is written on two more sequences");
                    control.plans().forEach(plan::requireCacheOf);
                }
                yield new PlanSwitchRun(control, main, prompt, options, language);
            }
            case EntropySwitching settings -> {
                requireSame(vocabulary, settings.small().model().vocabulary(), "small");
                yield new SwitchRun(settings.threshold(), settings.window(), settings.dwell(), main,
                        Track.open(settings.small(), AdapterSet.none()), prompt, options, language);
            }
        };
    }

    private static void refuseRecurrent(Model model, String therefore) {
        if (model.isRecurrent() || model.isHybrid()) {
            throw new IllegalArgumentException("'" + model.description() + "' keeps a recurrent state, " + therefore);
        }
    }

    private static void requirePlan(LayerPlan plan, Engine engine, int sequences, String reason) {
        var model = engine.model();
        refuseRecurrent(model, "for which there are no layer plans; draft with a small model (Speculative)");
        if (plan.blocks() != model.layerCount()) {
            throw new LayerPlanException("the plan '" + plan + "' is for " + plan.blocks() + " blocks; " + model.path() + " has "
                    + model.layerCount());
        }
        if (engine.options().maxSequences() < sequences) {
            throw new IllegalArgumentException(reason + "; the engine has room for " + engine.options().maxSequences() + ", it needs "
                    + sequences + ": raise EngineOptions.maxSequences");
        }
        engine.newSequence(plan).close();    // refuses what does not fit the graph, here and not behind some tokens
    }

    /** Two models that read each other's tokens need the same ones. */
    static void requireSame(Vocabulary large, Vocabulary small, String which) {
        if (large.size() != small.size()) {
            throw new IllegalArgumentException("the " + which + " model has another vocabulary: " + small.size() + " tokens, not "
                    + large.size());
        }
        for (int token = 0; token < large.size(); token++) {
            if (!Arrays.equals(large.bytes(token), small.bytes(token)) || large.isEndOfGeneration(token) != small.isEndOfGeneration(token)
                    || large.isControl(token) != small.isControl(token)) {
                throw new IllegalArgumentException("the " + which + " model has another vocabulary: token " + token + " is '"
                        + small.detokenize(new int[] {token}, true) + "', not '" + large.detokenize(new int[] {token}, true) + "'");
            }
        }
        if (large.bos() != small.bos()) {
            throw new IllegalArgumentException("the " + which + " model begins texts with token " + small.bos() + ", not " + large.bos());
        }
    }
}
