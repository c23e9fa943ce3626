package io.github.panamallama;

import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.StateException;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.strategy.Strategy;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/**
 * How text is generated. Start from {@link #defaults} and change what matters:
 * {@code GenerationOptions.defaults().withMaxTokens(64).withTemperature(0.2f)}.
 *
 * @param maxTokens  most tokens to generate; 0 for as many as the context has room for
 * @param sampling   how tokens are chosen
 * @param stop       texts that end the generation; they are not part of the result
 * @param logProbs   collect log-probabilities of the chosen tokens and of this many of the likeliest at each position; -1 for none
 * @param truncation whether a prompt that is too long for the context loses its beginning; else it is refused
 * @param grammar    what the text has to satisfy; null for any text. Before the room for tokens is used up, the text is led to an end, so
 *                   that it is whole
 * @param strategy   how tokens are chosen; null for one row, one token, as {@code sampling} says
 * @param confidence whether entropy, margin and log-probability of each token are measured; {@link Completion#confidence} tells them
 * @param adapters   LoRA adapters that the text is written under; the model as it is under {@link AdapterSet#none}
 * @param plans      chooses which blocks of the model run; null for every block once
 * @param promptCache file that keeps the evaluated prompt for the next process; null for none
 */
public record GenerationOptions(int maxTokens, SamplerOptions sampling, List<String> stop, int logProbs, boolean truncation,
        Grammar grammar, Strategy strategy, boolean confidence, AdapterSet adapters,
        PlanChooser plans, Path promptCache) {
    private static final GenerationOptions DEFAULTS =
            new GenerationOptions(256, SamplerOptions.defaults(), List.of(), -1, false, null, null, false, AdapterSet.none(), null, null);

    public GenerationOptions {
        if (maxTokens < 0) {
            throw new IllegalArgumentException("maxTokens is " + maxTokens + "; it must be 0 (as many as fit) or more");
        }
        if (logProbs < -1) {
            throw new IllegalArgumentException("logProbs is " + logProbs + "; it must be -1 (none) or more");
        }
        if (logProbs > 0 && (strategy != null || confidence)) {
            throw new IllegalArgumentException("strategies and confidence report the log-probabilities of the chosen tokens alone; logProbs "
                    + "is " + logProbs + ", it must be 0 or -1 with them");
        }
        if (sampling == null) {
            throw new IllegalArgumentException("sampling must be given");
        }
        if (adapters == null) {
            throw new IllegalArgumentException("adapters must be given; AdapterSet.none() for none");
        }
        stop = List.copyOf(stop);
        if (stop.contains("")) {
            throw new IllegalArgumentException("a stop text is empty");
        }
    }

    /** At most 256 tokens, llama.cpp's usual sampling with a random seed. */
    public static GenerationOptions defaults() {
        return DEFAULTS;
    }

    public GenerationOptions withMaxTokens(int maxTokens) {
        return new GenerationOptions(maxTokens, sampling, stop, logProbs, truncation, grammar, strategy, confidence, adapters, plans,
                promptCache);
    }

    public GenerationOptions withSampling(SamplerOptions sampling) {
        return new GenerationOptions(maxTokens, sampling, stop, logProbs, truncation, grammar, strategy, confidence, adapters, plans,
                promptCache);
    }

    /** 0 takes the most likely token, always. */
    public GenerationOptions withTemperature(float temperature) {
        return withSampling(sampling.withTemperature(temperature));
    }

    /** The same seed and options give the same text, within what llama.cpp's arithmetic allows. */
    public GenerationOptions withSeed(long seed) {
        return withSampling(sampling.withSeed(seed));
    }

    public GenerationOptions withStop(List<String> stop) {
        return new GenerationOptions(maxTokens, sampling, stop, logProbs, truncation, grammar, strategy, confidence, adapters, plans,
                promptCache);
    }

    public GenerationOptions withStop(String... stop) {
        return withStop(List.of(stop));
    }

    /** Collects log-probabilities, in nats, with this many alternatives each. */
    public GenerationOptions withLogProbs(int alternatives) {
        return new GenerationOptions(maxTokens, sampling, stop, alternatives, truncation, grammar, strategy, confidence, adapters, plans,
                promptCache);
    }

    public GenerationOptions withTruncation(boolean truncation) {
        return new GenerationOptions(maxTokens, sampling, stop, logProbs, truncation, grammar, strategy, confidence, adapters, plans,
                promptCache);
    }

    /** The text will belong to this grammar, as a whole. */
    public GenerationOptions withGrammar(Grammar grammar) {
        return new GenerationOptions(maxTokens, sampling, stop, logProbs, truncation, grammar, strategy, confidence, adapters, plans,
                promptCache);
    }

    public GenerationOptions withStrategy(Strategy strategy) {
        return new GenerationOptions(maxTokens, sampling, stop, logProbs, truncation, grammar, strategy, confidence, adapters, plans,
                promptCache);
    }

    /** Measures each token; the model is then asked for tokens too that a grammar leaves no choice about. */
    public GenerationOptions withConfidence(boolean confidence) {
        return new GenerationOptions(maxTokens, sampling, stop, logProbs, truncation, grammar, strategy, confidence, adapters, plans,
                promptCache);
    }

    /** The text will be written with these blocks of the model; null for every block once. */
    public GenerationOptions withPlan(LayerPlan plan) {
        return withPlans(plan == null ? null : new FixedPlan(plan));
    }

    /** The text will be written with blocks that are chosen by its prompt; null for every block once. */
    public GenerationOptions withPlans(PlanChooser plans) {
        return new GenerationOptions(maxTokens, sampling, stop, logProbs, truncation, grammar, strategy, confidence, adapters, plans,
                promptCache);
    }

    /** The text will be written under these adapters, whatever others are written under at the same time; see {@link Llama#adapter}. */
    public GenerationOptions withAdapters(AdapterSet adapters) {
        return new GenerationOptions(maxTokens, sampling, stop, logProbs, truncation, grammar, strategy, confidence, adapters, plans,
                promptCache);
    }

    /**
     * The prompt's evaluated tokens are kept in this file. A later generation, of another process too, evaluates only what its prompt does
     * not share with that one from the beginning on, and puts its own in place. The file is for one model, set of adapters and plan: under
     * another one, generating throws {@link StateException}. A chat keeps its first prompt. With a strategy or confidence the prompt is
     * evaluated when the generation is asked for, not with its first piece; and it is not kept where penalties count it too.
     *
     * @param promptCache null for none
     */
    public GenerationOptions withPromptCache(Path promptCache) {
        return new GenerationOptions(maxTokens, sampling, stop, logProbs, truncation, grammar, strategy, confidence, adapters, plans,
                promptCache);
    }

    /** One plan for every prompt. */
    record FixedPlan(LayerPlan plan) implements PlanChooser {
        @Override
        public LayerPlan choose(Engine engine, int[] prompt) {
            return plan;
        }
    }

    /** Tokens that a prompt may have so that a generation has room: all it may write, or half of the context where that is more. */
    int promptRoom(int contextSize) {
        int answer = maxTokens == 0 ? contextSize / 2 : Math.min(maxTokens, contextSize / 2);
        return contextSize - Math.max(1, answer);
    }

    /** A sequence under the adapters and with the plan that is chosen for a prompt: empty, or what the cache of prompts holds. */
    Sequence newSequence(Engine engine, int[] prompt) {
        var plan = plans == null ? LayerPlan.all(engine.model().layerCount()) : plans.choose(engine, prompt);
        if (promptCache == null || !Files.exists(promptCache)) {
            return engine.newSequence(adapters, plan);
        }
        try {
            return engine.restore(promptCache, adapters, plan);
        } catch (StateException e) {
            throw new StateException(e.getMessage() + "; delete it, or name another file for the cache of prompts", e);
        }
    }
}
