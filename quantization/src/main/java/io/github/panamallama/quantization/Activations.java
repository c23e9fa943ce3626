package io.github.panamallama.quantization;

import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Tap;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.function.IntFunction;

/**
 * What the weights of a model are multiplied by while it reads a calibration text, gathered through taps. Each gathering evaluates the
 * whole text once.
 *
 * <p>Weights that are multiplied by the same vectors, as those of queries, keys and values are, are found by comparing the inputs of a few
 * tokens bit for bit; what is gathered is gathered once for all of them.
 *
 * <p>One caller at a time.
 */
public final class Activations implements AutoCloseable {
    /** Tokens of one native call, and rows of logits that are held. */
    private static final int CHUNK = 128;
    /** Tokens whose inputs are compared. */
    private static final int COMPARED = 8;

    private final Engine engine;
    private final List<int[]> windows;
    private final Row[] rows;
    private final Progress progress;
    /** Of each weight whose input can be read: the first weight with that input. */
    private final Map<String, String> source = new LinkedHashMap<>();
    /** Columns of each of those first weights. */
    private final Map<String, Integer> columns = new HashMap<>();

    private Activations(Engine engine, List<int[]> windows, Progress progress) {
        this.engine = engine;
        this.windows = windows;
        this.progress = progress;
        rows = new Row[Math.min(CHUNK, windows.getFirst().length)];
        Arrays.setAll(rows, i -> engine.newRow());
    }

    /**
     * Prepares to read the inputs of weights.
     *
     * @param columns of each weight, by name. Those that are no part of a product with one vector per token, as experts' weights, are left
     *                out: {@link #readable} tells
     * @param threads 0 for all cores
     * @throws LlamaException if the text is shorter than two windows, or no input of this model can be read, as in recurrent models
     */
    public static Activations open(Model model, Map<String, Integer> columns, Calibration calibration, int threads, Progress progress) {
        var windows = calibration.cut(model.vocabulary());
        var options = EngineOptions.defaults().withContextSize(calibration.window()).withMaxSequences(1).withThreads(threads);
        var engine = Engine.open(model, options);
        try {
            var activations = new Activations(engine, windows, progress);
            activations.findSources(columns);
            return activations;
        } catch (RuntimeException | Error e) {
            engine.close();
            throw e;
        }
    }

    private void findSources(Map<String, Integer> all) {
        var readable = inProducts(all.keySet());
        var first = new HashMap<List<Integer>, String>();
        var inputs = new HashMap<String, float[][]>();
        readable.forEach(weight -> inputs.put(weight, new float[COMPARED][all.get(weight)]));
        var seen = new LinkedHashSet<String>();
        read(Arrays.copyOf(windows.getFirst(), COMPARED), readable, (reading, weight) -> {
            if (reading.has(weight)) {      // the last block drops tokens whose logits are not wanted
                reading.input(weight, inputs.get(weight)[reading.position()]);
                seen.add(weight);
            }
        }, () -> { });
        for (var weight : seen) {
            var own = inputs.get(weight);
            // equal hashes are only candidates
            var key = List.of(own[0].length, Arrays.deepHashCode(own));
            var known = first.get(key);
            boolean same = known != null && Arrays.deepEquals(inputs.get(known), own);
            if (known == null) {
                first.put(key, weight);
            }
            source.put(weight, same ? known : weight);
            columns.put(same ? known : weight, own[0].length);
        }
    }

    /** Those that are part of a product, by asking the graph. */
    private List<String> inProducts(Collection<String> weights) {
        var readable = new ArrayList<String>();
        LayerPlanException refused = null;
        try (var sequence = engine.newSequence()) {
            for (var weight : weights) {
                try {
                    sequence.tap(Tap.inputs(weight), reading -> { });
                    readable.add(weight);
                } catch (LayerPlanException e) {
                    refused = e;
                }
            }
        }
        if (readable.isEmpty()) {
            throw new LlamaException("of '" + engine.model().description() + "' no input of a weight can be read"
                    + (refused == null ? "" : ": " + refused.getMessage()), refused);
        }
        return readable;
    }

