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
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Function;
import java.util.function.IntFunction;
import java.util.stream.IntStream;

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
    /** Of each of those first weights. */
    private final Map<String, Shape> shapes = new HashMap<>();

    /** One of a weight's matrices: experts have one each, other weights have matrix 0 alone. */
    record Matrix(String weight, int index) {
    }

    private record Shape(int columns, int matrices) {
    }

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
     * @param columns of each weight, by name. Those that are no part of a product with one vector per token, or per token and expert, are
     *                left out: {@link #readable} tells
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

    /** What a weight is multiplied by for a few tokens: of experts also which. */
    private static final class Seen {
        final List<Integer> experts = new ArrayList<>();
        final List<float[]> inputs = new ArrayList<>();
        int matrices;

        void add(Tap.Reading reading, String weight, int columns) {
            int experts = reading.expertCount(weight);
            matrices = Math.max(1, experts);
            int[] used = experts == 0 ? new int[1] : reading.experts(weight);
            for (int i = 0; i < used.length; i++) {
                var input = new float[columns];
                if (experts == 0) {
                    reading.input(weight, input);
                } else {
                    reading.input(weight, i, input);
                    this.experts.add(used[i]);
                }
                inputs.add(input);
            }
        }

        List<Object> key() {
            return List.of(matrices, experts, inputs.stream().map(Arrays::hashCode).toList());
        }

        /** Equal hashes are only candidates. */
        boolean same(Seen other) {
            return Arrays.deepEquals(inputs.toArray(), other.inputs.toArray());
        }
    }

    private void findSources(Map<String, Integer> all) {
        var readable = inProducts(all.keySet());
        var seen = new LinkedHashMap<String, Seen>();
        read(Arrays.copyOf(windows.getFirst(), COMPARED), readable, (reading, weight) -> {
            if (reading.has(weight)) {      // the last block drops tokens whose logits are not wanted
                seen.computeIfAbsent(weight, key -> new Seen()).add(reading, weight, all.get(weight));
            }
        }, () -> { });
        var first = new HashMap<List<Object>, String>();
        seen.forEach((weight, own) -> {
            var known = first.putIfAbsent(own.key(), weight);
            var from = known != null && own.same(seen.get(known)) ? known : weight;
            source.put(weight, from);
            shapes.put(from, new Shape(all.get(from), own.matrices));
        });
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

    /** How many matrices a readable weight has: as many as experts, otherwise 1. */
    int matrices(String weight) {
        return shapes.get(source.get(weight)).matrices;
    }

    private List<Matrix> matricesOf(String weight) {
        return IntStream.range(0, matrices(weight)).mapToObj(i -> new Matrix(weight, i)).toList();
    }

    /**
     * Sums of squares, by weight: of experts one for each, over the tokens that were given to it, otherwise one. Weights with equal
     * inputs have the same ones. Takes 8 bytes for each column.
     *
     * @param weights that are {@link #readable}
     */
    public Map<String, List<ColumnSquares>> squares(Collection<String> weights) {
        var all = weights.stream().flatMap(weight -> matricesOf(weight).stream()).toList();
        var gathered = gather(all, "inputs", SquareSums::new, SquareSums::add, sums -> { }, SquareSums::squares);
        var byWeight = new HashMap<String, List<ColumnSquares>>();
        weights.forEach(weight -> byWeight.put(weight, matricesOf(weight).stream().map(gathered::get).toList()));
        return byWeight;
    }

    /**
     * Gram matrices; matrices with equal inputs have the same one, which {@link SparseGpt} may take over once.
     *
     * @param matrices of weights that are {@link #readable}
     */
    Map<Matrix, GramMatrix> grams(Collection<Matrix> matrices) {
        return gather(matrices, "products of inputs", GramMatrix::new, GramMatrix::add, GramMatrix::absorb, Function.identity());
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

    private <A, R> Map<Matrix, R> gather(Collection<Matrix> matrices, String what, IntFunction<A> start, Adder<A> adder,
            Finisher<A> finisher, Function<A, R> result) {
        // by the first weight with that input and by matrix; null where a matrix is not asked for
        var sums = new LinkedHashMap<String, List<A>>();
        var inputs = new HashMap<String, float[]>();
        for (var matrix : matrices) {
            var from = source.get(matrix.weight);
            var shape = shapes.get(from);
            var own = sums.computeIfAbsent(from, key -> new ArrayList<>(Collections.nCopies(shape.matrices, null)));
            if (own.get(matrix.index) == null) {
                own.set(matrix.index, start.apply(shape.columns));
            }
            inputs.computeIfAbsent(from, key -> new float[shape.columns]);
        }
        int done = 0;
        for (int[] window : windows) {
            read(window, sums.keySet(), (reading, weight) -> {
                var own = sums.get(weight);
                var input = inputs.get(weight);
                if (reading.expertCount(weight) == 0) {
                    reading.input(weight, input);
                    adder.add(own.getFirst(), input);
                    return;
                }
                int[] experts = reading.experts(weight);
                for (int i = 0; i < experts.length; i++) {
                    if (own.get(experts[i]) != null) {
                        reading.input(weight, i, input);
                        adder.add(own.get(experts[i]), input);
                    }
                }
            }, () -> sums.values().forEach(own -> own.stream().filter(Objects::nonNull).forEach(finisher::finish)));
            progress.update(what, ++done, windows.size());
        }
        var results = new HashMap<Matrix, R>();
        sums.forEach((from, own) -> {
            for (int i = 0; i < own.size(); i++) {
                if (own.get(i) != null) {
                    results.put(new Matrix(from, i), result.apply(own.get(i)));
                }
            }
        });
        var byMatrix = new HashMap<Matrix, R>();
        matrices.forEach(matrix -> byMatrix.put(matrix, results.get(new Matrix(source.get(matrix.weight), matrix.index))));
        return byMatrix;
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
