package io.github.panamallama.layers;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;

/**
 * Dr.LLM (arXiv 2510.12773): one small network per block that chooses between skipping it, running it and running it twice, by the means of
 * the states in windows of the prompt. Learns from plans that a {@link LabelSearch} found. Decides once per prompt, as the paper has it.
 *
 * <p>Prompts of {@code T} tokens have {@code n = min(windows, T)} windows of {@code T / n} tokens each; what is left at the end does not
 * count. Plans that run a block twice need {@linkplain io.github.panamallama.runtime.EngineOptions#withSpareLayers spare layers}. The
 * prompt runs under the plan as well ({@link Prefill#SKIP}): a second run has keys and values of its own, which no other plan leaves it.
 */
public final class DrLlmRouter extends Router {
    private final float[][] parameters;
    private final Mlp[] networks;
    private final int hidden;
    private final int windows;
    /** From -1 to 1. */
    private final double knob;
    /** What a knob above 0 blends with: runs of a block. */
    private final int towards;

    /**
     * Routers of given parameters.
     *
     * @param parameters {@code [blocks]} arrays as {@link Mlp} has them
     */
    DrLlmRouter(float[][] parameters, int width, int hidden, int windows) {
        this(parameters, width, hidden, windows, 0, 1);
    }

    private DrLlmRouter(float[][] parameters, int width, int hidden, int windows, double knob, int towards) {
        super(parameters.length, width, Prefill.SKIP);
        this.parameters = parameters;
        this.hidden = hidden;
        this.windows = windows;
        this.knob = knob;
        this.towards = towards;
        networks = new Mlp[parameters.length];
        for (int block = 0; block < networks.length; block++) {
            float[] narrow = parameters[block];
            var wide = new double[narrow.length];
            Arrays.setAll(wide, i -> narrow[i]);
            networks[block] = new Mlp(width, hidden, wide);
        }
    }

    /**
     * How routers are trained.
     *
     * @param hidden       units of each network
     * @param windows      of a prompt, at most
     * @param epochs       passes over the examples
     * @param batch        examples of one step
     * @param learningRate of AdamW, at its highest
     * @param weightDecay  of AdamW
     * @param warmUp       steps until then, at most a tenth of all; a cosine brings it down again
     * @param gamma        of the focal loss
     * @param beta         of the class weights: {@code n} labels count as {@code (1 - beta^n) / (1 - beta)}
     * @param seed         of the first weights and of the order of examples
     */
    public record Options(int hidden, int windows, int epochs, int batch, double learningRate, double weightDecay, int warmUp, double gamma,
            double beta, long seed) {
        public Options {
            if (hidden < 1 || windows < 1 || epochs < 1 || batch < 1 || warmUp < 0) {
                throw new IllegalArgumentException("hidden " + hidden + ", windows " + windows + ", epochs " + epochs + ", batch " + batch
                        + ", warmUp " + warmUp + "; all but the last must be at least 1, and that at least 0");
            }
            if (!(learningRate > 0) || !(weightDecay >= 0) || !(gamma >= 0) || !(beta >= 0 && beta < 1)) {
                throw new IllegalArgumentException("learningRate " + learningRate + ", weightDecay " + weightDecay + ", gamma " + gamma
                        + ", beta " + beta + "; the first must be above 0, none negative, and the last below 1");
            }
        }

        /** The source's values: 128 units, 8 windows, 25 epochs in steps of 16, AdamW at 1e-3 with decay 0.01, gamma 2, beta 0.999. */
        public static Options defaults() {
            return new Options(128, 8, 25, 16, 1e-3, 0.01, 500, 2, 0.999, 1);
        }

        public Options withHidden(int units) {
            return new Options(units, windows, epochs, batch, learningRate, weightDecay, warmUp, gamma, beta, seed);
        }

        public Options withWindows(int most) {
            return new Options(hidden, most, epochs, batch, learningRate, weightDecay, warmUp, gamma, beta, seed);
        }

        public Options withEpochs(int count) {
            return new Options(hidden, windows, count, batch, learningRate, weightDecay, warmUp, gamma, beta, seed);
        }

        public Options withLearningRate(double rate) {
            return new Options(hidden, windows, epochs, batch, rate, weightDecay, warmUp, gamma, beta, seed);
        }

        public Options withBeta(double beta) {
            return new Options(hidden, windows, epochs, batch, learningRate, weightDecay, warmUp, gamma, beta, seed);
        }

        public Options withSeed(long seed) {
            return new Options(hidden, windows, epochs, batch, learningRate, weightDecay, warmUp, gamma, beta, seed);
        }
    }