    /** Whether the input of this weight is read. */
    public boolean readable(String weight) {
        return source.containsKey(weight);
    }

    /** Tokens of the text. */
    public long tokens() {
        return (long) windows.size() * windows.getFirst().length;
    }

    /** Windows of the text. */
    public int windows() {
        return windows.size();
    }

    /** The name under which the input of a weight is gathered: equal for weights with equal inputs. */
    String source(String weight) {
        return source.get(weight);
    }

    /**
     * Sums of squares, by weight; weights with equal inputs have the same one. Takes 8 bytes for each column.
     *
     * @param weights that are {@link #readable}
     */
    public Map<String, ColumnSquares> squares(Collection<String> weights) {
        return gather(weights, "inputs", SquareSums::new, SquareSums::add, sums -> { }, SquareSums::squares);
    }

    /**
     * Gram matrices, by weight; weights with equal inputs have the same one, which {@link SparseGpt} may take over once.
     *
     * @param weights that are {@link #readable}
     */
    Map<String, GramMatrix> grams(Collection<String> weights) {
        return gather(weights, "products of inputs", GramMatrix::new, GramMatrix::add, GramMatrix::absorb, Function.identity());
    }

    private static final class SquareSums {
        final double[] sums;
        long tokens;

        SquareSums(int columns) {
            sums = new double[columns];
        }

        void add(float[] input) {
            for (int i = 0; i < sums.length; i++) {
                sums[i] += (double) input[i] * input[i];
            }
            tokens++;
        }

        ColumnSquares squares() {
            return new ColumnSquares(sums, tokens);
        }
    }

    @FunctionalInterface
    private interface Adder<A> {
        void add(A sum, float[] input);
    }

    @FunctionalInterface
    private interface Finisher<A> {
        void finish(A sum);
    }

    private <A, R> Map<String, R> gather(Collection<String> weights, String what, IntFunction<A> start, Adder<A> adder,
            Finisher<A> finisher, Function<A, R> result) {
        var sums = new LinkedHashMap<String, A>();
        var inputs = new HashMap<String, float[]>();
        for (var weight : weights) {
            var from = source.get(weight);
            sums.computeIfAbsent(from, key -> start.apply(columns.get(from)));
            inputs.computeIfAbsent(from, key -> new float[columns.get(from)]);
        }
        int done = 0;
        for (int[] window : windows) {
            read(window, sums.keySet(), (reading, weight) -> {
                var input = inputs.get(weight);
                reading.input(weight, input);
                adder.add(sums.get(weight), input);
            }, () -> sums.values().forEach(finisher::finish));
            progress.update(what, ++done, windows.size());
        }
        var results = new HashMap<String, R>();
        sums.forEach((weight, sum) -> results.put(weight, result.apply(sum)));
        var byWeight = new HashMap<String, R>();
        weights.forEach(weight -> byWeight.put(weight, results.get(source.get(weight))));
        return byWeight;
    }

    @FunctionalInterface
    private interface Input {
        void read(Tap.Reading reading, String weight);
    }

    /** Evaluates a window with the logits behind each token: the last block evaluates only such tokens. */
    private void read(int[] window, Collection<String> weights, Input to, Runnable afterwards) {
        try (var sequence = engine.newSequence()) {
            int[] next = {0};
            sequence.tap(Tap.inputs(weights.toArray(String[]::new)), reading -> {
                if (reading.position() == next[0]) {    // those that are evaluated again count once
                    next[0]++;
                    weights.forEach(weight -> to.read(reading, weight));
                }
            });
            for (int at = 0; at < window.length; at += rows.length) {
                int count = Math.min(rows.length, window.length - at);
                engine.decode(Append.all(sequence, Arrays.copyOfRange(window, at, at + count), Arrays.copyOf(rows, count)));
            }
        }
        afterwards.run();
    }

    @Override
    public void close() {
        engine.close();
    }
}
