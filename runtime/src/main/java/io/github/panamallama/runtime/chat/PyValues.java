package io.github.panamallama.runtime.chat;

import java.math.BigInteger;
import java.util.Collection;
import java.util.Map;
import tools.jackson.databind.JsonNode;

/** Brings values into a template: always as copies, so that a template can't change what it was given. */
final class PyValues {
    private PyValues() {}

    static Object fromJava(Object v) {
        return switch (v) {
            case null -> null;
            case String s -> s;
            case Boolean b -> b;
            case Long l -> l;
            case Integer i -> i.longValue();
            case Double d -> d;
            case Float f -> f.doubleValue();
            case JsonNode n -> fromJson(n);
            case Map<?, ?> m -> {
                var out = new PyDict();
                m.forEach((k, x) -> out.put(k instanceof String s ? s : String.valueOf(k), fromJava(x)));
                yield out;
            }
            case Collection<?> c -> {
                var out = new PyList();
                c.forEach(x -> out.add(fromJava(x)));
                yield out;
            }
            default -> throw new ChatTemplateException("can't give a " + v.getClass().getName()
                    + " to a template; use strings, numbers, booleans, lists, maps or JsonNode", 0);
        };
    }

    static Object fromJson(JsonNode n) {
        if (n == null || n.isNull() || n.isMissingNode()) {
            return null;
        }
        if (n.isString()) {
            return n.stringValue();
        }
        if (n.isBoolean()) {
            return n.booleanValue();
        }
        if (n.isIntegralNumber()) {
            BigInteger i = n.bigIntegerValue();
            return i.bitLength() < 64 ? (Object) i.longValue() : (Object) i.doubleValue();
        }
        if (n.isNumber()) {
            return n.doubleValue();
        }
        if (n.isArray()) {
            var out = new PyList();
            n.forEach(x -> out.add(fromJson(x)));
            return out;
        }
        var out = new PyDict();
        n.properties().forEach(e -> out.put(e.getKey(), fromJson(e.getValue())));
        return out;
    }
}