    /**
     * Trains routers: each example is evaluated once, with its decisions as the label has them, then each block's network is trained. The
     * same examples and seed give the same routers. Holds {@code examples * windows * blocks * width} floats.
     *
     * @throws IllegalArgumentException if there are no examples, or one is for another number of blocks or runs a block more than twice
     */
    public static DrLlmRouter train(Engine engine, List<Example> examples, Options options) {
        int blocks = Examples.check(engine, examples, 2);
        var pooled = new ArrayList<float[][][]>();
        for (var example : examples) {
            var windows = new Windows(options.windows, example.prompt().length, blocks, engine.model().embeddingSize());
            Examples.observe(engine, example, Prefill.SKIP, windows::add);
            pooled.add(windows.means());
        }
        return fit(pooled, examples.stream().map(Example::plan).toList(), options);
    }

    /**
     * Trains each block's network.
     *
     * @param pooled {@code [examples][blocks][windows][width]}
     */
    static DrLlmRouter fit(List<float[][][]> pooled, List<LayerPlan> labels, Options options) {
        int blocks = pooled.getFirst().length;
        int width = pooled.getFirst()[0][0].length;
        double[] weights = classWeights(labels, options.beta);
        var random = new SplittableRandom(options.seed);
        var parameters = new float[blocks][];
        for (int block = 0; block < blocks; block++) {
            int at = block;
            var inputs = pooled.stream().map(example -> example[at]).toList();
            int[] classes = labels.stream().mapToInt(plan -> plan.runs(at)).toArray();
            parameters[block] = fit(inputs, classes, weights, options, random.split());
        }
        return new DrLlmRouter(parameters, width, options.hidden, options.windows);
    }

    /**
     * By the effective number of labels (Cui et al., arXiv 1901.05555), the sum being 3; a class that never occurs has none.
     */
    static double[] classWeights(List<LayerPlan> labels, double beta) {
        var counts = new long[Mlp.CLASSES];
        for (var plan : labels) {
            for (int block = 0; block < plan.blocks(); block++) {
                counts[plan.runs(block)]++;
            }
        }
        var weights = new double[Mlp.CLASSES];
        double sum = 0;
        for (int c = 0; c < weights.length; c++) {
            weights[c] = counts[c] == 0 ? 0 : (1 - beta) / (1 - Math.pow(beta, counts[c]));
            sum += weights[c];
        }
        for (int c = 0; c < weights.length; c++) {
            weights[c] *= weights.length / sum;
        }
        return weights;
    }

    /** One network, learned on standardised inputs; the scaling is then folded into its first layer. */
    private static float[] fit(List<float[][]> inputs, int[] classes, double[] weights, Options options, SplittableRandom random) {
        int n = inputs.size();
        int width = inputs.getFirst()[0].length;
        var scaling = Scaling.of(inputs.stream().flatMap(Arrays::stream).toList());
        var scaled = inputs.stream().map(windows -> Arrays.stream(windows).map(scaling::apply).toArray(float[][]::new)).toList();
        var network = Mlp.random(width, options.hidden, random);
        int perEpoch = (n + options.batch - 1) / options.batch;
        int steps = perEpoch * options.epochs;
        var optimiser = new AdamW(network.parameters().length, options.learningRate, options.weightDecay,
                Math.min(options.warmUp, steps / 10), steps);
        var gradient = new double[network.parameters().length];
        var order = new int[n];
        Arrays.setAll(order, i -> i);
        for (int epoch = 0; epoch < options.epochs; epoch++) {
            for (int i = n - 1; i > 0; i--) {
                int j = random.nextInt(i + 1);
                int swap = order[i];
                order[i] = order[j];
                order[j] = swap;
            }
            for (int from = 0; from < n; from += options.batch) {
                int to = Math.min(n, from + options.batch);
                Arrays.fill(gradient, 0);
                for (int i = from; i < to; i++) {
                    network.loss(scaled.get(order[i]), classes[order[i]], weights, options.gamma, 1.0 / (to - from), gradient);
                }
                optimiser.step(network.parameters(), gradient);
            }
        }
        fold(scaling, network);
        var rounded = new float[network.parameters().length];
        for (int i = 0; i < rounded.length; i++) {
            rounded[i] = (float) network.parameters()[i];
        }
        return rounded;
    }

