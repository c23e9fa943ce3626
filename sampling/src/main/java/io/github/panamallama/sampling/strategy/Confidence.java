package io.github.panamallama.sampling.strategy;

/**
 * How sure a model was of a text, token by token: a view of a {@link Decoding} that grows with it. Nats, from the model's own
 * distribution as {@link DecodedToken} tells. Tokens about which the model was not asked are NaN and count nowhere; means are NaN while
 * nothing is measured.
 */
public final class Confidence {
    private final Steps steps = new Steps();
    private int measured;
    private double logProbability;
    private double entropy;
    private double highestEntropy = Double.NaN;
    private double lowestLogProbability = Double.NaN;
    private double lowestMargin = Double.NaN;

    Confidence() {
    }

    /** Of no tokens yet, for whoever is told of a decoding elsewhere and {@linkplain #add adds} them. */
    public static Confidence empty() {
        return new Confidence();
    }

    void add(Steps from, int i) {
        add(from.token(i), from.logProbability(i), from.entropy(i), from.margin(i));
    }

    /** One token more; the measures as {@link DecodedToken} tells, all NaN where the model was not asked. */
    public void add(int token, double logProbability, double entropy, double margin) {
        steps.add(token, logProbability, entropy, margin);
        if (Double.isNaN(logProbability)) {
            return;
        }
        measured++;
        this.logProbability += logProbability;
        this.entropy += entropy;
        highestEntropy = measured == 1 ? entropy : Math.max(highestEntropy, entropy);
        lowestLogProbability = measured == 1 ? logProbability : Math.min(lowestLogProbability, logProbability);
        lowestMargin = measured == 1 ? margin : Math.min(lowestMargin, margin);
    }

    int[] tokens() {
        return steps.tokens();
    }

    /** Tokens so far. */
    public int size() {
        return steps.size();
    }

    /** Tokens of which the model's distribution is known. */
    public int measured() {
        return measured;
    }

    /** Id of the {@code i}-th token. */
    public int token(int i) {
        return steps.token(i);
    }

    /** Log-probability of the {@code i}-th token. */
    public double logProbability(int i) {
        return steps.logProbability(i);
    }

    /** Entropy at the {@code i}-th token. */
    public double entropy(int i) {
        return steps.entropy(i);
    }

    /** Lead of the most likely token over the second at the {@code i}-th token. */
    public double margin(int i) {
        return steps.margin(i);
    }

    /** Log-probability of all measured tokens together; 0 for none. */
    public double logProbability() {
        return logProbability;
    }

    /** The same per token: {@code exp(-mean)} is the text's perplexity. */
    public double meanLogProbability() {
        return measured == 0 ? Double.NaN : logProbability / measured;
    }

    public double meanEntropy() {
        return measured == 0 ? Double.NaN : entropy / measured;
    }

    /** Entropy where the model was least decided. */
    public double highestEntropy() {
        return highestEntropy;
    }

    /** Log-probability of the least likely token. */
    public double lowestLogProbability() {
        return lowestLogProbability;
    }

    public double lowestMargin() {
        return lowestMargin;
    }

    @Override
    public String toString() {
        return size() + " tokens, " + measured + " measured, mean log-probability " + meanLogProbability() + ", mean entropy "
                + meanEntropy();
    }
}
