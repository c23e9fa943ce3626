/**
 * JSON Schema (draft 2020-12) as a grammar: documents and references, the normal form per JSON type, and the way from Java types to
 * schemas and back. What automata and recognisers are belongs to {@code automaton}; what applications see belongs to {@code grammar}.
 */
package io.github.panamallama.sampling.schema;