    private static void fold(Scaling scaling, Mlp network) {
        double[] p = network.parameters();
        int width = network.width();
        for (int k = 0; k < network.hidden(); k++) {
            for (int j = 0; j < width; j++) {
                p[k * width + j] *= scaling.factor()[j];
                p[network.hidden() * width + k] -= p[k * width + j] * scaling.mean()[j];
            }
        }
    }

    /** Means of what enters each block, by windows. */
    static final class Windows {
        private final int size;
        private final float[][][] sums;

        Windows(int most, int tokens, int blocks, int width) {
            int count = Math.min(most, tokens);
            size = tokens / count;
            sums = new float[blocks][count][width];
        }

        void add(int token, int block, float[] state) {
            int window = token / size;
            if (window < sums[block].length) {
                float[] sum = sums[block][window];
                for (int j = 0; j < sum.length; j++) {
                    sum[j] += state[j] / size;
                }
            }
        }

        /** {@code [blocks][windows][width]}. */
        float[][][] means() {
            return sums;
        }
    }

    /**
     * These routers with their probabilities {@code p} blended with those of a fixed choice for all blocks: {@code (1 - |knob|) p}, and
     * {@code |knob|} more for that choice. One knob for the depth of a model whose routers are trained (the released code has such a one);
     * a {@link RouterFile} does not keep it.
     *
     * @param knob    -1 (every block is skipped, but for the last) to 1 (every one runs {@code towards} times); at 0 routers decide alone
     * @param towards what a knob above 0 blends with: 1, or 2 for running blocks twice
     */
    public DrLlmRouter withBlend(double knob, int towards) {
        if (!(knob >= -1 && knob <= 1) || towards < 1 || towards > 2) {
            throw new IllegalArgumentException("a knob of " + knob + " towards " + towards
                    + " runs; it must be from -1 to 1, towards 1 or 2");
        }
        return new DrLlmRouter(parameters, width(), hidden, windows, knob, towards);
    }

    /** Windows of a prompt, at most. */
    public int windows() {
        return windows;
    }

    int hidden() {
        return hidden;
    }

    float[][] parameters() {
        return parameters;
    }

    @Override
    Look look(int tokens, boolean startsWithBos) {
        var pooled = new Windows(windows, tokens, blocks(), width());
        return new Look() {
            @Override
            public void see(int token, int block, float[] state) {
                pooled.add(token, block, state);
            }

            @Override
            public int runs(int block) {
                double[] z = networks[block].logits(pooled.means()[block]);
                if (Double.isNaN(z[0] + z[1] + z[2])) {
                    return -1;
                }
                blend(z);
                return z[1] >= z[0] && z[1] >= z[2] ? 1 : z[0] >= z[2] ? 0 : 2;
            }
        };
    }

    /** Logits to blended probabilities. */
    private void blend(double[] z) {
        if (knob == 0) {
            return;    // the likeliest class is the same
        }
        double highest = Math.max(z[0], Math.max(z[1], z[2]));
        double sum = 0;
        for (int c = 0; c < z.length; c++) {
            z[c] = Math.exp(z[c] - highest);
            sum += z[c];
        }
        for (int c = 0; c < z.length; c++) {
            z[c] *= (1 - Math.abs(knob)) / sum;
        }
        z[knob < 0 ? 0 : towards] += Math.abs(knob);
    }
}
