package io.github.panamallama.sampling.schema;

import java.math.BigDecimal;
import java.util.HashSet;
import java.util.Set;
import java.util.regex.Pattern;
import tools.jackson.databind.JsonNode;

/** A validator of whole documents, as the specification tells it keyword by keyword: what compiled schemas are held against. */
final class Validator {
    private final JsonNode root;

    Validator(JsonNode root) {
        this.root = root;
    }

    boolean accepts(JsonNode value) {
        return validate(root, value, new Seen());
    }

    /** What in-place subschemas evaluated. */
    private static final class Seen {
        final Set<String> names = new HashSet<>();
        final Set<Integer> items = new HashSet<>();

        void add(Seen other) {
            names.addAll(other.names);
            items.addAll(other.items);
        }
    }

    private boolean validate(JsonNode schema, JsonNode value, Seen outer) {
        if (schema.isBoolean()) {
            return schema.booleanValue();
        }
        var seen = new Seen();
        boolean valid = true;
        for (var entry : schema.properties()) {
            valid &= keyword(schema, entry.getKey(), entry.getValue(), value, seen);
        }
        if (schema.has("unevaluatedProperties") && value.isObject()) {
            for (var property : value.properties()) {
                if (!seen.names.contains(property.getKey())) {
                    valid &= validate(schema.get("unevaluatedProperties"), property.getValue(), new Seen());
                    seen.names.add(property.getKey());
                }
            }
        }
        if (schema.has("unevaluatedItems") && value.isArray()) {
            for (int i = 0; i < value.size(); i++) {
                if (!seen.items.contains(i)) {
                    valid &= validate(schema.get("unevaluatedItems"), value.get(i), new Seen());
                    seen.items.add(i);
                }
            }
        }
        if (valid) {
            outer.add(seen);
        }
        return valid;
    }

