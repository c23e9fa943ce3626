package io.github.panamallama.sampling;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.stream.Collectors;

/** What a sampler does to a row, one thing after the other, under the names that llama.cpp gives them. */
public enum SamplerStep {
    /** Repetition, frequency and presence penalties. */
    PENALTIES("penalties"),
    /** Penalises what would go on with a repetition, see {@link SamplerOptions.Dry}. */
    DRY("dry"),
    /** Keeps tokens by their distance to the best logit in standard deviations, see {@link SamplerOptions#topNSigma}. */
    TOP_N_SIGMA("top_n_sigma"),
    /** See {@link SamplerOptions#topK}. */
    TOP_K("top_k"),
    /** Keeps locally typical tokens, see {@link SamplerOptions#typicalP}. */
    TYPICAL_P("typ_p"),
    /** See {@link SamplerOptions#topP}. */
    TOP_P("top_p"),
    /** See {@link SamplerOptions#minP}. */
    MIN_P("min_p"),
    /** Excludes top choices, see {@link SamplerOptions.Xtc}. */
    XTC("xtc"),
    /** Temperature, dynamic if asked for. */
    TEMPERATURE("temperature"),
    /** Ends a text that is filled in between others, or takes tokens with a common beginning together. Not in the usual order. */
    INFILL("infill");

    /** llama.cpp's usual order: all but {@link #INFILL}. */
    public static final List<SamplerStep> USUAL = List.of(PENALTIES, DRY, TOP_N_SIGMA, TOP_K, TYPICAL_P, TOP_P, MIN_P, XTC, TEMPERATURE);

    private final String name;

    SamplerStep(String name) {
        this.name = name;
    }

    /**
     * Names with a semicolon between them, as in {@code top_k;top_p;temperature}.
     *
     * @throws IllegalArgumentException for a name that is none, or twice the same
     */
    public static List<SamplerStep> parse(String names) {
        var steps = new ArrayList<SamplerStep>();
        for (var name : names.split(";")) {
            steps.add(Arrays.stream(values()).filter(step -> step.name.equals(name.strip())).findFirst().orElseThrow(() ->
                    new IllegalArgumentException("'" + name.strip() + "' is no sampler; there are "
                            + Arrays.stream(values()).map(SamplerStep::toString).collect(Collectors.joining(", ")))));
        }
        return checked(steps);
    }

    static List<SamplerStep> checked(List<SamplerStep> steps) {
        var seen = EnumSet.noneOf(SamplerStep.class);
        for (var step : steps) {
            if (!seen.add(step)) {
                throw new IllegalArgumentException("the order of samplers names " + step + " twice");
            }
        }
        return List.copyOf(steps);
    }

    @Override
    public String toString() {
        return name;
    }
}
