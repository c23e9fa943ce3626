package io.github.panamallama.sampling;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.HashMap;
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
        refused("temperature must be finite and at least 0 (0 takes the most likely token), got Infinity", () -> d.withTemperature(Float.POSITIVE_INFINITY));
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
        refused("the logitBias of token 4 must be finite, or -infinity to exclude it, got Infinity", () -> d.withLogitBias(4, Float.POSITIVE_INFINITY));
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
