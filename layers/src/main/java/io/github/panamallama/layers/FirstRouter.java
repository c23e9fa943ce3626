package io.github.panamallama.layers;

import io.github.panamallama.runtime.Engine;
import java.util.ArrayList;
import java.util.List;

/**
 * FiRST (arXiv 2410.12513): one linear classifier per block, {@code p = sigmoid(w.h + b)} for each token of the prompt, of whose mean it
 * depends whether the block is kept. The first and the last block always are. A BOS token does not count: its state is unlike all others.
 *
 * <p>In the source the routers learn from the loss of the model through soft skips. Here the model stays as it is and the routers learn
 * to tell by logistic regression what {@linkplain Example labels} say: those of {@link InfluenceLabels} or of a search.
 */
public final class FirstRouter extends Router {
    private final float[][] weights;
    private final float[] biases;
    private final double tau;

    /**
     * Routers of given weights.
     *
     * @param weights {@code [blocks][width]}
     * @param biases  {@code [blocks]}
     * @param tau     mean probability from which a block is kept
     */
    FirstRouter(float[][] weights, float[] biases, double tau, Prefill prefill) {
        super(weights.length, weights[0].length, prefill);
        this.weights = weights;
        this.biases = biases;
        this.tau = checkTau(tau);
    }

    private static double checkTau(double tau) {
        if (!(tau >= 0 && tau <= 1)) {
            throw new IllegalArgumentException("tau is " + tau + "; it is a probability");
        }
        return tau;
    }

    /**
     * How routers are trained.
     *
     * @param states  most states that are taken of one prompt, evenly spread
     * @param penalty on the squared weights of standardised inputs, per mean loss in nats
     * @param tau     mean probability from which a block is kept
     * @param prefill what decisions shall mean for the prompt; with {@link Prefill#SKIP} the states are those under the label's plan
     */
    public record Options(int states, double penalty, double tau, Prefill prefill) {
        public Options {
            if (states < 1) {
                throw new IllegalArgumentException(states + " states of each prompt; at least 1 is needed");
            }
            if (!(penalty >= 0) || penalty == Double.POSITIVE_INFINITY) {
                throw new IllegalArgumentException("penalty is " + penalty + "; it must be at least 0");
            }
            checkTau(tau);
        }

        /** 32 states of each prompt, penalty 0.001, tau 0.5, and the prompt under the plan. */
        public static Options defaults() {
            return new Options(32, 1e-3, 0.5, Prefill.SKIP);
        }

        public Options withStates(int most) {
            return new Options(most, penalty, tau, prefill);
        }

        public Options withPenalty(double penalty) {
            return new Options(states, penalty, tau, prefill);
        }

        public Options withTau(double tau) {
            return new Options(states, penalty, tau, prefill);
        }

        public Options withPrefill(Prefill prefill) {
            return new Options(states, penalty, tau, prefill);
        }
    }

    /**
     * Trains routers: each example is evaluated once, then each block's classifier is fitted to convergence. The same examples give the
     * same routers. Holds {@code examples * states * blocks * width} floats.
     *
     * @throws IllegalArgumentException if there are no examples, or one is for another number of blocks or repeats a block
     */
    public static FirstRouter train(Engine engine, List<Example> examples, Options options) {
        int blocks = Examples.check(engine, examples, 1);
        var states = new ArrayList<List<float[]>>();
        for (int block = 0; block < blocks; block++) {
            states.add(new ArrayList<>());
        }
        var counts = new int[examples.size()];
        for (int i = 0; i < counts.length; i++) {
            int[] prompt = examples.get(i).prompt();
            int skipped = startsWithBos(engine.model(), prompt) ? 1 : 0;
            int tokens = prompt.length - skipped;
            int taken = Math.min(options.states, tokens);
            counts[i] = taken;
            Examples.observe(engine, examples.get(i), options.prefill, (token, block, state) -> {
                long at = token - skipped;
                // one of each of `taken` equal stretches, the last one of it
                if (at >= 0 && (at + 1) * taken / tokens > at * taken / tokens) {
                    states.get(block).add(state.clone());
                }
            });
        }
        return fit(states, counts, examples, options);
    }

    /**
     * Fits each block's classifier.
     *
     * @param states {@code [blocks][n][width]}, in the order of the examples
     * @param counts states of each example
     */
    static FirstRouter fit(List<List<float[]>> states, int[] counts, List<Example> examples, Options options) {
        int blocks = states.size();
        var weights = new float[blocks][];
        var biases = new float[blocks];
        for (int block = 0; block < blocks; block++) {
            var x = states.get(block);
            var kept = new boolean[x.size()];
            int n = 0;
            for (int i = 0; i < counts.length; i++) {
                for (int k = 0; k < counts[i]; k++) {
                    kept[n++] = examples.get(i).plan().runs(block) > 0;
                }
            }
            var fit = Logistic.fit(x, kept, options.penalty);
            weights[block] = fit.weights();
            biases[block] = fit.bias();
        }
        return new FirstRouter(weights, biases, options.tau, options.prefill);
    }

    /** Mean probability from which a block is kept. */
    public double tau() {
        return tau;
    }

    /** These routers with another threshold: a higher one keeps fewer blocks. */
    public FirstRouter withTau(double tau) {
        return new FirstRouter(weights, biases, tau, prefill());
    }

    float[][] weights() {
        return weights;
    }

    float[] biases() {
        return biases;
    }

    @Override
    Look look(int tokens, boolean startsWithBos) {
        int first = startsWithBos ? 1 : 0;
        var sums = new double[blocks()];
        return new Look() {
            @Override
            public void see(int token, int block, float[] state) {
                if (token >= first) {
                    double z = biases[block];
                    float[] w = weights[block];
                    for (int j = 0; j < w.length; j++) {
                        z += w[j] * state[j];
                    }
                    sums[block] += Double.isFinite(z) ? 1 / (1 + Math.exp(-z)) : Double.NaN;
                }
            }

            @Override
            public int runs(int block) {
                if (block == 0 || block == sums.length - 1 || tokens == first) {
                    return 1;
                }
                double score = sums[block] / (tokens - first);
                return Double.isNaN(score) ? -1 : score >= tau ? 1 : 0;
            }
        };
    }
}
