package io.github.panamallama.sampling;

/**
 * One step of a generation.
 *
 * @param token    id; the last one is the end-of-generation token if the model ended the text itself, or -1 if only held-back text
 *                 was left
 * @param text     what can be shown because of it: often its own text, {@code ""} while a character or a possible stop string is
 *                 incomplete, more when held-back text is released
 * @param logProbs of the token, null if not asked for
 */
public record GeneratedToken(int token, String text, LogProbs logProbs) {
}
