package io.github.panamallama.sampling.schema;

import io.github.panamallama.sampling.Constraint;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarException;
import io.github.panamallama.sampling.grammar.GrammarFuzz;
import io.github.panamallama.sampling.grammar.JsonOptions;
import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;

/**
 * One run of a fuzzer: bytes become a JSON Schema and a document. Whatever they are, the schema is refused with a {@link GrammarException}
 * or compiled; where it is compiled, tokens chosen by the document's bytes make a whole text in time, and the verdict about the document is
 * {@link Validator}'s, if that knows the schema's keywords. {@link #fuzzerTestOneInput} is where Jazzer comes in.
 */
public final class SchemaFuzz {
    private static final Set<String> SCHEMAS = Set.of("items", "contains", "additionalProperties", "propertyNames", "unevaluatedItems",
            "unevaluatedProperties", "not", "if", "then", "else");
    private static final Set<String> LISTS = Set.of("allOf", "anyOf", "oneOf", "prefixItems");
    private static final Set<String> MAPS = Set.of("properties", "patternProperties", "dependentSchemas", "$defs");
    private static final Set<String> COUNTS = Set.of("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
            "minContains", "maxContains");
    /** What the validator does not know and the compiler does. */
    private static final Set<String> UNKNOWN = Set.of("$id", "id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef",
            "$recursiveAnchor", "$schema", "$vocabulary", "dependencies", "additionalItems", "definitions");
    private static final int MOST_DIGITS = 300;

    private SchemaFuzz() {}

    /** @param data the schema; after the last 0xff, if there is one, the document */
    public static void fuzzerTestOneInput(byte[] data) {
        int end = data.length - 1;
        while (end >= 0 && data[end] != (byte) 0xff) {
            end--;
        }
        var schema = new String(data, 0, end < 0 ? data.length : end, StandardCharsets.UTF_8);
        var document = end < 0 ? "" : new String(data, end + 1, data.length - end - 1, StandardCharsets.UTF_8);
        Grammar grammar = null;
        try {
            grammar = Grammar.jsonSchema(schema, JsonOptions.DEFAULT, GrammarFuzz.LIMITS);
        } catch (GrammarException e) {
            if (e.getMessage() == null || e.getMessage().isBlank()) {
                throw new AssertionError("an error without a message", e);
            }
            if (!e.getMessage().endsWith("no value is valid: the schema contradicts itself")) { // words of the schema may stand in others
                return;
            }
        }
        try {
            if (grammar != null) {
                grammar.accepts(document);
                end(grammar, document.getBytes(StandardCharsets.UTF_8));
            }
            compare(schema, document, grammar);
        } catch (ConstraintException e) {
            if (!GrammarFuzz.isLimit(e)) {
                throw e;
            }
        }
    }

    /** Whatever tokens are chosen, the text is whole in time. */
    private static void end(Grammar grammar, byte[] choices) {
        int room = 12 + choices.length % 20;
        Constraint constraint;
        try {
            constraint = grammar.constraint(GrammarFuzz.VOCABULARY).within(room);
        } catch (ConstraintException e) {
            return; // not that long, which is said at the beginning
        }
        for (int i = 0; i < room; i++) {
            int choice = choices.length == 0 ? 0 : (choices[i % choices.length] & 0xff) * (i + 1);
            int token = constraint.mask().next(choice % GrammarFuzz.VOCABULARY.size());
            token = token < 0 ? constraint.mask().next(0) : token;
            if (token < 0) {
                throw new AssertionError("nothing is allowed: " + constraint);
            }
            constraint.accept(token);
            if (constraint.ended()) {
                return;
            }
        }
        if (!constraint.complete()) {
            throw new AssertionError("not whole after " + room + " tokens: " + constraint);
        }
    }

    /** @param grammar null if the schema was found to allow no value */
    private static void compare(String schema, String document, Grammar grammar) {
        JsonNode rules;
        JsonNode value;
        try {
            rules = Documents.JSON.readTree(schema);
            value = Documents.JSON.readTree(document);
        } catch (JacksonException e) {
            return;
        }
        if (value.isMissingNode() || !known(rules, rules, new HashSet<>()) || !plain(rules) || !plain(value)) {
            return;
        }
        boolean expected;
        try {
            expected = new Validator(rules).accepts(value);
        } catch (StackOverflowError e) {
            return; // refers to itself without a value in between
        } catch (JacksonException e) {
            return; // something malformed where it makes no difference to the compiler
        }
        boolean accepted = grammar != null && grammar.accepts(Verdicts.compact(value));
        if (accepted != expected) {
            throw new AssertionError((accepted ? "accepted" : "refused") + ": " + value + " of " + rules);
        }
    }

    /** Whether the validator knows all that the schema says. */
    private static boolean known(JsonNode schema, JsonNode root, Set<String> references) {
        if (!schema.isObject()) {
            return schema.isBoolean();
        }
        boolean known = true;
        for (var entry : schema.properties()) {
            String keyword = entry.getKey();
            JsonNode value = entry.getValue();
            if (SCHEMAS.contains(keyword)) {
                known &= known(value, root, references);
            } else if (LISTS.contains(keyword)) {
                for (JsonNode each : value) {
                    known &= known(each, root, references);
                }
            } else if (MAPS.contains(keyword)) {
                for (var each : value.properties()) {
                    known &= known(each.getValue(), root, references) && (!keyword.equals("patternProperties") || simple(each.getKey()));
                }
            } else if (COUNTS.contains(keyword)) {
                known &= value.isInt();
            } else if (keyword.equals("pattern")) {
                known &= value.isString() && simple(value.stringValue());
            } else if (keyword.equals("$ref")) {
                String reference = value.isString() ? value.stringValue() : "";
                known &= reference.matches("#(/[A-Za-z$]+)*");
                if (known && references.add(reference)) {
                    known = known(root.at(reference.substring(1)), root, references);
                }
            } else {
                known &= !UNKNOWN.contains(keyword);
            }
        }
        return known;
    }

    /** Patterns that mean the same in both languages. */
    private static boolean simple(String pattern) {
        return pattern.matches("\\^?[a-z0-9 ]*[+*?]?\\$?|\\^?\\[[a-z0-9]+][+*?]?\\$?");
    }

    /** No numbers of many digits, no halves of characters. */
    private static boolean plain(JsonNode node) {
        if (node.isNumber()) {
            var number = node.decimalValue();
            return Math.abs((long) number.scale()) < MOST_DIGITS && number.precision() < MOST_DIGITS;
        }
        if (node.isString()) {
            return StandardCharsets.UTF_8.newEncoder().canEncode(node.stringValue());
        }
        boolean plain = true;
        for (var property : node.properties()) {
            plain &= StandardCharsets.UTF_8.newEncoder().canEncode(property.getKey()) && plain(property.getValue());
        }
        for (JsonNode item : node.isArray() ? node : List.<JsonNode>of()) {
            plain &= plain(item);
        }
        return plain;
    }
}
