package io.github.panamallama.examples.cli;

import io.github.panamallama.sampling.SamplerOptions;
import java.util.Map;
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

    @Option(names = "--logit-bias", paramLabel = "ID=X", description = "Added to a token's logit; -Infinity excludes it. May be repeated.")
    private Map<Integer, Float> bias = Map.of();

    /**
     * @param otherwise what holds without an option; giving --temp above 0 to a greedy command brings in the usual top-k and top-p
     * @throws picocli.CommandLine.ParameterException when a value is out of range
     */
    SamplerOptions options(CommandLine command, SamplerOptions otherwise) {
        try {
            var options = otherwise.temperature() == 0 && temperature != null && temperature > 0 ? SamplerOptions.defaults() : otherwise;
            options = temperature == null ? options : options.withTemperature(temperature);
            options = topK == null ? options : options.withTopK(topK);
            options = topP == null ? options : options.withTopP(topP);
            options = minP == null ? options : options.withMinP(minP);
            options = seed == null ? options : options.withSeed(seed);
            options = repetition == null ? options : options.withRepetitionPenalty(repetition);
            options = frequency == null ? options : options.withFrequencyPenalty(frequency);
            options = presence == null ? options : options.withPresencePenalty(presence);
            options = lastN == null ? options : options.withPenaltyLastN(lastN);
            return bias.isEmpty() ? options : options.withLogitBias(bias);
        } catch (IllegalArgumentException e) {
            throw new CommandLine.ParameterException(command, e.getMessage());
        }
    }
}
