package io.github.panamallama.runtime.chat;

/**
 * What one rendering may use. Templates come from files of unknown origin: every evaluated node, list element and character of a made
 * string is charged here, so that a hostile template ends with an error within seconds and a bounded heap. The limits grow with the size
 * of the conversation, so that honest templates never meet them.
 */
final class Budget {
    /** Evaluated expressions and statements; about a second. */
    static final long STEPS = 5_000_000;
    /** Characters of all strings made, live or not. */
    static final long CHARS = 48_000_000;
    /** Elements of all lists and dictionaries made. */
    static final long ITEMS = 1_500_000;
    /** Nested macro calls and nested values. */
    static final int DEPTH = 64;
    /** Longest range(); the limit of Jinja's own sandbox. */
    static final int RANGE = 100_000;

    private long steps;
    private long chars;
    private long items;
    private int depth;

    /** @param inputChars size of what the template is given, in characters */
    Budget(long inputChars) {
        steps = STEPS + 50 * inputChars;
        chars = CHARS + 400 * inputChars;
        items = ITEMS + 20 * inputChars;
    }

    void step() {
        if (--steps < 0) {
            throw new Fault("takes too many steps; it seems to loop without end");
        }
    }

    void steps(long n) {
        steps -= n;
        if (steps < 0) {
            throw new Fault("takes too many steps; it seems to loop without end");
        }
    }

    void chars(long n) {
        chars -= n;
        if (chars < 0) {
            throw new Fault("makes too much text: more than " + CHARS + " characters beyond what the conversation explains");
        }
    }

    void items(long n) {
        items -= n;
        if (items < 0) {
            throw new Fault("makes too many list elements: more than " + ITEMS);
        }
    }

    void enter() {
        if (++depth > DEPTH) {
            depth--;
            throw new Fault("nests deeper than " + DEPTH + " levels of calls or values");
        }
    }

    void leave() {
        depth--;
    }
}
