package io.github.panamallama.sampling.grammar;

import io.github.panamallama.runtime.LlamaException;

/**
 * A grammar, pattern or schema that can't be used: it does not parse, refers to what is not there, matches nothing, or goes beyond a
 * limit. The message says where, what was found and what was expected.
 */
public final class GrammarException extends LlamaException {
    private final int line;
    private final int column;
    private final String pointer;

    private GrammarException(String message, int line, int column, String pointer, Throwable cause) {
        super(message, cause);
        this.line = line;
        this.column = column;
        this.pointer = pointer;
    }

    /** Without a place. */
    public GrammarException(String message) {
        this(message, 0, 0, null, null);
    }

    /** Without a place. */
    public GrammarException(String message, Throwable cause) {
        this(message, 0, 0, null, cause);
    }

    /** At a place of a text; line and column count from 1, columns in code points. */
    static GrammarException at(int line, int column, String message) {
        return new GrammarException("line " + line + ", column " + column + ": " + message, line, column, null, null);
    }

    /** At a place of a JSON document, as a JSON pointer (RFC 6901). */
    public static GrammarException at(String pointer, String message) {
        return new GrammarException((pointer.isEmpty() ? "at the root" : "at " + pointer) + ": " + message, 0, 0, pointer, null);
    }

    /** From 1; 0 if the error has no place in a text. */
    public int line() {
        return line;
    }

    /** In code points from 1; 0 if the error has no place in a text. */
    public int column() {
        return column;
    }

    /** JSON pointer of the keyword at fault; null if the error has no place in a JSON document. */
    public String pointer() {
        return pointer;
    }
}