    private boolean keyword(JsonNode schema, String name, JsonNode k, JsonNode v, Seen seen) {
        switch (name) {
            case "$ref":
                return validate(root.at(k.stringValue().substring(1)), v, seen);
            case "type": {
                boolean any = false;
                for (JsonNode t : k.isArray() ? k : java.util.List.of(k)) {
                    any |= switch (t.stringValue()) {
                        case "null" -> v.isNull();
                        case "boolean" -> v.isBoolean();
                        case "number" -> v.isNumber();
                        case "integer" -> v.isNumber() && v.decimalValue().stripTrailingZeros().scale() <= 0;
                        case "string" -> v.isString();
                        case "array" -> v.isArray();
                        default -> v.isObject();
                    };
                }
                return any;
            }
            case "enum": {
                for (JsonNode each : k) {
                    if (equal(each, v)) {
                        return true;
                    }
                }
                return false;
            }
            case "const":
                return equal(k, v);
            case "minimum":
                return !v.isNumber() || v.decimalValue().compareTo(k.decimalValue()) >= 0;
            case "maximum":
                return !v.isNumber() || v.decimalValue().compareTo(k.decimalValue()) <= 0;
            case "exclusiveMinimum":
                return !v.isNumber() || v.decimalValue().compareTo(k.decimalValue()) > 0;
            case "exclusiveMaximum":
                return !v.isNumber() || v.decimalValue().compareTo(k.decimalValue()) < 0;
            case "multipleOf":
                return !v.isNumber() || v.decimalValue().remainder(k.decimalValue()).compareTo(BigDecimal.ZERO) == 0;
            case "minLength":
                return !v.isString() || v.stringValue().codePointCount(0, v.stringValue().length()) >= k.intValue();
            case "maxLength":
                return !v.isString() || v.stringValue().codePointCount(0, v.stringValue().length()) <= k.intValue();
            case "pattern":
                return !v.isString() || pattern(k.stringValue()).matcher(v.stringValue()).find();
            case "minItems":
                return !v.isArray() || v.size() >= k.intValue();
            case "maxItems":
                return !v.isArray() || v.size() <= k.intValue();
            case "uniqueItems": {
                for (int i = 0; v.isArray() && k.booleanValue() && i < v.size(); i++) {
                    for (int j = 0; j < i; j++) {
                        if (equal(v.get(i), v.get(j))) {
                            return false;
                        }
                    }
                }
                return true;
            }
            case "prefixItems": {
                boolean all = true;
                for (int i = 0; v.isArray() && i < Math.min(v.size(), k.size()); i++) {
                    all &= validate(k.get(i), v.get(i), new Seen());
                    seen.items.add(i);
                }
                return all;
            }
            case "items": {
                boolean all = true;
                for (int i = schema.has("prefixItems") ? schema.get("prefixItems").size() : 0; v.isArray() && i < v.size(); i++) {
                    all &= validate(k, v.get(i), new Seen());
                    seen.items.add(i);
                }
                return all;
            }
            case "contains": {
                if (!v.isArray()) {
                    return true;
                }
                int n = 0;
                for (int i = 0; i < v.size(); i++) {
                    if (validate(k, v.get(i), new Seen())) {
                        n++;
                        seen.items.add(i);
                    }
                }
                int min = schema.has("minContains") ? schema.get("minContains").intValue() : 1;
                int max = schema.has("maxContains") ? schema.get("maxContains").intValue() : Integer.MAX_VALUE;
                return n >= min && n <= max;
            }
            case "minProperties":
                return !v.isObject() || v.size() >= k.intValue();
            case "maxProperties":
                return !v.isObject() || v.size() <= k.intValue();
            case "required": {
                boolean all = true;
                for (JsonNode each : k) {
                    all &= !v.isObject() || v.has(each.stringValue());
                }
                return all;
            }
            case "properties": {
                boolean all = true;
                for (var p : k.properties()) {
                    if (v.isObject() && v.has(p.getKey())) {
                        all &= validate(p.getValue(), v.get(p.getKey()), new Seen());
                        seen.names.add(p.getKey());
                    }
                }
                return all;
            }
            case "patternProperties": {
                boolean all = true;
                for (var p : k.properties()) {
                    for (var property : v.properties()) {
                        if (pattern(p.getKey()).matcher(property.getKey()).find()) {
                            all &= validate(p.getValue(), property.getValue(), new Seen());
                            seen.names.add(property.getKey());
                        }
                    }
                }
                return all;
            }
            case "additionalProperties": {
                boolean all = true;
                for (var property : v.properties()) {
                    boolean known = schema.has("properties") && schema.get("properties").has(property.getKey());
                    if (schema.has("patternProperties")) {
                        for (var p : schema.get("patternProperties").properties()) {
                            known |= pattern(p.getKey()).matcher(property.getKey()).find();
                        }
                    }
                    if (!known) {
                        all &= validate(k, property.getValue(), new Seen());
                        seen.names.add(property.getKey());
                    }
                }
                return all;
            }
            case "propertyNames": {
                boolean all = true;
                for (var property : v.properties()) {
                    all &= validate(k, Documents.JSON.getNodeFactory().stringNode(property.getKey()), new Seen());
                }
                return all;
            }
            case "dependentRequired": {
                boolean all = true;
                for (var d : k.properties()) {
                    for (JsonNode each : d.getValue()) {
                        all &= !v.isObject() || !v.has(d.getKey()) || v.has(each.stringValue());
                    }
                }
                return all;
            }
            case "dependentSchemas": {
                boolean all = true;
                for (var d : k.properties()) {
                    all &= !v.isObject() || !v.has(d.getKey()) || validate(d.getValue(), v, seen);
                }
                return all;
            }
            case "allOf": {
                boolean all = true;
                for (JsonNode each : k) {
                    all &= validate(each, v, seen);
                }
                return all;
            }
            case "anyOf": {
                boolean any = false;
                for (JsonNode each : k) {
                    any |= validate(each, v, seen);
                }
                return any;
            }
            case "oneOf": {
                int n = 0;
                for (JsonNode each : k) {
                    n += validate(each, v, seen) ? 1 : 0;
                }
                return n == 1;
            }
            case "not":
                return !validate(k, v, new Seen());
            case "if": {
                if (validate(k, v, seen)) {
                    return !schema.has("then") || validate(schema.get("then"), v, seen);
                }
                return !schema.has("else") || validate(schema.get("else"), v, seen);
            }
            default:
                return true;
        }
    }

    /** ECMA-262's dollar is the very end; Java's also matches before a last line break. */
    private static Pattern pattern(String ecma) {
        return Pattern.compile(ecma.replace("$", "\\z"));
    }

    static boolean equal(JsonNode a, JsonNode b) {
        if (a.isNumber() && b.isNumber()) {
            return a.decimalValue().compareTo(b.decimalValue()) == 0;
        }
        if (a.isArray() && b.isArray() && a.size() == b.size()) {
            for (int i = 0; i < a.size(); i++) {
                if (!equal(a.get(i), b.get(i))) {
                    return false;
                }
            }
            return true;
        }
        if (a.isObject() && b.isObject() && a.size() == b.size()) {
            for (var p : a.properties()) {
                if (!b.has(p.getKey()) || !equal(p.getValue(), b.get(p.getKey()))) {
                    return false;
                }
            }
            return true;
        }
        return !a.isContainer() && !b.isContainer() && a.equals(b);
    }
}
