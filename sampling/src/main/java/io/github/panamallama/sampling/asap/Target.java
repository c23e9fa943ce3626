package io.github.panamallama.sampling.asap;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * A language with the probabilities that sampling under its constraint should have: the model's, given that the text is one of these.
 * Made by {@link Asap#enumerate}.
 */
public final class Target {
    private final Asap sampler;
    private final Node truth;
    private final List<Draw> texts = new ArrayList<>();
    private int positions;

    Target(Asap sampler, Node truth) {
        this.sampler = sampler;
        this.truth = truth;
        collect(truth, new int[16], 0, 0);
    }

    private record At(Node node, int next, double logP) {
    }

    private void collect(Node top, int[] tokens, int depth, double start) {
        var stack = new ArrayDeque<At>();
        stack.push(new At(top, 0, start));
        while (!stack.isEmpty()) {
            var at = stack.pop();
            depth = stack.size();
            positions += at.next() == 0 ? 1 : 0;
            if (at.next() == at.node().ids.length) {
                continue;
            }
            stack.push(new At(at.node(), at.next() + 1, at.logP()));
            if (depth == tokens.length) {
                tokens = Arrays.copyOf(tokens, 2 * depth);
            }
            int token = at.node().ids[at.next()];
            double logP = at.logP() + at.node().logP[at.next()];
            tokens[depth] = token;
            if (logP == Double.NEGATIVE_INFINITY) {
                continue;
            }
            if (sampler.ends(token)) {
                var text = Arrays.copyOf(tokens, depth + 1);
                texts.add(new Draw(text, sampler.text(text), logP, logP - truth.logEstimate, 1));
            } else {
                stack.push(new At(at.node().child(at.next()), 0, logP));
            }
        }
    }

    /**
     * All texts; {@link Draw#logProbability} is the model's, {@link Draw#logProposal} the target's. Several may be tokenisations of the
     * same string.
     */
    public List<Draw> texts() {
        return List.copyOf(texts);
    }

    /** Prefixes of texts, the empty one included. */
    public int positions() {
        return positions;
    }

    /** Logarithm of the probability that the model's text satisfies the constraint, log Z. */
    public double logMass() {
        return truth.logEstimate;
    }

    /** Kullback-Leibler divergence, in nats, of the sampler as it is now from the target: exact, without any drawing. */
    public double divergence() {
        double sum = 0;
        for (var text : texts) {
            sum += Math.exp(text.logProposal()) * (text.logProposal() - sampler.logProposal(text.tokens()));
        }
        return sum;
    }

    /** The log-probability with which the sampler as it is now draws one of the texts. */
    public double logProposal(int[] tokens) {
        return sampler.logProposal(tokens);
    }

    Node truth() {
        return truth;
    }
}
