package io.github.panamallama.sampling.schema;

import java.util.List;
import java.util.Map;

/**
 * A set of JSON values by type: a subset of the literals, a language of number texts, a language of string contents, and unions of
 * array and object shapes.
 *
 * @param literals bits {@link #NULL}, {@link #FALSE}, {@link #TRUE}
 * @param number texts, of {@link Numbers#plain}
 * @param string what stands between the quotes
 */
record Shape(int literals, int number, int string, List<Items> arrays, List<Members> objects) {
    static final int NULL = 1;
    static final int FALSE = 2;
    static final int TRUE = 4;
    static final int LITERALS = NULL | FALSE | TRUE;
    static final int UNBOUNDED = Integer.MAX_VALUE;

    /**
     * Arrays: item {@code i} is in {@code prefix[i]}, in {@code rest} beyond; the length is within bounds; each count holds.
     *
     * @param unique no two items are equal
     */
    record Items(List<Lang> prefix, Lang rest, int min, int max, List<Count> counts, boolean unique) {
        Lang item(int index) {
            return index < prefix.size() ? prefix.get(index) : rest;
        }
    }

    /** Of the items from index {@code from} on, at least {@code min} and at most {@code max} are in {@code item}. */
    record Count(int from, Lang item, int min, int max) { }

    /**
     * Objects: a named property has its value, any other the value of the class its name is in; a name in no class is forbidden.
     *
     * @param rest disjoint classes of names; names of {@code named} are not meant, though a class may contain them
     * @param needs each is met by some property
     */
    record Members(Map<String, Member> named, List<Class> rest, int min, int max, List<Class> needs) { }

    /** A named property; not required and without a value it is forbidden. */
    record Member(Lang value, boolean required) { }

    /** Names (as contents of strings) and the values under them. */
    record Class(int names, Lang value) { }
}
