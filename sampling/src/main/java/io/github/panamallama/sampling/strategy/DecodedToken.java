package io.github.panamallama.sampling.strategy;

/**
 * One token of a decoding. The three measures are of the model's own distribution, the softmax of the unchanged row: before mask, bias,
 * penalties, truncation and temperature; NaN where the model was not asked.
 *
 * @param token          id; -1 if only held-back text was left
 * @param text           what can be shown because of it, as {@link io.github.panamallama.sampling.GeneratedToken#text}
 * @param logProbability of the token, in nats
 * @param entropy        of the position, in nats
 * @param margin         by how many nats the most likely token is ahead of the second, whichever was taken
 */
public record DecodedToken(int token, String text, double logProbability, double entropy, double margin) {
}
