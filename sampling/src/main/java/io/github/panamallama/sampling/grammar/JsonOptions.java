package io.github.panamallama.sampling.grammar;

import java.util.HashMap;
import java.util.Map;
import java.util.Objects;

/**
 * How JSON is written, and what a schema means where the specification leaves it open.
 *
 * @param order      order of the properties of an object
 * @param spelling   of strings and numbers
 * @param whitespace most white space characters at each place where JSON allows them, 0 for compact text
 * @param formats    whether {@code format} is asserted; otherwise it is an annotation, the specification's default
 * @param documents  further schema documents that {@code $ref} may reach, by absolute URI; nothing is ever fetched
 */
public record JsonOptions(Order order, Spelling spelling, int whitespace, boolean formats, Map<String, String> documents) {
    /** Order of properties. */
    public enum Order {
        /** Any. */
        ANY,
        /** Named properties as the schema lists them, then others. */
        SCHEMA
    }

    /** Spelling of values that JSON can write in several ways. */
    public enum Spelling {
        /**
         * Every spelling: any character as itself or escaped, zeros at the end of a fraction, minus zero; exponents, of up to three
         * digits, where the schema says nothing about the number but its type.
         */
        ANY,
        /** One spelling per value: nothing escaped that need not be, no needless zeros, no exponent. */
        SHORTEST
    }

    /** Compact text in any order and spelling, formats as annotations, no further documents. */
    public static final JsonOptions DEFAULT = new JsonOptions(Order.ANY, Spelling.ANY, 0, false, Map.of());

    public JsonOptions {
        Objects.requireNonNull(order, "order");
        Objects.requireNonNull(spelling, "spelling");
        documents = Map.copyOf(documents);
        if (whitespace < 0 || whitespace > 1_000) {
            throw new IllegalArgumentException("white space of 0 to 1000 characters at a place, not " + whitespace);
        }
    }

    public JsonOptions order(Order order) {
        return new JsonOptions(order, spelling, whitespace, formats, documents);
    }

    public JsonOptions spelling(Spelling spelling) {
        return new JsonOptions(order, spelling, whitespace, formats, documents);
    }

    public JsonOptions whitespace(int whitespace) {
        return new JsonOptions(order, spelling, whitespace, formats, documents);
    }

    public JsonOptions formats(boolean formats) {
        return new JsonOptions(order, spelling, whitespace, formats, documents);
    }

    /** With one more document. */
    public JsonOptions document(String uri, String schema) {
        var all = new HashMap<>(documents);
        all.put(uri, schema);
        return new JsonOptions(order, spelling, whitespace, formats, all);
    }
}
