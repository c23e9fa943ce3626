/**
 * Ways to choose tokens that look at more than one row: look-ahead, contrast, search, drafts, two models. One interface,
 * {@link io.github.panamallama.sampling.strategy.Strategy}, from which a {@link io.github.panamallama.sampling.strategy.Decoding} is
 * started behind a sequence. Sampling from one row belongs to the package above, grammar-aligned sampling to its neighbour.
 */
package io.github.panamallama.sampling.strategy;
