package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.WholeFile;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.SplittableRandom;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/**
 * The entropy from which {@link AdaDec} pauses, learned for one model from texts that it did not write: where the model's best guess tends
 * to be wrong.
 *
 * <p>A logistic regression of "the true token is the most likely one" on the entropy, over as many right as wrong positions; then the
 * cut of its probability that classifies best on held-out positions, turned back into an entropy (He et al., arXiv 2506.08980).
 *
 * <p>It is learned, kept and found for the model without adapters. Generations under adapters use it as it is, although an adapter that
 * makes the model surer or less sure moves the best threshold; give {@link AdaDec#of} another one then.
 *
 * @param threshold nats
 * @param intercept of the logistic regression
 * @param slope     per nat, below 0
 * @param cut       probability at which the two classes are told apart
 * @param accuracy  of that on a third part of the positions, which neither fit has seen
 * @param positions positions used, after the larger class was thinned out
 * @param model     description of the model, for readers
 */
public record EntropyThreshold(double threshold, double intercept, double slope, double cut, double accuracy, int positions, String model) {
    private static final JsonMapper JSON = JsonMapper.builder().build();
    private static final int LEAST = 50;

    /**
     * Learns from texts, each evaluated once from its beginning, as far as the context reaches.
     *
     * @param texts tokenised
     * @param seed  of the thinning and the splits
     * @throws LlamaException if the entropy does not tell right from wrong guesses, or there is too little text
     */
    public static EntropyThreshold learn(Engine engine, Iterable<int[]> texts, long seed) {
        var entropies = new double[1024];
        var right = new boolean[1024];
        int n = 0;
        int chunk = Math.min(64, engine.options().batchSize());
        var rows = new Row[chunk];
        Arrays.setAll(rows, i -> engine.newRow());
        for (int[] text : texts) {
            int length = Math.min(text.length, engine.contextSize());
            try (var sequence = engine.newSequence()) {
                for (int at = 0; at < length - 1; at += chunk) {
                    int count = Math.min(chunk, length - 1 - at);
                    engine.decode(Append.all(sequence, Arrays.copyOfRange(text, at, at + count), Arrays.copyOf(rows, count)));
                    for (int i = 0; i < count; i++, n++) {
                        if (n == entropies.length) {
                            entropies = Arrays.copyOf(entropies, 2 * n);
                            right = Arrays.copyOf(right, 2 * n);
                        }
                        entropies[n] = RowMath.entropy(rows[i]);
                        right[n] = RowMath.argmax(rows[i]) == text[at + i + 1];
                    }
                }
            }
        }
        return fit(Arrays.copyOf(entropies, n), Arrays.copyOf(right, n), seed, engine.model().description());
    }

    /** The regression itself, on entropies and whether the best guess was right there. */
    static EntropyThreshold fit(double[] entropies, boolean[] right, long seed, String model) {
        var random = new SplittableRandom(seed);
        int[] yes = shuffled(right, true, random);
        int[] no = shuffled(right, false, random);
        if (yes.length == 0 || no.length == 0) {
            throw new LlamaException("the best guess was " + (no.length == 0 ? "right" : "wrong") + " at all " + right.length
                    + " positions: there is nothing to tell apart; use more, or other, texts");
        }
        int each = Math.min(yes.length, no.length);
        if (each < LEAST) {
            throw new LlamaException("only " + each + " positions of one kind among " + right.length + ", at least " + LEAST
                    + " are needed; use more text");
        }
        // three parts of each class: 60 % to fit, 20 % for the cut, 20 % to report
        int fitEnd = each * 3 / 5;
        int cutEnd = each * 4 / 5;
        double[] w = regress(entropies, yes, no, fitEnd);
        if (!(w[1] < 0)) {
            throw new LlamaException("entropy does not separate right from wrong guesses of this model: the slope is " + w[1]
                    + ", it would have to be negative");
        }
        double cut = 0.5;
        double best = -1;
        for (int i = 1; i < 100; i++) {
            double accuracy = accuracy(entropies, yes, no, fitEnd, cutEnd, threshold(w, i / 100.0));
            if (accuracy > best) {
                best = accuracy;
                cut = i / 100.0;
            }
        }
        double tau = Math.max(0, threshold(w, cut));
        return new EntropyThreshold(tau, w[0], w[1], cut, accuracy(entropies, yes, no, cutEnd, each, tau), 2 * each, model);
    }

