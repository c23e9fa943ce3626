/**
 * Grammar-aligned sampling: texts that satisfy a constraint, drawn with the model's own probabilities of such texts. Beside it the two it
 * is compared with, plain constrained decoding and rejection. A single text for a user is the business of the strategies next door.
 */
package io.github.panamallama.sampling.asap;
