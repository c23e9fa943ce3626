/**
 * Grammars that generated text has to match, from every notation that is understood, and constraints made of them. How grammars are
 * recognised is the automaton package's business; choosing among the allowed tokens is the samplers'.
 */
package io.github.panamallama.sampling.grammar;
