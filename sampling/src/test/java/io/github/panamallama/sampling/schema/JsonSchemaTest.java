package io.github.panamallama.sampling.schema;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.sampling.automaton.NodePool;
import io.github.panamallama.sampling.grammar.JsonOptions;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class JsonSchemaTest {
    private static Verdicts of(String schema) {
        return new Verdicts(schema, JsonOptions.DEFAULT);
    }

    private static Refusal refused(String schema) {
        return assertThrows(Refusal.class, () -> of(schema));
    }

    private static void accepted(Verdicts verdicts, String... texts) {
        for (String text : texts) {
            assertTrue(verdicts.accepts(text), text);
        }
    }

    private static void rejected(Verdicts verdicts, String... texts) {
        for (String text : texts) {
            assertFalse(verdicts.accepts(text), text);
        }
    }

    // ---- spelling

    @Test
    void stringsMayBeSpelledInEveryWayThatJsonKnows() {
        var v = of("{\"enum\": [\"a/\\u00e9\\n\", \"\\ud83d\\ude00\"]}");
        accepted(v, "\"a/\u00e9\\n\"", "\"\\u0061\\/\\u00e9\\u000a\"", "\"a/\\u00E9\\u000A\"", "\"\ud83d\ude00\"", "\"\\ud83d\\uDE00\"");
        rejected(v, "\"a/\u00e9\n\"", "\"a/\\xe9\\n\"", "\"\\ud83d\"", "\"\\ude00\\ud83d\"");
    }

    @Test
    void theShortestSpellingIsTheOnlyOneOnRequest() {
        var v = new Verdicts("{\"type\": [\"string\", \"number\"]}", JsonOptions.DEFAULT.spelling(JsonOptions.Spelling.SHORTEST));
        accepted(v, "\"a/\u00e9\\n\\u0001\\\"\\\\\"", "0", "-1", "1.5", "-0.25", "100");
        rejected(v, "\"\\u0061\"", "\"\\/\"", "-0", "1.0", "1.50", "1e2", "\"\\u000a\"");
    }

    @Test
    void halvesOfCharactersAreNoStrings() {
        var v = of("{\"type\": \"string\"}");
        rejected(v, "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800a\"");
        accepted(v, "\"\\ud800\\udc00\"");
    }

    @Test
    void lengthCountsCharactersHoweverTheyAreSpelled() {
        var v = of("{\"type\": \"string\", \"minLength\": 2, \"maxLength\": 2}");
        accepted(v, "\"ab\"", "\"\\u0061\\n\"", "\"\ud83d\ude00\ud83d\ude00\"", "\"\\ud83d\\ude00b\"");
        rejected(v, "\"a\"", "\"abc\"", "\"\ud83d\ude00\"");
    }

    @Test
    void patternsSeeThroughEscapes() {
        var v = of("{\"type\": \"string\", \"pattern\": \"^a\\\"\\\\\\\\b+$\"}");
        accepted(v, "\"a\\\"\\\\b\"", "\"\\u0061\\u0022\\u005cbb\"");
        rejected(v, "\"a\\\"b\"", "\"a\\\"\\\\\"");
    }

    @Test
    void whiteSpaceIsRefusedInCompactTextAndBoundedOtherwise() {
        String schema = "{\"type\": \"object\", \"additionalProperties\": {\"type\": \"array\"}}";
        rejected(of(schema), "{ }", "{\"a\": []}", "{\"a\":[1, 2]}", " {}", "{} ");
        var v = new Verdicts(schema, JsonOptions.DEFAULT.whitespace(2));
        accepted(v, "{}", "{ }", "{\n\"a\" : [ 1 ,\t2 ] }", "{\"a\":[]}");
        rejected(v, "{   }", "{\"a\":   []}");
    }

    // ---- numbers

    @Test
    void numbersAreComparedExactlyInPlainDigits() {
        var v = of("{\"type\": \"number\", \"minimum\": -1.25, \"exclusiveMaximum\": 100.5}");
        accepted(v, "-1.25", "-1.250", "-1.2499999999999999999999999", "-0", "0.0", "100.4999999999999999999999999", "100", "99.9");
        rejected(v, "-1.2500000000000000000000001", "-1.26", "-2", "100.5", "100.500", "100.51", "101", "1000", "01", "+1", ".5", "1.");
    }

    @Test
    void exponentsAreAllowedWhereAnyNumberWillDo() {
        accepted(of("{\"type\": \"number\"}"), "1e5", "-1.5E-300", "0e0");
        rejected(of("{\"type\": \"number\", \"minimum\": 0}"), "1e5");
        rejected(of("{\"type\": \"integer\"}"), "1e5", "1.5");
        accepted(of("{\"type\": \"integer\"}"), "1", "1.0", "-7.00");
    }

    @ParameterizedTest
    @CsvSource({"3, 9, 10", "7, -49, -50", "0.01, 12.34, 12.345", "2.5, 7.5, 7.4", "1.5, 4.500, 4", "1000, 25000, 25500", "0.7, 2.1, 2.2"})
    void multiplesAreExact(String divisor, String multiple, String other) {
        var v = of("{\"type\": \"number\", \"multipleOf\": " + divisor + "}");
        accepted(v, multiple, "0");
        rejected(v, other);
    }

    @Test
    void equalNumbersAreOneConstant() {
        accepted(of("{\"const\": 10}"), "10", "10.0", "10.000");
        accepted(of("{\"const\": 0.50}"), "0.5", "0.500");
        rejected(of("{\"const\": 10}"), "1", "100", "10.01", "-10");
        accepted(of("{\"const\": 0}"), "0", "-0", "0.00");
    }

    // ---- objects

    @Test
    void propertiesComeInAnyOrderAndOnce() {
        var v = of("""
                {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a", "b"],
                 "additionalProperties": false}""");
        accepted(v, "{\"a\":1,\"b\":\"x\"}", "{\"b\":\"x\",\"a\":1}", "{\"\\u0062\":\"\",\"a\":1}");
        rejected(v, "{\"a\":1}", "{\"a\":1,\"b\":\"x\",\"a\":1}", "{\"a\":1,\"b\":\"x\",\"c\":1}", "{\"a\":1,\"b\":\"x\",}",
                "{,\"a\":1,\"b\":\"\"}");
        assertEquals(14, v.prefix("{\"a\":1,\"b\":\"x\",\"a\":1}"), "nothing can follow but the end");
    }

    @Test
    void noNameComesTwiceHoweverItIsSpelled() {
        var v = of("{\"type\": \"object\", \"properties\": {\"a\": {}}, \"additionalProperties\": {\"type\": \"integer\"}}");
        accepted(v, "{\"x\":1,\"y\":2,\"xy\":3,\"\":4,\"a\":\"\"}", "{\"foo\":1,\"fo\":2,\"fooo\":3}");
        rejected(v, "{\"x\":1,\"x\":2}", "{\"x\":1,\"y\":1,\"\\u0078\":2}", "{\"\\u00e9\":1,\"\u00e9\":2}", "{\"\":1,\"\":1}");
        assertEquals(11, v.prefix("{\"xx\":1,\"xx\":"), "the quote would end a name that is there");
        accepted(of("true"), "[{\"x\":{\"x\":1},\"y\":{\"x\":[]}},{\"x\":0}]");
        rejected(of("true"), "[{\"x\":{\"x\":1,\"x\":2}}]");
    }

    @Test
    void schemaOrderIsKeptOnRequest() {
        var v = new Verdicts("""
                {"type": "object", "required": ["z"], "properties": {"z": {}, "a": {}, "m": {}}}""",
                JsonOptions.DEFAULT.order(JsonOptions.Order.SCHEMA));
        accepted(v, "{\"z\":1}", "{\"z\":1,\"m\":2}", "{\"z\":1,\"a\":2,\"m\":3,\"other\":4}");
        rejected(v, "{\"a\":1,\"z\":1}", "{\"z\":1,\"m\":2,\"a\":3}", "{\"z\":1,\"other\":4,\"m\":3}", "{\"m\":1}", "{}");
    }

    @Test
    void whatCannotBeCompletedIsNeverBegun() {
        var v = of("""
                {"type": "object", "maxProperties": 2, "required": ["a", "b"], "properties": {"a": {}, "b": {}, "c": {}}}""");
        assertEquals(2, v.prefix("{\"c\":1"), "c would leave no room for a and b");
        var w = of("{\"type\": \"array\", \"contains\": {\"const\": 1}, \"maxItems\": 2}");
        assertEquals(3, w.prefix("[2,3"));
        accepted(w, "[1]", "[2,1]", "[1,2]");
    }

    @Test
    void finitelyManyNamesAreSeenToRunOut() {
        refused("{\"type\": \"object\", \"minProperties\": 3, \"propertyNames\": {\"enum\": [\"a\", \"b\"]}}");
        var v = of("{\"type\": \"object\", \"minProperties\": 2, \"propertyNames\": {\"pattern\": \"^[ab]$\"}}");
        accepted(v, "{\"a\":1,\"b\":2}", "{\"b\":[],\"a\":{}}");
        rejected(v, "{\"a\":1}", "{\"a\":1,\"a\":2}", "{\"a\":1,\"b\":2,\"c\":3}");
    }

    @Test
    void aNameThatAConditionNeedsIsNotUsedUpForAnythingElse() {
        var v = of("""
                {"type": "object", "maxProperties": 2, "required": ["a"], "not": {"patternProperties": {"^$": {"minItems": 3}}}}""");
        accepted(v, "{\"\":[1],\"a\":0}", "{\"a\":0,\"\":[]}");
        assertEquals(4, v.prefix("{\"\":\"KB\""), "only an array of fewer than three items makes the condition fail");
        assertEquals(8, v.prefix("{\"a\":0,\"b\":1"), "no room would be left for it");
        var w = of("""
                {"type": "object", "propertyNames": {"pattern": "^[a-j]{2}$"}, "not": {"patternProperties": {"^a": {"type": "null"}}},
                 "minProperties": 100, "maxProperties": 100}""");
        var text = new StringBuilder("{");
        for (int i = 0; i < 99; i++) {
            text.append(i == 0 ? "" : ",").append('"').append((char) ('a' + (i + 10) % 100 / 10)).append((char) ('a' + i % 10))
                    .append("\":null");
        }
        assertEquals(text.length(), w.prefix(text.toString()));
        rejected(w, text + ",\"aj\":null}");
        accepted(w, text + ",\"aj\":1}");
        refused("{\"type\": \"object\", \"propertyNames\": {\"pattern\": \"^[a-j]{2}$\"}, \"minProperties\": 101}");
    }

    @Test
    void negationOfObjectsIsExact() {
        var v = of("""
                {"type": "object", "not": {"properties": {"a": {"type": "integer"}}, "patternProperties": {"^x": {"type": "null"}},
                 "additionalProperties": {"type": "boolean"}}}""");
        accepted(v, "{\"a\":\"\"}", "{\"x1\":1}", "{\"q\":1}", "{\"a\":1,\"q\":true,\"xx\":0}");
        rejected(v, "{}", "{\"a\":1}", "{\"x\":null,\"a\":2}", "{\"q\":true}");
    }

    @Test
    void recursionGoesThroughReferences() {
        var v = of("""
                {"$defs": {"tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#/$defs/tree"},
                 "value": {"type": "integer"}}, "required": ["value"], "additionalProperties": false}}, "$ref": "#/$defs/tree"}""");
        accepted(v, "{\"value\":1}", "{\"left\":{\"right\":{\"value\":3},\"value\":2},\"value\":1}");
        rejected(v, "{\"left\":{},\"value\":1}", "{\"left\":null,\"value\":1}");
    }

    @Test
    void exactlyOneMeansNotTwo() {
        var v = of("{\"oneOf\": [{\"type\": \"integer\"}, {\"minimum\": 2}]}");
        accepted(v, "1", "2.5", "\"x\"", "1.0");
        rejected(v, "3", "1.5", "-0.5", "2");
    }

    // ---- refusals

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "{\"properties\": {\"a/b\": {\"uniqueItems\": true, \"type\": \"array\"}}} | /properties/a~1b/uniqueItems",
        "{\"allOf\": [{}, {\"pattern\": \"(?<=a)b\"}]} | /allOf/1/pattern",
        "{\"$defs\": {\"x\": {\"$ref\": \"http://example.com/other.json\"}}, \"$ref\": \"#/$defs/x\"} | /$defs/x/$ref",
        "{\"$ref\": \"#/$defs/missing\"} | /$ref",
        "{\"$ref\": \"#nowhere\"} | /$ref",
        "{\"type\": \"text\"} | /type",
        "{\"items\": 3} | /items",
        "{\"minLength\": -1} | /minLength",
        "{\"multipleOf\": 0} | /multipleOf",
        "{\"pattern\": \"(a\"} | /pattern",
        "{\"patternProperties\": {\"[\": {}}} | /patternProperties/[",
        "{\"$schema\": \"https://example.com/dialect\"} | /$schema",
        "{\"required\": \"a\"} | /required",
        "{\"enum\": 1} | /enum",
        "{\"anyOf\": []} | /anyOf",
        "{\"$recursiveRef\": \"#\"} | /$recursiveRef"})
    void whatCannotBeEnforcedIsRefusedWithItsPlace(String schema, String pointer) {
        assertEquals(pointer, refused(schema).pointer(), schema);
    }

    @ParameterizedTest
    @ValueSource(strings = {"{\"$ref\": \"#\"}", "{\"anyOf\": [{\"$ref\": \"#\"}, {\"type\": \"null\"}]}", "{\"not\": {\"$ref\": \"#\"}}",
        "{\"$defs\": {\"a\": {\"$ref\": \"#/$defs/b\"}, \"b\": {\"allOf\": [{\"$ref\": \"#/$defs/a\"}]}}, \"$ref\": \"#/$defs/a\"}",
        "{\"$defs\": {\"a\": {\"$ref\": \"#/$defs/a\"}}, \"unevaluatedProperties\": false, \"$ref\": \"#/$defs/a\"}"})
    void aReferenceThatLeadsBackToItselfSaysNothing(String schema) {
        assertTrue(refused(schema).getMessage().contains("refers to itself"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"false", "{\"type\": \"string\", \"const\": 1}", "{\"enum\": []}",
        "{\"type\": \"integer\", \"minimum\": 2, \"maximum\": 1}",
        "{\"type\": \"string\", \"minLength\": 3, \"pattern\": \"^..$\"}",
        "{\"$defs\": {\"a\": {\"type\": \"object\", \"required\": [\"a\"], \"properties\": {\"a\": {\"$ref\": \"#/$defs/a\"}}}},"
                + " \"$ref\": \"#/$defs/a\"}",
        "{\"type\": \"array\", \"minItems\": 2, \"prefixItems\": [true, false]}"})
    void aSchemaWithoutAnyValueIsRefused(String schema) {
        assertTrue(refused(schema).getMessage().contains("contradicts itself"), schema);
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{", "nul", "[1]", "3", "{\"a\": 1, \"a\": 2}", "{} {}", "\"x\""})
    void whatIsNoSchemaIsRefused(String text) {
        refused(text);
    }

    @Test
    void documentsGivenByTheCallerAreReached() {
        var v = new Verdicts("{\"$ref\": \"https://example.com/city.json#/$defs/name\"}", JsonOptions.DEFAULT
                .document("https://example.com/city.json", "{\"$defs\": {\"name\": {\"$ref\": \"names.json\"}}}")
                .document("https://example.com/names.json", "{\"type\": \"string\", \"maxLength\": 3}"));
        accepted(v, "\"abc\"");
        rejected(v, "\"abcd\"", "1");
    }

    @Test
    void deepSchemasAreRefusedBeforeTheStackEnds() {
        var deep = new StringBuilder();
        for (int i = 0; i < 450; i++) {
            deep.append("{\"items\":");
        }
        deep.append("true").repeat("}", 450);
        of(deep.toString()); // says nothing in the end
        refused(deep.toString().replace("true", "{\"not\":".repeat(10_000) + "1" + "}".repeat(10_000)));
        var refs = new StringBuilder("{\"$ref\": \"#/$defs/d0\", \"$defs\": {");
        for (int i = 0; i < 5_000; i++) {
            refs.append("\"d").append(i).append("\": {\"$ref\": \"#/$defs/d").append(i + 1).append("\"}, ");
        }
        refused(refs.append("\"d5000\": {\"type\": \"null\"}}}").toString());
    }

    @Test
    void alternativesThatMultiplyAreRefusedInTime() {
        var schema = new StringBuilder("{\"type\": \"object\", \"allOf\": [");
        for (int i = 0; i < 30; i++) {
            schema.append(i == 0 ? "" : ",").append("{\"anyOf\": [");
            for (int k = 0; k < 5; k++) {
                schema.append(k == 0 ? "" : ",").append("{\"required\": [\"p").append(i).append('_').append(k).append("\"]}");
            }
            schema.append("]}");
        }
        refused(schema.append("]}").toString());
        assertThrows(Refusal.class, () -> JsonSchemas.compile("{\"items\": {\"type\": [\"string\", \"null\"]}}", JsonOptions.DEFAULT,
                new NodePool(), new Budget(3, 1_000, 1_000_000_000L)));
    }

    @Test
    void uniqueItemsAreToldApartWhereTheyAreFew() {
        var v = of("{\"type\": \"array\", \"uniqueItems\": true, \"items\": {\"enum\": [\"a\", 1, null, [true]]}}");
        accepted(v, "[]", "[\"a\",1,null,[true]]", "[[true],1.0]");
        rejected(v, "[\"a\",\"a\"]", "[1,1.0]", "[\"a\",\"\\u0061\"]", "[[true],[true]]");
        accepted(of("{\"type\": \"array\", \"uniqueItems\": true, \"maxItems\": 1}"), "[5]", "[]");
    }

    @Test
    void uniqueScalarsAreRemembered() {
        var v = of("{\"type\": \"array\", \"uniqueItems\": true, \"items\": {\"type\": [\"string\", \"number\", \"null\"]}}");
        accepted(v, "[]", "[\"a,\",\"a\",\",\",1,-1,10,null]", "[0.5,0.25]");
        rejected(v, "[\"a\",\"\\u0061\"]", "[1,2,1.0]", "[0,-0]", "[null,null]", "[1,1e0]");
    }

    @Test
    void aValueThatALaterItemNeedsIsNotUsedUpBefore() {
        var v = of("""
                {"type": "array", "uniqueItems": true, "minItems": 3, "items": false,
                 "prefixItems": [{"type": "string"}, {"type": ["string", "null"]}, {"enum": ["x", "y", null]}]}""");
        accepted(v, "[\"a\",\"b\",\"x\"]", "[\"x\",\"y\",null]", "[\"xx\",null,\"x\"]", "[\"y\",null,\"x\"]");
        var w = of("""
                {"type": "array", "uniqueItems": true, "minItems": 2, "maxItems": 2, "items": {"type": "string"},
                 "prefixItems": [{"type": "string"}, {"const": "x"}]}""");
        accepted(w, "[\"y\",\"x\"]", "[\"\",\"x\"]");
        assertEquals(3, w.prefix("[\"x\",\"x\"]"), "x is needed for the second item");
        refused("""
                {"type": "array", "uniqueItems": true, "contains": {"const": 1}, "minContains": 2, "items": {"type": "integer"}}""");
    }

    @Test
    void unevaluatedPropertiesFollowTheBranchThatHolds() {
        var v = of("""
                {"type": "object", "properties": {"kind": {"enum": ["a", "b"]}}, "required": ["kind"],
                 "if": {"properties": {"kind": {"const": "a"}}}, "then": {"properties": {"x": {}}}, "else": {"properties": {"y": {}}},
                 "unevaluatedProperties": false}""");
        accepted(v, "{\"kind\":\"a\",\"x\":1}", "{\"y\":1,\"kind\":\"b\"}", "{\"kind\":\"b\"}");
        rejected(v, "{\"kind\":\"a\",\"y\":1}", "{\"x\":1,\"kind\":\"b\"}", "{\"kind\":\"a\",\"z\":1}");
    }

    @Test
    void formatsAreAnnotationsUnlessAskedFor() {
        String schema = "{\"type\": \"string\", \"format\": \"date\"}";
        accepted(of(schema), "\"tomorrow\"");
        var v = new Verdicts(schema, JsonOptions.DEFAULT.formats(true));
        accepted(v, "\"2024-02-29\"");
        rejected(v, "\"2023-02-29\"", "\"tomorrow\"");
        for (String format : List.of("hostname", "idn-hostname", "idn-email", "regex")) {
            assertEquals("/format", assertThrows(Refusal.class, () -> new Verdicts("{\"format\": \"" + format + "\"}",
                    JsonOptions.DEFAULT.formats(true))).pointer());
        }
    }
}
