package io.github.panamallama.sampling.automaton;

/** How characters are written as bytes. Every byte string is the writing of at most one text, so complements carry over. */
public enum Encoding {
    /** UTF-8. */
    UTF8,
    /**
     * What may stand between the quotes of a JSON string (RFC 8259), in every way that JSON can write it: as UTF-8, as a short escape
     * ({@code \n}, {@code \"}, {@code \/}), as {@code \}{@code uXXXX} in either case, as a pair of surrogate escapes. Lone surrogates
     * are no characters and have no writing.
     */
    JSON_STRING,
    /**
     * As {@link #JSON_STRING}, but each character in one way only: UTF-8 where JSON allows it raw, else the short escape, else
     * {@code \}{@code u00xx} in lower case.
     */
    JSON_STRING_SHORTEST
}
