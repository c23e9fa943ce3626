package io.github.panamallama.sampling.automaton;

import io.github.panamallama.runtime.LlamaException;
import java.util.List;

/** A rule that may begin with itself before any byte is read. */
public final class LeftRecursionException extends LlamaException {
    private final List<String> rules;

    LeftRecursionException(List<String> rules) {
        super("left recursion: " + String.join(" begins with ", rules) + "; write it as a repetition, as in a ::= b (\"+\" b)*");
        this.rules = List.copyOf(rules);
    }

    /** The rules on the way round, the first again at the end. */
    public List<String> rules() {
        return rules;
    }
}
