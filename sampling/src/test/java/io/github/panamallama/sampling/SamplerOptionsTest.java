package io.github.panamallama.sampling;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

class SamplerOptionsTest {
    private static void refused(String message, Executable made) {
        assertEquals(message, assertThrows(IllegalArgumentException.class, made).getMessage());
    }

    @Test
    void valuesOutsideTheirRangeAreRefusedWithTheValueAndTheRange() {
        var d = SamplerOptions.defaults();
        refused("temperature must be finite and at least 0 (0 takes the most likely token), got -0.5", () -> d.withTemperature(-0.5f));
        refused("temperature must be finite and at least 0 (0 takes the most likely token), got NaN", () -> d.withTemperature(Float.NaN));
        refused("temperature must be finite and at least 0 (0 takes the most likely token), got Infinity",
                () -> d.withTemperature(Float.POSITIVE_INFINITY));
        refused("topK must be at least 0 (0 keeps all tokens), got -1", () -> d.withTopK(-1));
        refused("topP must be within 0 to 1 (1 keeps all tokens), got 1.5", () -> d.withTopP(1.5f));
        refused("topP must be within 0 to 1 (1 keeps all tokens), got NaN", () -> d.withTopP(Float.NaN));
        refused("minP must be within 0 to 1 (0 keeps all tokens), got -0.1", () -> d.withMinP(-0.1f));
        refused("repetitionPenalty must be finite and above 0 (1 is off), got 0.0", () -> d.withRepetitionPenalty(0));
        refused("frequencyPenalty must be finite (0 is off), got NaN", () -> d.withFrequencyPenalty(Float.NaN));
        refused("presencePenalty must be finite (0 is off), got -Infinity", () -> d.withPresencePenalty(Float.NEGATIVE_INFINITY));
        refused("penaltyLastN must be at least 0 tokens (0 switches penalties off), got -1", () -> d.withPenaltyLastN(-1));
        refused("the token of a logitBias must be at least 0, got -3", () -> d.withLogitBias(-3, 1));
        refused("the logitBias of token 4 must be finite, or -infinity to exclude it, got NaN", () -> d.withLogitBias(4, Float.NaN));
        refused("the logitBias of token 4 must be finite, or -infinity to exclude it, got Infinity",
                () -> d.withLogitBias(4, Float.POSITIVE_INFINITY));
    }

    @Test
    void valuesOfTheOtherSamplersAreRefusedToo() {
        var d = SamplerOptions.defaults();
        refused("typicalP must be within 0 to 1 (1 keeps all tokens), got 2.0", () -> d.withTypicalP(2));
        refused("topNSigma must be finite and at least 0 (0 keeps all tokens), got -1.0", () -> d.withTopNSigma(-1));
        refused("the probability of xtc must be within 0 to 1 (0 is off), got 1.5", () -> new SamplerOptions.Xtc(1.5f, 0.1f));
        refused("the threshold of xtc must be within 0 to 1 (above 0.5 is off), got NaN", () -> new SamplerOptions.Xtc(0.5f, Float.NaN));
        refused("the range of the dynamic temperature must be finite and at least 0 (0 is off), got -0.1",
                () -> new SamplerOptions.DynamicTemperature(-0.1f, 1));
        refused("the tau of mirostat must be finite and above 0 bits, got 0.0", () -> new SamplerOptions.Mirostat(0, 0.1f));
        refused("the eta of mirostat must be within 0 to 1, got 2.0", () -> new SamplerOptions.Mirostat(5, 2));
        refused("the base of dry must be finite and at least 1, got 0.5", () -> new SamplerOptions.Dry(1, 0.5f, 2, 64, List.of()));
        refused("the multiplier of dry must be finite and at least 0 (0 is off), got -1.0", () -> SamplerOptions.Dry.of(-1));
        refused("a breaker of dry must be 1 to 40 bytes long, got \"\"", () -> new SamplerOptions.Dry(1, 2, 2, 64, List.of("")));
        refused("'beam' is no sampler; there are penalties, dry, top_n_sigma, top_k, typ_p, top_p, min_p, xtc, temperature, infill",
                () -> SamplerStep.parse("top_k;beam"));
        refused("the order of samplers names top_k twice", () -> d.withOrder(SamplerStep.TOP_K, SamplerStep.TOP_P, SamplerStep.TOP_K));
        refused("infill compares the candidates in pairs: put top_k before it, with topK from 1 to 1000; topK is 40 and the order "
                + "[infill, top_k]",
                () -> d.withOrder(SamplerStep.INFILL, SamplerStep.TOP_K));
        refused("infill, and dry with breakers, need to know what tokens stand for; use Sampler.of(options, vocabulary)",
                () -> Sampler.of(d.withDry(SamplerOptions.Dry.of(1))));
        assertEquals(List.of(SamplerStep.TOP_K, SamplerStep.TEMPERATURE), SamplerStep.parse("top_k; temperature"));
    }

    @Test
    void biasesAreCopiedAndMergedByToken() {
        var map = new HashMap<>(Map.of(1, 2f));
        var options = SamplerOptions.greedy().withLogitBias(map);
        map.put(7, 7f);
        assertEquals(Map.of(1, 2f), options.logitBias());
        assertEquals(Map.of(1, 3f, 2, 4f), options.withLogitBias(1, 3).withLogitBias(2, 4).logitBias());
    }
}
