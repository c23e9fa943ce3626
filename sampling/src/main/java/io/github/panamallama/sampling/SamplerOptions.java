package io.github.panamallama.sampling;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.TreeMap;
import java.util.function.Consumer;

/**
 * How tokens are chosen. Start from {@link #defaults} or {@link #greedy} and change what matters:
 * {@code SamplerOptions.defaults().withTemperature(0.2f).withSeed(42)}. Order and meaning are those of llama.cpp's chain, and its
 * distributions are the same.
 *
 * @param logitBias          added to the logits of single tokens, first of all; -infinity excludes a token
 * @param repetitionPenalty  divides positive logits and multiplies others of tokens that occur in the window; 1 is off
 * @param frequencyPenalty   subtracted once per occurrence in the window; 0 is off
 * @param presencePenalty    subtracted once if the token occurs in the window; 0 is off
 * @param penaltyLastN       the window: that many of the last accepted tokens; 0 switches all penalties off
 * @param dry                penalises what would go on with a repetition; null for off
 * @param topNSigma          keeps the tokens whose logit is within that many standard deviations of the best; 0 keeps all
 * @param topK               keeps that many of the most likely tokens; 0 keeps all
 * @param typicalP           of those keeps the tokens whose surprise is nearest to the entropy, up to this probability; 1 keeps all
 * @param topP               of those keeps the shortest prefix, most likely first, whose probability reaches {@code topP}: the token
 *                           that crosses it stays; 1 keeps all
 * @param minP               of those keeps the tokens with at least {@code minP} times the probability of the best; 0 keeps all
 * @param xtc                now and then excludes the likeliest tokens; null for off
 * @param temperature        the draw is from {@code softmax(logit / temperature)} of what is left; 0 takes the most likely token
 * @param dynamicTemperature lets the temperature follow the entropy; null for off
 * @param mirostat           holds the surprise of the text near a target; null for off. Bias and temperature act before it, all other steps
 *                           are left out, as in llama.cpp
 * @param order              the steps, in their order; what is not in it is left out
 * @param seed               of the draws; empty takes a random one for each sampler
 */
