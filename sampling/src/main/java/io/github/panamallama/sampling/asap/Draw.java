package io.github.panamallama.sampling.asap;

/**
 * A text that satisfies the constraint.
 *
 * @param tokens          of the text, its end-of-generation token included
 * @param text            what they stand for
 * @param logProbability  of exactly these tokens under the model, in nats: log P
 * @param logProposal     of drawing exactly these tokens as they were drawn: log q. NaN for rejection, which draws from P given the
 *                        constraint and doesn't know its normaliser
 * @param attempts        walks that this draw took, dead ends and rejected ones included
 */
public record Draw(int[] tokens, String text, double logProbability, double logProposal, int attempts) {
    /**
     * Logarithm of the importance weight {@code P/q}. The mean weight over many walks estimates the probability of the language; walks that
     * led nowhere, {@code attempts - 1} of each draw, weigh 0.
     */
    public double logWeight() {
        return logProbability - logProposal;
    }
}