    private static int[] shuffled(boolean[] right, boolean which, SplittableRandom random) {
        var all = new Ints();
        for (int i = 0; i < right.length; i++) {
            if (right[i] == which) {
                all.add(i);
            }
        }
        int[] order = all.toArray();
        for (int i = order.length - 1; i > 0; i--) {
            int j = random.nextInt(i + 1);
            int swap = order[i];
            order[i] = order[j];
            order[j] = swap;
        }
        return order;
    }

    /** Entropy at which the probability is {@code p}. */
    private static double threshold(double[] w, double p) {
        return (Math.log(p / (1 - p)) - w[0]) / w[1];
    }

    private static double accuracy(double[] entropies, int[] yes, int[] no, int from, int to, double threshold) {
        int good = 0;
        for (int i = from; i < to; i++) {
            good += (entropies[yes[i]] < threshold ? 1 : 0) + (entropies[no[i]] >= threshold ? 1 : 0);
        }
        return good / (2.0 * (to - from));
    }

    /** Newton's method on the log-likelihood, with a ridge so small that it only matters where the classes don't overlap. */
    private static double[] regress(double[] x, int[] yes, int[] no, int end) {
        double w0 = 0;
        double w1 = 0;
        double ridge = 1e-4;
        for (int round = 0; round < 50; round++) {
            double g0 = -ridge * w0;
            double g1 = -ridge * w1;
            double h00 = ridge;
            double h01 = 0;
            double h11 = ridge;
            for (int i = 0; i < 2 * end; i++) {
                double h = x[i < end ? yes[i] : no[i - end]];
                double p = 1 / (1 + Math.exp(-(w0 + w1 * h)));
                double error = (i < end ? 1 : 0) - p;
                double weight = p * (1 - p);
                g0 += error;
                g1 += error * h;
                h00 += weight;
                h01 += weight * h;
                h11 += weight * h * h;
            }
            double determinant = h00 * h11 - h01 * h01;
            double d0 = (h11 * g0 - h01 * g1) / determinant;
            double d1 = (h00 * g1 - h01 * g0) / determinant;
            double step = Math.min(1, 5 / Math.max(Math.abs(d0), Math.abs(d1)));    // far steps overshoot
            w0 += step * d0;
            w1 += step * d1;
            if (Math.abs(d0) + Math.abs(d1) < 1e-10) {
                break;
            }
        }
        return new double[] {w0, w1};
    }

    /**
     * Adds this to a file of thresholds, or replaces the model's entry.
     *
     * @throws LlamaException if the file can't be written; what was there before is there still
     */
    public void store(Path file, Model of) {
        var root = Files.exists(file) ? read(file) : JSON.createObjectNode();
        root.set(key(of), JSON.valueToTree(this));
        var text = JSON.writerWithDefaultPrettyPrinter().writeValueAsString(root) + "\n";
        WholeFile.write(file, "the thresholds", out -> out.write(text.getBytes(StandardCharsets.UTF_8)));
    }

    /**
     * The entry of a model.
     *
     * @throws LlamaException if there is none, or the file holds no thresholds
     */
    public static EntropyThreshold load(Path file, Model of) {
        if (!Files.exists(file)) {
            throw new LlamaException("no thresholds at " + file + "; learn one for " + of.description() + " first");
        }
        var entry = read(file).get(key(of));
        if (entry == null) {
            throw new LlamaException(file + " has no threshold for " + of.description() + " (" + key(of).substring(0, 12)
                    + "); learn one first");
        }
        try {
            var threshold = JSON.treeToValue(entry, EntropyThreshold.class);
            if (!(threshold.threshold >= 0)) {
                throw new LlamaException(file + ": the threshold of " + of.description() + " is " + threshold.threshold
                        + ", not a number of nats");
            }
            return threshold;
        } catch (JacksonException e) {
            throw new LlamaException(file + ": the entry of " + of.description() + " is no threshold: " + e.getOriginalMessage(), e);
        }
    }

    private static ObjectNode read(Path file) {
        try {
            if (JSON.readTree(Files.readString(file)) instanceof ObjectNode node) {
                return node;
            }
        } catch (IOException e) {
            throw new LlamaException("can't read " + file + ": " + LlamaException.reason(e), e);
        } catch (JacksonException e) {
            throw new LlamaException(file + " is no file of thresholds: " + e.getOriginalMessage(), e);
        }
        throw new LlamaException(file + " is no file of thresholds: it must be a JSON object");
    }

    private static String key(Model model) {
        return model.fingerprint();
    }
}
