package io.github.panamallama.sampling.grammar;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.util.ArrayList;
import java.util.Random;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Masks where a grammar remembers what it has read: names of an object, values of an array. */
class JsonMaskTest {
    @ParameterizedTest
    @ValueSource(strings = {
        "{\"type\": \"object\", \"additionalProperties\": {\"type\": \"boolean\"}}",
        "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"null\"}}, \"patternProperties\": {\"^ab*$\": {\"type\": \"null\"}},"
                + " \"additionalProperties\": {\"type\": \"object\", \"additionalProperties\": {\"const\": 1}}}",
        "{\"type\": \"array\", \"uniqueItems\": true, \"items\": {\"type\": [\"string\", \"integer\", \"null\"]}}",
        // a name or value used before may be the only one that goes on so
        "{\"type\": \"object\", \"propertyNames\": {\"maxLength\": 2}, \"additionalProperties\": {\"type\": \"null\"}}",
        "{\"type\": \"array\", \"uniqueItems\": true, \"items\": {\"type\": \"string\", \"maxLength\": 2}}"})
    void aTokenIsInTheMaskExactlyIfItMayBeTaken(String schema) {
        long seed = Long.getLong("panamallama.seed", new Random().nextLong());
        System.out.println("JsonMaskTest seed " + seed);
        var random = new Random(seed);
        var vocabulary = Vocabularies.synthetic(random, "aab\"\":,{}[]1true\\n", 400);
        for (var spelling : JsonOptions.Spelling.values()) {
            var grammar = Grammar.jsonSchema(schema, JsonOptions.DEFAULT.spelling(spelling));
            for (int round = 0; round < 12; round++) {
                var constraint = grammar.constraint(vocabulary);
                for (int step = 0; step < 40 && !constraint.ended(); step++) {
                    var mask = constraint.mask();
                    var allowed = new ArrayList<Integer>();
                    for (int t = 0; t < mask.size(); t++) {
                        var branch = constraint.fork();
                        assertEquals(branch.allows(t), mask.get(t), "token " + t + " after " + step + " steps, seed " + seed);
                        if (mask.get(t)) {
                            allowed.add(t);
                        }
                    }
                    assertFalse(allowed.isEmpty(), "a dead end, seed " + seed);
                    constraint.accept(allowed.get(random.nextInt(allowed.size())));
                }
            }
        }
    }
}
