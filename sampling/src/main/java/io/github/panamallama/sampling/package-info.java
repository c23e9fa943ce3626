/**
 * What turns rows of logits into tokens and tokens into finished text: samplers, log-probabilities, stop strings, the generation
 * loop. Evaluating models belongs to the runtime, applications' conveniences to the facade.
 */
package io.github.panamallama.sampling;