public record SamplerOptions(
        Map<Integer, Float> logitBias,
        float repetitionPenalty,
        float frequencyPenalty,
        float presencePenalty,
        int penaltyLastN,
        Dry dry,
        float topNSigma,
        int topK,
        float typicalP,
        float topP,
        float minP,
        Xtc xtc,
        float temperature,
        DynamicTemperature dynamicTemperature,
        Mirostat mirostat,
        List<SamplerStep> order,
        OptionalLong seed) {

    /** Most candidates that {@link SamplerStep#INFILL} compares in pairs. */
    private static final int MOST_PAIRED = 1000;

    private static final SamplerOptions DEFAULTS = new SamplerOptions(Map.of(), 1, 0, 0, 64, null, 0, 40, 1, 0.95f, 0.05f, null, 0.8f, null,
            null, SamplerStep.USUAL, OptionalLong.empty());
    private static final SamplerOptions GREEDY =
            DEFAULTS.withTopK(0).withTopP(1).withMinP(0).withTemperature(0).withSeed(0);

    /**
     * Don't repeat yourself: a token that would make a repetition of {@code n} tokens longer loses {@code multiplier *
     * base^(n - allowedLength)} of its logit, for {@code n} from {@code allowedLength} on.
     *
     * @param multiplier    at least 0; 0 is off
     * @param base          at least 1
     * @param allowedLength tokens that may repeat freely
     * @param lastN         how many of the last accepted tokens are searched
     * @param breakers      texts that no repetition goes across, at most 40 bytes each
     */
    public record Dry(float multiplier, float base, int allowedLength, int lastN, List<String> breakers) {
        /** The longest breaker, as in llama.cpp. */
        static final int MOST_BYTES = 40;

        public Dry {
            require(multiplier >= 0 && finite(multiplier), "the multiplier of dry", "finite and at least 0 (0 is off)", multiplier);
            require(base >= 1 && finite(base), "the base of dry", "finite and at least 1", base);
            require(allowedLength >= 0, "the allowedLength of dry", "at least 0 tokens", allowedLength);
            require(lastN >= 0, "the lastN of dry", "at least 0 tokens (0 is off)", lastN);
            for (var text : breakers) {
                require(!text.isEmpty() && text.getBytes(StandardCharsets.UTF_8).length <= MOST_BYTES, "a breaker of dry",
                        "1 to " + MOST_BYTES + " bytes long", "\"" + text + "\"");
            }
            breakers = List.copyOf(breakers);
        }

        /** llama.cpp's base 1.75, 2 tokens free, over the last 64, broken by the end of a line, colon, quotation mark and asterisk. */
        public static Dry of(float multiplier) {
            return new Dry(multiplier, 1.75f, 2, 64, List.of("\n", ":", "\"", "*"));
        }

        boolean on() {
            return multiplier > 0 && lastN > 0;
        }
    }

    /**
     * Exclude top choices: with some probability, decided anew for each token, all tokens that are likely enough are excluded but for the
     * least likely of them.
     *
     * @param probability 0 to 1; 0 is off
     * @param threshold   which tokens are likely enough; above 0.5 there is never more than one, and nothing happens
     */
    public record Xtc(float probability, float threshold) {
        public Xtc {
            require(probability >= 0 && probability <= 1, "the probability of xtc", "within 0 to 1 (0 is off)", probability);
            require(threshold >= 0 && threshold <= 1, "the threshold of xtc", "within 0 to 1 (above 0.5 is off)", threshold);
        }

        boolean on() {
            return probability > 0 && threshold <= 0.5f;
        }
    }

    /**
     * Temperature by entropy: from {@code temperature - range} (at least 0) where the model is certain to {@code temperature + range} where
     * all tokens are equally likely.
     *
     * @param range    0 is off
     * @param exponent of the entropy's share of its maximum
     */
    public record DynamicTemperature(float range, float exponent) {
        public DynamicTemperature {
            require(range >= 0 && finite(range), "the range of the dynamic temperature", "finite and at least 0 (0 is off)", range);
            require(exponent >= 0 && finite(exponent), "the exponent of the dynamic temperature", "finite and at least 0", exponent);
        }
    }

    /**
     * Mirostat, second version (Basu et al., ICLR 2021): tokens that surprise more than a bound are excluded, and the bound follows what
     * the tokens that were accepted cost. A token counts that was looked at by {@link Sampler#sample} or {@link Sampler#distribution}
     * before it was accepted; others, such as those of the prompt, leave the bound as it is.
     *
     * @param tau target of the surprise in bits per token, above 0
     * @param eta how fast the bound follows, 0 to 1
     */
    public record Mirostat(float tau, float eta) {
        public Mirostat {
            require(tau > 0 && finite(tau), "the tau of mirostat", "finite and above 0 bits", tau);
            require(eta >= 0 && eta <= 1, "the eta of mirostat", "within 0 to 1", eta);
        }

        /** llama.cpp's: 5 bits, rate 0.1. */
        public static Mirostat defaults() {
            return new Mirostat(5, 0.1f);
        }
    }

    public SamplerOptions {
        require(logitBias != null, "logitBias", "a map", null);
        logitBias.forEach((token, bias) -> {
            require(token != null && token >= 0, "the token of a logitBias", "at least 0", token);
            require(bias != null && bias < Float.POSITIVE_INFINITY, "the logitBias of token " + token, "finite, or -infinity to exclude it",
                    bias);
        });
        require(repetitionPenalty > 0 && finite(repetitionPenalty), "repetitionPenalty", "finite and above 0 (1 is off)",
                repetitionPenalty);
        require(finite(frequencyPenalty), "frequencyPenalty", "finite (0 is off)", frequencyPenalty);
        require(finite(presencePenalty), "presencePenalty", "finite (0 is off)", presencePenalty);
        require(penaltyLastN >= 0, "penaltyLastN", "at least 0 tokens (0 switches penalties off)", penaltyLastN);
        require(topNSigma >= 0 && finite(topNSigma), "topNSigma", "finite and at least 0 (0 keeps all tokens)", topNSigma);
        require(topK >= 0, "topK", "at least 0 (0 keeps all tokens)", topK);
        require(typicalP >= 0 && typicalP <= 1, "typicalP", "within 0 to 1 (1 keeps all tokens)", typicalP);
        require(topP >= 0 && topP <= 1, "topP", "within 0 to 1 (1 keeps all tokens)", topP);
        require(minP >= 0 && minP <= 1, "minP", "within 0 to 1 (0 keeps all tokens)", minP);
        require(temperature >= 0 && finite(temperature), "temperature", "finite and at least 0 (0 takes the most likely token)",
                temperature);
        require(order != null, "order", "a list of steps", null);
        require(seed != null, "seed", "an OptionalLong", null);
        logitBias = Map.copyOf(logitBias);
        order = SamplerStep.checked(order);
        int infill = order.indexOf(SamplerStep.INFILL);
        int cut = order.indexOf(SamplerStep.TOP_K);
        if (infill >= 0 && mirostat == null && (topK == 0 || topK > MOST_PAIRED || cut < 0 || cut > infill)) {
            throw new IllegalArgumentException("infill compares the candidates in pairs: put top_k before it, with topK from 1 to "
                    + MOST_PAIRED
                    + "; topK is " + topK + " and the order " + order);
        }
    }

    /** llama.cpp's: top-k 40, top-p 0.95, min-p 0.05, temperature 0.8, no penalties, random seed. */
    public static SamplerOptions defaults() {
        return DEFAULTS;
    }

    /** The most likely token, always. */
    public static SamplerOptions greedy() {
        return GREEDY;
    }

    /** Replaces all biases. */
    public SamplerOptions withLogitBias(Map<Integer, Float> logitBias) {
        return with(changed -> changed.logitBias = logitBias);
    }

    /** Sets the bias of one token. */
    public SamplerOptions withLogitBias(int token, float bias) {
        var all = new TreeMap<>(logitBias);
        all.put(token, bias);
        return withLogitBias(all);
    }

    public SamplerOptions withRepetitionPenalty(float repetitionPenalty) {
        return with(changed -> changed.repetitionPenalty = repetitionPenalty);
    }

    public SamplerOptions withFrequencyPenalty(float frequencyPenalty) {
        return with(changed -> changed.frequencyPenalty = frequencyPenalty);
    }

    public SamplerOptions withPresencePenalty(float presencePenalty) {
        return with(changed -> changed.presencePenalty = presencePenalty);
    }

    public SamplerOptions withPenaltyLastN(int penaltyLastN) {
        return with(changed -> changed.penaltyLastN = penaltyLastN);
    }

    public SamplerOptions withDry(Dry dry) {
        return with(changed -> changed.dry = dry);
    }

    public SamplerOptions withTopNSigma(float topNSigma) {
        return with(changed -> changed.topNSigma = topNSigma);
    }

    public SamplerOptions withTopK(int topK) {
        return with(changed -> changed.topK = topK);
    }

    public SamplerOptions withTypicalP(float typicalP) {
        return with(changed -> changed.typicalP = typicalP);
    }

    public SamplerOptions withTopP(float topP) {
        return with(changed -> changed.topP = topP);
    }

    public SamplerOptions withMinP(float minP) {
        return with(changed -> changed.minP = minP);
    }

    public SamplerOptions withXtc(Xtc xtc) {
        return with(changed -> changed.xtc = xtc);
    }

    public SamplerOptions withTemperature(float temperature) {
        return with(changed -> changed.temperature = temperature);
    }

    public SamplerOptions withDynamicTemperature(DynamicTemperature dynamicTemperature) {
        return with(changed -> changed.dynamicTemperature = dynamicTemperature);
    }

    public SamplerOptions withMirostat(Mirostat mirostat) {
        return with(changed -> changed.mirostat = mirostat);
    }

    public SamplerOptions withOrder(List<SamplerStep> order) {
        return with(changed -> changed.order = order);
    }

    public SamplerOptions withOrder(SamplerStep... order) {
        return withOrder(List.of(order));
    }

    public SamplerOptions withSeed(long seed) {
        return with(changed -> changed.seed = OptionalLong.of(seed));
    }

    /** A seed of its own for each sampler. */
    public SamplerOptions withRandomSeed() {
        return with(changed -> changed.seed = OptionalLong.empty());
    }

    /** Whether what was accepted before changes what comes next. */
    public boolean usesHistory() {
        return active(SamplerStep.PENALTIES) || active(SamplerStep.DRY);
    }

    /** Whether a sampler has to know what tokens stand for, and is made with a vocabulary. */
    public boolean usesVocabulary() {
        return active(SamplerStep.INFILL) || active(SamplerStep.DRY) && !dry.breakers().isEmpty();
    }

    /** The steps that change something, in their order. */
    List<SamplerStep> active() {
        return order.stream().filter(this::active).toList();
    }

    private boolean active(SamplerStep step) {
        return order.contains(step) && switch (step) {
            case TEMPERATURE -> temperature != 1 || dynamic();
            case PENALTIES -> mirostat == null && penaltyLastN > 0 && (repetitionPenalty != 1 || frequencyPenalty != 0
                    || presencePenalty != 0);
            case DRY -> mirostat == null && dry != null && dry.on();
            case TOP_N_SIGMA -> mirostat == null && topNSigma > 0;
            case TOP_K -> mirostat == null && topK > 0;
            case TYPICAL_P -> mirostat == null && typicalP < 1;
            case TOP_P -> mirostat == null && topP < 1;
            case MIN_P -> mirostat == null && minP > 0;
            case XTC -> mirostat == null && xtc != null && xtc.on();
            case INFILL -> mirostat == null;
        };
    }

    boolean dynamic() {
        return mirostat == null && dynamicTemperature != null && dynamicTemperature.range() > 0;
    }

    /** The components, to change some of them. */
    private static final class Changed {
        Map<Integer, Float> logitBias;
        float repetitionPenalty;
        float frequencyPenalty;
        float presencePenalty;
        int penaltyLastN;
        Dry dry;
        float topNSigma;
        int topK;
        float typicalP;
        float topP;
        float minP;
        Xtc xtc;
        float temperature;
        DynamicTemperature dynamicTemperature;
        Mirostat mirostat;
        List<SamplerStep> order;
        OptionalLong seed;
    }

    private SamplerOptions with(Consumer<Changed> change) {
        var c = new Changed();
        c.logitBias = logitBias;
        c.repetitionPenalty = repetitionPenalty;
        c.frequencyPenalty = frequencyPenalty;
        c.presencePenalty = presencePenalty;
        c.penaltyLastN = penaltyLastN;
        c.dry = dry;
        c.topNSigma = topNSigma;
        c.topK = topK;
        c.typicalP = typicalP;
        c.topP = topP;
        c.minP = minP;
        c.xtc = xtc;
        c.temperature = temperature;
        c.dynamicTemperature = dynamicTemperature;
        c.mirostat = mirostat;
        c.order = order;
        c.seed = seed;
        change.accept(c);
        return new SamplerOptions(c.logitBias, c.repetitionPenalty, c.frequencyPenalty, c.presencePenalty, c.penaltyLastN, c.dry,
                c.topNSigma,
                c.topK, c.typicalP, c.topP, c.minP, c.xtc, c.temperature, c.dynamicTemperature, c.mirostat, c.order, c.seed);
    }

    private static boolean finite(float value) {
        return Float.isFinite(value);
    }

    private static void require(boolean condition, String name, String range, Object value) {
        if (!condition) {
            throw new IllegalArgumentException(name + " must be " + range + ", got " + value);
        }
    }
}
