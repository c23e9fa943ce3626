package io.github.panamallama.sampling;

import io.github.panamallama.runtime.Row;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;

/** The sampler's distribution computed the long way: sort everything, double precision, one step after another. */
final class Reference {
    private Reference() {
    }

    static Row row(float... logits) {
        var row = new Row(logits.length);
        row.copyFrom(logits);
        return row;
    }

    static float[] logits(Random random, int n, double spread) {
        var logits = new float[n];
        for (int i = 0; i < n; i++) {
            logits[i] = (float) (random.nextGaussian() * spread);
        }
        return logits;
    }

    /** {@code [n_vocab]} probabilities; {@code history} are the accepted tokens, oldest first. */
    static double[] distribution(float[] raw, SamplerOptions options, int[] history) {
        int n = raw.length;
        float[] logits = raw.clone();
        options.logitBias().forEach((token, bias) -> logits[token] += bias);
        int[] count = new int[n];
        for (int i = Math.max(0, history.length - options.penaltyLastN()); i < history.length; i++) {
            count[history[i]]++;
        }
        for (int t = 0; t < n; t++) {
            if (count[t] > 0) {
                logits[t] = logits[t] > 0 ? logits[t] / options.repetitionPenalty() : logits[t] * options.repetitionPenalty();
                logits[t] -= count[t] * options.frequencyPenalty() + options.presencePenalty();
            }
        }
        List<Integer> kept = IntStream.range(0, n).boxed().filter(t -> logits[t] > Float.NEGATIVE_INFINITY)
                .sorted(Comparator.comparingDouble((Integer t) -> -(logits[t] + 0.0)).thenComparing(t -> t)).toList();
        if (options.temperature() == 0) {
            kept = kept.subList(0, 1);
        }
        if (options.topK() > 0) {
            kept = kept.subList(0, Math.min(options.topK(), kept.size()));
        }
        double max = logits[kept.getFirst()];
        if (options.topP() < 1) {
            double total = 0;
            for (int t : kept) {
                total += Math.exp(logits[t] - max);
            }
            double sum = 0;
            int size = 0;
            while (size < kept.size()) {
                sum += Math.exp(logits[kept.get(size++)] - max) / total;
                if (sum >= options.topP()) {
                    break;
                }
            }
            kept = kept.subList(0, size);
        }
        if (options.minP() > 0) {
            kept = kept.stream().filter(t -> logits[t] >= (float) max + (float) Math.log(options.minP())).toList();
        }
        var p = new double[n];
        double total = 0;
        for (int t : kept) {
            p[t] = options.temperature() == 0 ? 1 : Math.exp((logits[t] - max) / options.temperature());
            total += p[t];
        }
        for (int t : kept) {
            p[t] /= total;
        }
        return p;
    }
}
