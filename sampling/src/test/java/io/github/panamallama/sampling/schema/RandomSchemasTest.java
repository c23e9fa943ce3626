package io.github.panamallama.sampling.schema;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarException;
import io.github.panamallama.sampling.grammar.JsonOptions;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/** Random schemas over few names and values, so that keywords meet often; verdicts against {@link Validator}'s. */
class RandomSchemasTest {
    private static final JsonNodeFactory NODES = JsonNodeFactory.instance;
    private static final String[] NAMES = {"a", "b", "ab"};
    private static final String[] TEXTS = {"", "a", "b", "ab", "ba", "aab", "\u00e9"};
    private static final String[] PATTERNS = {"^a", "b$", "^[ab]$", "a", "^(?!a)", "^$"};
    private static final String[] TYPES = {"null", "boolean", "integer", "number", "string", "array", "object"};

    private Random random;

    private <T> T one(T[] of) {
        return of[random.nextInt(of.length)];
    }

    private JsonNode number() {
        return NODES.numberNode(new BigDecimal(random.nextInt(17) - 8).divide(new BigDecimal(random.nextBoolean() ? 1 : 4)));
    }

    private JsonNode value(int depth) {
        return switch (random.nextInt(depth > 0 ? 8 : 5)) {
            case 0 -> NODES.nullNode();
            case 1 -> NODES.booleanNode(random.nextBoolean());
            case 2 -> number();
            case 3, 4 -> NODES.stringNode(one(TEXTS));
            case 5 -> {
                ArrayNode array = NODES.arrayNode();
                for (int n = random.nextInt(4); n > 0; n--) {
                    array.add(value(depth - 1));
                }
                yield array;
            }
            default -> {
                ObjectNode object = NODES.objectNode();
                for (int n = random.nextInt(4); n > 0; n--) {
                    object.set(random.nextInt(4) == 0 ? one(TEXTS) : one(NAMES), value(depth - 1));
                }
                yield object;
            }
        };
    }

    private JsonNode schema(int depth) {
        if (depth == 0 || random.nextInt(12) == 0) {
            return switch (random.nextInt(4)) {
                case 0 -> NODES.booleanNode(random.nextInt(4) > 0);
                case 1 -> NODES.objectNode().put("type", one(TYPES));
                case 2 -> NODES.objectNode().set("const", value(1));
                default -> NODES.objectNode().put("$ref", "#/$defs/" + one(NAMES));
            };
        }
        ObjectNode s = NODES.objectNode();
        for (int n = 1 + random.nextInt(3); n > 0; n--) {
            keyword(s, depth - 1);
        }
        return s;
    }

    private ArrayNode schemas(int depth) {
        ArrayNode list = NODES.arrayNode();
        for (int n = 1 + random.nextInt(3); n > 0; n--) {
            list.add(schema(depth));
        }
        return list;
    }

    private void keyword(ObjectNode s, int depth) {
        int count = random.nextInt(4);
        switch (random.nextInt(35)) {
            case 0 -> s.put("type", one(TYPES));
            case 1 -> s.putArray("type").add(one(TYPES)).add(one(TYPES));
            case 2 -> s.putArray("enum").add(value(1)).add(value(1)).add(value(0));
            case 3 -> s.set("minimum", number());
            case 4 -> s.set("exclusiveMaximum", number());
            case 5 -> s.set("maximum", number());
            case 6 -> s.put("multipleOf", random.nextBoolean() ? new BigDecimal("0.5") : new BigDecimal(1 + random.nextInt(3)));
            case 7 -> s.put("minLength", count);
            case 8 -> s.put("maxLength", count);
            case 9 -> s.put("pattern", one(PATTERNS));
            case 10 -> s.put("minItems", count);
            case 11 -> s.put("maxItems", count);
            case 12 -> s.set("prefixItems", schemas(depth));
            case 13, 14 -> s.set("items", schema(depth));
            case 15 -> s.set("contains", schema(depth));
            case 16 -> s.<ObjectNode>set("contains", schema(depth)).put("minContains", count).put("maxContains", random.nextInt(3));
            case 17 -> s.put("minProperties", count);
            case 18 -> s.put("maxProperties", count);
            case 19 -> s.putArray("required").add(one(NAMES));
            case 20, 21 -> {
                ObjectNode p = s.putObject("properties");
                p.set(one(NAMES), schema(depth));
                p.set(one(NAMES), schema(depth));
            }
            case 22 -> s.putObject("patternProperties").set(one(PATTERNS), schema(depth));
            case 23 -> s.set("additionalProperties", schema(depth));
            case 24 -> s.set("propertyNames", schema(depth));
            case 25 -> s.putObject("dependentRequired").putArray(one(NAMES)).add(one(NAMES));
            case 26 -> s.putObject("dependentSchemas").set(one(NAMES), schema(depth));
            case 27 -> s.set("allOf", schemas(depth));
            case 28 -> s.set("anyOf", schemas(depth));
            case 29 -> s.set("oneOf", schemas(depth));
            case 30 -> s.set("not", schema(depth));
            case 31 -> s.<ObjectNode>set("if", schema(depth)).<ObjectNode>set("then", schema(depth)).set("else", schema(depth));
            case 32 -> s.set("unevaluatedProperties", schema(depth));
            case 33 -> s.put("uniqueItems", true);
            default -> s.set("unevaluatedItems", schema(depth));
        }
    }

