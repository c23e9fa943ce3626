package io.github.panamallama.sampling.schema;

import io.github.panamallama.sampling.schema.Documents.Place;
import java.util.List;

/**
 * A set of JSON values as a formula over keywords and references; equal formulas are one object. What it means by type of value is its
 * {@link Shape}, found on demand, so that schemas may refer to themselves.
 */
final class Lang {
    enum Kind {
        /** Every value. */
        TRUE,
        /** No value. */
        FALSE,
        /** What one keyword says. */
        ATOM,
        /** A schema at its place, seen from a dynamic scope. */
        SCHEMA,
        AND, OR, NOT,
        /** Exactly one of the parts. */
        ONE_OF
    }

    final int id;
    final Kind kind;
    final List<Lang> parts;
    final Shape atom;
    final Place place;
    final Scope scope;
    /** JSON pointer of the keyword or schema this came from, for refusals; null for what was only combined. */
    final String pointer;

    Shape shape;
    /** Depth in the stack of shapes being found, -1 outside. */
    int shaping = -1;
    Boolean inhabited;
    /** Depth in the stack of inquiries, -1 outside. */
    int visiting = -1;
    /** The formula of a schema, once read. */
    Lang definition;

    Lang(int id, Kind kind, List<Lang> parts, Shape atom, Place place, Scope scope, String pointer) {
        this.id = id;
        this.kind = kind;
        this.parts = parts;
        this.atom = atom;
        this.place = place;
        this.scope = scope;
        this.pointer = pointer;
    }

    boolean isTrue() {
        return kind == Kind.TRUE;
    }

    boolean isFalse() {
        return kind == Kind.FALSE;
    }

    @Override
    public String toString() {
        return switch (kind) {
            case TRUE, FALSE -> kind.name();
            case SCHEMA -> "#" + place.pointer();
            case ATOM -> pointer == null ? "atom" + id : pointer;
            default -> kind + parts.toString();
        };
    }
}
