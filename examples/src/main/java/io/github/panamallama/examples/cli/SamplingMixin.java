package io.github.panamallama.examples.cli;

import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.SamplerStep;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import picocli.CommandLine;
import picocli.CommandLine.Option;

/** How tokens are chosen. What is not given stays as the command has it. */
final class SamplingMixin {
    @Option(names = "--temp", paramLabel = "X", description = "Temperature; 0 takes the most likely token.")
    private Float temperature;

    @Option(names = "--top-k", paramLabel = "N", description = "Keep the N most likely tokens; 0 keeps all.")
    private Integer topK;

    @Option(names = "--top-p", paramLabel = "P", description = "Keep the likeliest tokens up to this probability; 1 keeps all.")
    private Float topP;

    @Option(names = "--min-p", paramLabel = "P", description = "Keep tokens with at least P times the probability of the best; 0 keeps all.")
    private Float minP;

    @Option(names = {"-s", "--seed"}, paramLabel = "N", description = "Seed of the draws. Without it: a random one.")
    private Long seed;

    @Option(names = "--repeat-penalty", paramLabel = "X", description = "Divides the logits of recent tokens; 1 is off.")
    private Float repetition;

    @Option(names = "--frequency-penalty", paramLabel = "X", description = "Subtracted per recent occurrence; 0 is off.")
    private Float frequency;

    @Option(names = "--presence-penalty", paramLabel = "X", description = "Subtracted from tokens seen recently; 0 is off.")
    private Float presence;

    @Option(names = "--repeat-last-n", paramLabel = "N", description = "How many tokens are recent. Default: 64.")
    private Integer lastN;

    @Option(names = "--dry-multiplier", paramLabel = "X",
            description = "DRY: what would go on with a repetition loses X * base^(its length - "
            + "the allowed one) of its logit; 0 is off.")
    private Float dryMultiplier;

    @Option(names = "--dry-base", paramLabel = "X", description = "DRY: its base, at least 1. Default: 1.75.")
    private Float dryBase;

    @Option(names = "--dry-allowed-length", paramLabel = "N", description = "DRY: tokens that may repeat freely. Default: 2.")
    private Integer dryAllowed;

    @Option(names = "--dry-penalty-last-n", paramLabel = "N", description = "DRY: how many tokens are searched. Default: 64.")
    private Integer dryLastN;

    @Option(names = "--dry-sequence-breaker", paramLabel = "TEXT", description = "DRY: no repetition goes across this; may be repeated, "
            + "\\n is a line's end, none for no such text. Default: \\n : \" *.")
    private List<String> dryBreakers;

    @Option(names = {"--top-n-sigma", "--top-nsigma"}, paramLabel = "X",
            description = "Keep tokens within X standard deviations of the best "
            + "logit; 0 or -1 keeps all.")
    private Float topNSigma;

    @Option(names = {"--typical-p", "--typical"}, paramLabel = "P",
            description = "Keep the most typical tokens up to this probability; 1 keeps "
            + "all.")
    private Float typicalP;

    @Option(names = "--xtc-probability", paramLabel = "P", description = "XTC: how often the likeliest tokens are excluded; 0 is off.")
    private Float xtcProbability;

    @Option(names = "--xtc-threshold", paramLabel = "P", description = "XTC: which tokens are likely enough for that. Default: 0.1.")
    private Float xtcThreshold;

    @Option(names = "--dynatemp-range", paramLabel = "X",
            description = "The temperature goes by entropy, from that much below --temp to that much "
            + "above; 0 is off.")
    private Float dynatempRange;

    @Option(names = "--dynatemp-exp", paramLabel = "X", description = "Exponent of the entropy's share for that. Default: 1.")
    private Float dynatempExponent;

    @Option(names = "--mirostat", paramLabel = "N", description = "2 holds the surprise near a target, instead of all but --temp and "
            + "--logit-bias; 0 is off.")
    private Integer mirostat;

    @Option(names = "--mirostat-ent", paramLabel = "X", description = "Mirostat: the target in bits. Default: 5.")
    private Float mirostatTau;

    @Option(names = "--mirostat-lr", paramLabel = "X", description = "Mirostat: its learning rate. Default: 0.1.")
    private Float mirostatEta;

    @Option(names = "--samplers", paramLabel = "NAMES", description = "The samplers and their order, with semicolons between. Default: "
            + "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature. There is also infill.")
    private String samplers;

    @Option(names = "--logit-bias", paramLabel = "ID=X", description = "Added to a token's logit; -Infinity excludes it. May be repeated.")
    private Map<Integer, Float> bias = Map.of();