    @Test
    void verdictsAreThoseOfAValidator() {
        long seed = Long.getLong("panamallama.seed", new Random().nextLong());
        int rounds = Integer.getInteger("panamallama.rounds", 1_500);
        System.out.println("seed " + seed);
        random = new Random(seed);
        int compiled = 0;
        int valid = 0;
        int texts = 0;
        for (int round = 0; round < rounds; round++) {
            ObjectNode schema = NODES.objectNode();
            for (int n = 1 + random.nextInt(3); n > 0; n--) {
                keyword(schema, 2);
            }
            ObjectNode definitions = schema.putObject("$defs");
            for (String name : NAMES) {
                definitions.set(name, schema(1));
            }
            Verdicts verdicts;
            var values = new ArrayList<JsonNode>();
            for (int i = 0; i < 40; i++) {
                values.add(value(2));
            }
            try {
                verdicts = new Verdicts(schema.toString(), JsonOptions.DEFAULT, new Budget(20_000, 100_000, 2_000_000_000L));
                compiled++;
            } catch (Refusal e) {
                verdicts = null;
                if (!e.getMessage().contains("contradicts itself")) {
                    continue;
                }
            }
            for (int i = 0; verdicts != null && i < 15; i++) {
                String text = verdicts.draw(random, 60);
                if (text != null) {
                    texts++;
                    values.add(Documents.JSON.readTree(text)); // refuses duplicate names
                }
            }
            var validator = new Validator(schema);
            try {
                for (JsonNode value : values) {
                    boolean expected = validator.accepts(value);
                    valid += expected ? 1 : 0;
                    assertEquals(expected, verdicts != null && verdicts.accepts(value), () -> value + " of " + schema + ", seed " + seed);
                }
            } catch (StackOverflowError e) {
                // refers to itself without a value in between, in a place where that makes no difference
            }
        }
        System.out.println("compiled " + compiled + " of " + rounds + ", valid " + valid + ", drawn " + texts);
        assertTrue(compiled > rounds / 3 && valid > rounds && texts > rounds, compiled + " " + valid + " " + texts);
    }

    @Test
    void damagedSchemasGiveNothingButGrammarExceptions() {
        long seed = Long.getLong("panamallama.seed", new Random().nextLong());
        System.out.println("seed " + seed);
        random = new Random(seed);
        int refused = 0;
        for (int round = 0; round < 600; round++) {
            ObjectNode schema = NODES.objectNode();
            for (int n = 1 + random.nextInt(4); n > 0; n--) {
                keyword(schema, 2);
            }
            schema.putObject("$defs").set("a", schema(1));
            JsonNode damaged = damage(schema);
            String text = damaged.toString();
            if (random.nextInt(3) == 0) {
                byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
                for (int n = 1 + random.nextInt(3); n > 0; n--) {
                    bytes[random.nextInt(bytes.length)] = (byte) "{}[]\",:0-eE.tn\\u$#\u0000 9\u0080".charAt(random.nextInt(22));
                }
                text = new String(bytes, StandardCharsets.UTF_8);
            }
            try {
                Grammar.jsonSchema(text, JsonOptions.DEFAULT.formats(random.nextBoolean())).accepts(value(2).toString());
            } catch (GrammarException e) {
                refused++;
            } catch (RuntimeException | Error e) {
                throw new AssertionError(text + ", seed " + seed, e);
            }
        }
        assertTrue(refused > 0);
    }

    /** The document with some values put in other places, or replaced. */
    private JsonNode damage(JsonNode node) {
        var odd = List.of(NODES.numberNode(new BigDecimal("1e400")), NODES.numberNode(new BigDecimal("-1e-2000")), NODES.numberNode(-1),
                NODES.numberNode(1L << 40), NODES.stringNode("#/"), NODES.stringNode("(((("), NODES.stringNode("a{1,99999}{1,99999}"),
                NODES.stringNode("http://["), NODES.stringNode("\ud800"), NODES.nullNode(), NODES.arrayNode(), NODES.objectNode(),
                NODES.stringNode("date-time"));
        String[] keywords = {"$id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$ref", "$schema", "format", "required", "dependencies",
            "items", "minItems", "maxLength", "minContains", "const", "id", "pattern", "multipleOf", "uniqueItems", "propertyNames",
            "unevaluatedItems"};
        if (random.nextInt(6) == 0) {
            return odd.get(random.nextInt(odd.size()));
        }
        if (node instanceof ObjectNode object) {
            ObjectNode out = NODES.objectNode();
            for (var p : object.properties()) {
                String key = random.nextInt(10) == 0 ? one(keywords) : p.getKey();
                if (random.nextInt(10) > 0) {
                    out.set(key, damage(p.getValue()));
                }
            }
            if (random.nextInt(4) == 0) {
                out.set(one(keywords), random.nextBoolean() ? odd.get(random.nextInt(odd.size())) : object.deepCopy());
            }
            return out;
        }
        if (node instanceof ArrayNode array) {
            ArrayNode out = NODES.arrayNode();
            array.forEach(each -> out.add(damage(each)));
            return out;
        }
        return node;
    }
}
