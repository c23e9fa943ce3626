package io.github.panamallama.sampling.grammar;

import io.github.panamallama.sampling.automaton.NodePool;

/** A grammar that was read, ready to be built any number of times. Immutable, safe for any number of threads. */
interface Source {
    /** The node that texts have to match. */
    int build(NodePool pool, TokenNames tokens);

    /** Whether what is built depends on the vocabulary. */
    default boolean namesTokens() {
        return false;
    }

    /** Turns what a grammar says of tokens into ids. */
    interface TokenNames {
        /** @throws GrammarException if the vocabulary has no token spelled so, or it ends the generation */
        int named(String spelling);

        /** @throws GrammarException if the vocabulary has no such token, or it ends the generation and {@code negated} is not set */
        int numbered(long id, boolean negated);
    }
}
