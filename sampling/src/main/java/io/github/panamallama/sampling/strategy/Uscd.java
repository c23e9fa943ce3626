package io.github.panamallama.sampling.strategy;

import java.util.Arrays;

/**
 * USCD, uncertainty-aware selective contrastive decoding: a second, "lame" prompt (the same without its worked examples) says what the
 * model would write without being told. Where the model is sure, its distribution is used as it is; where it is not, a share of the lame
 * distribution is subtracted before the token is chosen (Wang et al., arXiv 2409.05923).
 *
 * <p>Sure is a collision probability {@code sum(p^2)} above {@code kappa}. That is the paper's test on the standard deviation of the
 * probabilities, free of the vocabulary's size; {@link #kappaOf} converts. The lame prompt is evaluated lazily: its sequence catches up
 * in one batch when a position is unsure, and keeps up while positions are. Under a constraint both distributions are first restricted to
 * what is allowed.
 *
 * <p>Counts {@code contrasts} and {@code fallbacks} (nothing was left after the subtraction, so that the plain distribution was used),
 * {@code changed} (the most likely token is another one after the subtraction); the lame sequence's tokens are {@code lameRows}. {@code
 * lameEqualsPrompt} warns that there is nothing to contrast with, {@code lameFull} says that the lame sequence reached the end of the
 * context first, which ends the text.
 *
 * @param kappa      0 to 1; 0 never contrasts, 1 nearly always
 * @param eta        only tokens with at least {@code eta / n_vocab} take part in a contrast
 * @param positive   weight of the standard distribution, above 0
 * @param negative   weight of the lame distribution, at most 0
 * @param lamePrompt takes the place of the prompt
 */
public record Uscd(double kappa, double eta, double positive, double negative, int[] lamePrompt) implements Strategy {
    public Uscd {
        if (!(kappa >= 0 && kappa <= 1)) {
            throw new IllegalArgumentException("kappa must be 0 to 1, got " + kappa);
        }
        if (!(eta >= 0 && eta < Double.POSITIVE_INFINITY)) {
            throw new IllegalArgumentException("eta must be at least 0, got " + eta);
        }
        if (!(positive > 0 && positive < Double.POSITIVE_INFINITY)) {
            throw new IllegalArgumentException("positive must be above 0, got " + positive);
        }
        if (!(negative <= 0 && negative > Double.NEGATIVE_INFINITY)) {
            throw new IllegalArgumentException("negative must be at most 0, got " + negative);
        }
        if (lamePrompt.length == 0) {
            throw new IllegalArgumentException("the lame prompt has no tokens; leave out the examples of the prompt, not all of it");
        }
        lamePrompt = lamePrompt.clone();
    }

    /** Kappa 0.6, eta 2/3, weights 1 and -0.7: between the paper's settings for its models. */
    public static Uscd of(int[] lamePrompt) {
        return new Uscd(0.6, 2.0 / 3, 1, -0.7, lamePrompt);
    }

    /**
     * The kappa that stands for the paper's threshold on the standard deviation of the probabilities.
     *
     * @throws IllegalArgumentException if no distribution over that many tokens reaches the threshold
     */
    public static double kappaOf(double theta, int vocabularySize) {
        if (vocabularySize < 2 || !(theta >= 0)) {
            throw new IllegalArgumentException("theta must be at least 0 and the vocabulary at least 2, got " + theta + " and "
                    + vocabularySize);
        }
        double kappa = theta * theta * (vocabularySize - 1) + 1.0 / vocabularySize;
        if (kappa > 1) {
            throw new IllegalArgumentException("this threshold can never be reached for this vocabulary: the standard deviation of the "
                    + "probabilities of " + vocabularySize + " tokens is at most " + 1 / Math.sqrt(vocabularySize) + ", theta is " + theta);
        }
        return kappa;
    }

    public Uscd withKappa(double kappa) {
        return new Uscd(kappa, eta, positive, negative, lamePrompt);
    }

    public Uscd withEta(double eta) {
        return new Uscd(kappa, eta, positive, negative, lamePrompt);
    }

    public Uscd withWeights(double positive, double negative) {
        return new Uscd(kappa, eta, positive, negative, lamePrompt);
    }

    /** A copy of the lame prompt. */
    @Override
    public int[] lamePrompt() {
        return lamePrompt.clone();
    }

    @Override
    public boolean equals(Object o) {
        return o instanceof Uscd other && other.kappa == kappa && other.eta == eta && other.positive == positive
                && other.negative == negative && Arrays.equals(other.lamePrompt, lamePrompt);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(lamePrompt);
    }
}