    /**
     * @param otherwise what holds without an option; giving --temp above 0 or --mirostat to a greedy command brings in the usual sampling
     * @throws picocli.CommandLine.ParameterException when a value is out of range, or would have no effect
     */
    SamplerOptions options(CommandLine command, SamplerOptions otherwise) {
        try {
            boolean draws = temperature != null && temperature > 0 || temperature == null && mirostat();
            var options = otherwise.temperature() == 0 && draws ? SamplerOptions.defaults() : otherwise;
            options = temperature == null ? options : options.withTemperature(temperature);
            options = topK == null ? options : options.withTopK(topK);
            options = topP == null ? options : options.withTopP(topP);
            options = minP == null ? options : options.withMinP(minP);
            options = seed == null ? options : options.withSeed(seed);
            options = repetition == null ? options : options.withRepetitionPenalty(repetition);
            options = frequency == null ? options : options.withFrequencyPenalty(frequency);
            options = presence == null ? options : options.withPresencePenalty(presence);
            options = lastN == null ? options : options.withPenaltyLastN(lastN);
            options = typicalP == null ? options : options.withTypicalP(typicalP);
            options = topNSigma == null ? options : options.withTopNSigma(topNSigma == -1 ? 0 : topNSigma);
            options = options.withDry(dry(command)).withXtc(xtc(command)).withDynamicTemperature(dynamicTemperature(command))
                    .withMirostat(mirostat(command));
            options = samplers == null ? options : options.withOrder(SamplerStep.parse(samplers));
            return bias.isEmpty() ? options : options.withLogitBias(bias);
        } catch (IllegalArgumentException e) {
            throw new CommandLine.ParameterException(command, e.getMessage());
        }
    }

    /** The options given that change the distribution in other ways than temperature and bias. */
    List<String> shaping() {
        var given = new LinkedHashMap<String, Object>();
        given.put("--top-k", topK);
        given.put("--top-p", topP);
        given.put("--min-p", minP);
        given.put("--repeat-penalty", repetition);
        given.put("--frequency-penalty", frequency);
        given.put("--presence-penalty", presence);
        given.put("--dry-multiplier", dryMultiplier);
        given.put("--top-n-sigma", topNSigma);
        given.put("--typical-p", typicalP);
        given.put("--xtc-probability", xtcProbability);
        given.put("--dynatemp-range", dynatempRange);
        given.put("--samplers", samplers);
        given.values().removeIf(Objects::isNull);
        return List.copyOf(given.keySet());
    }

    boolean mirostat() {
        return mirostat != null && mirostat != 0;
    }

    private SamplerOptions.Dry dry(CommandLine command) {
        needs(command, dryMultiplier, "--dry-multiplier", "--dry-base", dryBase, "--dry-allowed-length", dryAllowed, "--dry-penalty-last-n",
                dryLastN, "--dry-sequence-breaker", dryBreakers);
        if (dryMultiplier == null) {
            return null;
        }
        var usual = SamplerOptions.Dry.of(dryMultiplier);
        var breakers = dryBreakers == null ? usual.breakers() : dryBreakers.equals(List.of("none")) ? List.<String>of()
                : dryBreakers.stream().map(text -> text.replace("\\n", "\n")).toList();
        return new SamplerOptions.Dry(dryMultiplier, dryBase == null ? usual.base() : dryBase,
                dryAllowed == null ? usual.allowedLength() : dryAllowed, dryLastN == null ? usual.lastN() : dryLastN, breakers);
    }

    private SamplerOptions.Xtc xtc(CommandLine command) {
        needs(command, xtcProbability, "--xtc-probability", "--xtc-threshold", xtcThreshold);
        return xtcProbability == null ? null : new SamplerOptions.Xtc(xtcProbability, xtcThreshold == null ? 0.1f : xtcThreshold);
    }

    private SamplerOptions.DynamicTemperature dynamicTemperature(CommandLine command) {
        needs(command, dynatempRange, "--dynatemp-range", "--dynatemp-exp", dynatempExponent);
        return dynatempRange == null ? null
                : new SamplerOptions.DynamicTemperature(dynatempRange, dynatempExponent == null ? 1 : dynatempExponent);
    }

    private SamplerOptions.Mirostat mirostat(CommandLine command) {
        if (mirostat != null && mirostat != 0 && mirostat != 2) {
            throw new CommandLine.ParameterException(command, "--mirostat is " + mirostat
                    + "; it must be 2 (the second version) or 0 (off)");
        }
        needs(command, mirostat() ? mirostat : null, "--mirostat 2", "--mirostat-ent", mirostatTau, "--mirostat-lr", mirostatEta);
        if (!mirostat()) {
            return null;
        }
        if (!shaping().isEmpty()) {
            throw new CommandLine.ParameterException(command, "--mirostat leaves out all samplers but --temp and --logit-bias; drop "
                    + String.join(", ", shaping()));
        }
        var usual = SamplerOptions.Mirostat.defaults();
        return new SamplerOptions.Mirostat(mirostatTau == null ? usual.tau() : mirostatTau, mirostatEta == null ? usual.eta()
                : mirostatEta);
    }

    /** Refuses settings of what was not asked for: names and values in turns. */
    private static void needs(CommandLine command, Object asked, String option, Object... settings) {
        for (int i = 0; i < settings.length && asked == null; i += 2) {
            if (settings[i + 1] != null) {
                throw new CommandLine.ParameterException(command, settings[i] + " is for " + option);
            }
        }
    }
}
