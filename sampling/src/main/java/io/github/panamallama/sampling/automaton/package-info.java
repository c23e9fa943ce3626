/**
 * What grammars are made of, whatever they were written in: regular expressions over bytes as lazily built automata, rules as a lazily
 * expanded graph, and the recogniser that runs over both byte by byte. Knows neither a notation nor a vocabulary.
 */
package io.github.panamallama.sampling.automaton;
