package io.github.panamallama.bench;

import io.github.panamallama.quantization.Activations;
import io.github.panamallama.quantization.Calibration;
import io.github.panamallama.quantization.ImportanceMatrix;
import io.github.panamallama.quantization.Progress;
import io.github.panamallama.quantization.Sparsifier;
import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.BlockQuantizer;
import io.github.panamallama.runtime.Dequantizer;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.awt.Color;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.ToDoubleFunction;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.knowm.xchart.AnnotationText;
import org.knowm.xchart.XYChart;
import org.knowm.xchart.XYChartBuilder;
import org.knowm.xchart.XYSeries.XYSeriesRenderStyle;
import org.knowm.xchart.style.Styler.LegendPosition;
import org.knowm.xchart.style.markers.SeriesMarkers;

/**
 * What types of weights cost in quality: perplexity of held-out Java files and divergence from the model in F16, against bits per weight,
 * for every type that ggml quantises to, with and without an importance matrix, and for the 2:4 sparse types by each way of pruning. The
 * matrices in blocks are all of one type, the embedding stays F16 in every model, and bits are those of the matrices in blocks. Every other
 * file is for calibration, the rest is scored.
 */
final class TypeQuality implements AutoCloseable {
    private static final int WINDOW = 256;
    /** Windows of the calibration text, and that are scored. */
    private static final int CALIBRATION = 128;
    private static final int SCORED = 48;
    /** Rows that are quantised as one task. */
    private static final int TASK_ROWS = 64;
    /** Divergences below are equal for a plot. */
    private static final double LEAST = 1e-5;
    /** Perplexities above so many times that in F16 are left out of a plot. */
    private static final double MOST_PERPLEXITY = 2.5;
    /** Bits per weight up to which a plot goes. */
    private static final double MOST_BITS = 9;
    /** Where labels stand: in bits, and in parts of the plot's height. */
    private static final double BESIDE = 0.24;
    private static final double BELOW = 0.025;

    private final Path source;
    private final int threads;
    private final Path folder;
    private final Calibration calibration;
    private final List<int[]> scored;
    /** Log-probabilities of the model in F16, {@code [window][position * vocabulary + token]}. */
    private final float[][] reference;

    /** @param source a model in F16 */
    TypeQuality(Path source, Path heldOut, int threads) throws IOException {
        this.source = source;
        this.threads = threads;
        folder = Files.createTempDirectory("type-quality");
        List<Path> files;
        try (var walk = Files.walk(heldOut)) {
            files = walk.filter(file -> file.toString().endsWith(".java")).sorted().toList();
        }
        calibration = Calibration.of(IntStream.range(0, files.size()).filter(i -> i % 2 == 0).mapToObj(i -> text(files.get(i)))
                .collect(Collectors.joining("\n"))).withWindow(WINDOW).withWindows(CALIBRATION);
        var all = new ArrayList<int[]>();
        int vocabulary;
        try (var model = Model.load(source)) {
            vocabulary = model.vocabulary().size();
            for (int i = 1; i < files.size(); i += 2) {
                int[] tokens = model.vocabulary().tokenize(text(files.get(i)), true, false);
                for (int at = 0; at + WINDOW <= tokens.length; at += WINDOW) {
                    all.add(Arrays.copyOfRange(tokens, at, at + WINDOW));
                }
            }
        }
        if (all.size() < SCORED) {
            throw new IOException("half of the held-out files have " + all.size() + " windows of " + WINDOW + " tokens; " + SCORED
                    + " are needed");
        }
        scored = IntStream.range(0, SCORED).mapToObj(i -> all.get((int) ((long) i * all.size() / SCORED))).toList();
        reference = new float[SCORED][WINDOW * vocabulary];
        evaluate(source, (window, position, row) -> {
            double sum = RowMath.logSumExp(row);
            for (int token = 0; token < row.size(); token++) {
                reference[window][position * row.size() + token] = (float) (row.get(token) - sum);
            }
        });
    }

    /** Without the licence header: the training text had none. */
    private static String text(Path file) {
        try {
            var text = Files.readString(file);
            return text.substring(Math.max(0, text.indexOf("package ")));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @FunctionalInterface
    private interface RowSink {
        void accept(int window, int position, Row row);
    }

    private void evaluate(Path path, RowSink sink) {
        var options = EngineOptions.defaults().withContextSize(WINDOW).withThreads(threads).withMaxSequences(1);
        try (var model = Model.load(path); var engine = Engine.open(model, options)) {
            var rows = new Row[WINDOW];
            Arrays.setAll(rows, i -> engine.newRow());
            for (int window = 0; window < scored.size(); window++) {
                try (var sequence = engine.newSequence()) {
                    engine.decode(Append.all(sequence, scored.get(window), rows));
                }
                int current = window;
                IntStream.range(0, WINDOW).parallel().forEach(position -> sink.accept(current, position, rows[position]));
            }
        }
    }

    /**
     * A model that was scored.
     *
     * @param bits       per weight of the matrices in blocks
     * @param losses     mean loss of each window, in nats per token
     * @param divergence Kullback-Leibler divergence of its next tokens from those in F16, in nats per token
     * @param same       share of places with the same likeliest token
     */
    private record Scored(String type, String how, double bits, double[] losses, double divergence, double same) {
        double loss() {
            return Arrays.stream(losses).average().orElseThrow();
        }

        double perplexity() {
            return Math.exp(loss());
        }

        /** With what it shares a colour. */
        String group() {
            return type.startsWith("s24") ? "2:4, " + how : how.isEmpty() ? "dense" : "dense, " + how;
        }
    }

    private Scored score(String type, String how, Path path) {
        var losses = new double[scored.size()][WINDOW];
        var divergences = new double[scored.size()][WINDOW];
        var same = new double[scored.size()][WINDOW];
        evaluate(path, (window, position, row) -> {
            int size = row.size();
            var wanted = reference[window];
            double sum = RowMath.logSumExp(row);
            double divergence = 0;
            int likeliest = 0;
            int own = 0;
            for (int token = 0; token < size; token++) {
                float known = wanted[position * size + token];
                divergence += Math.exp(known) * (known - (row.get(token) - sum));
                likeliest = known > wanted[position * size + likeliest] ? token : likeliest;
                own = row.get(token) > row.get(own) ? token : own;
            }
            divergences[window][position] = divergence;
            same[window][position] = likeliest == own ? 1 : 0;
            losses[window][position] = position + 1 < WINDOW ? sum - row.get(scored.get(window)[position + 1]) : 0;
        });
        return new Scored(type, how, bits(path), Arrays.stream(losses).mapToDouble(each -> Arrays.stream(each).sum() / (WINDOW - 1))
                .toArray(), Math.max(0, mean(divergences)), mean(same));
    }

    private static double mean(double[][] values) {
        return Arrays.stream(values).flatMapToDouble(Arrays::stream).average().orElseThrow();
    }

    private static boolean inBlocks(GgufTensor tensor) {
        return tensor.name().startsWith("blk.") && tensor.shape().size() > 1;
    }

    private static double bits(Path path) {
        long bytes = 0;
        long weights = 0;
        for (var tensor : GgufFile.read(path).tensors()) {
            if (inBlocks(tensor)) {
                bytes += tensor.type().bytes(tensor.elementCount());
                weights += tensor.elementCount();
            }
        }
        return 8.0 * bytes / weights;
    }

    void measure(Report report) throws IOException {
        var all = new ArrayList<Scored>();
        all.add(score("f16", "", source));
        var importance = importance();
        for (var type : GgmlType.values()) {
            if (!type.isQuantized() || !BlockQuantizer.supports(type) || Sparsifier.TYPES.contains(type)) {
                continue;
            }
            var plain = folder.resolve("plain.gguf");
            var weighed = folder.resolve("weighed.gguf");
            boolean without = !BlockQuantizer.needsImportance(type);
            if (without) {
                quantize(type, Map.of(), plain);
                add(all, score(type.label(), "", plain));
            }
            quantize(type, importance, weighed);
            if (!without || Files.mismatch(plain, weighed) >= 0) {      // some types don't look at it
                add(all, score(type.label(), "imatrix", weighed));
            }
        }
        for (var type : Sparsifier.TYPES) {
            for (var method : Sparsifier.Method.values()) {
                var out = folder.resolve("sparse.gguf");
                Sparsifier.of(source).withType(type).withThreads(threads).withOverwrite(true)
                        .withMethod(method, method == Sparsifier.Method.MAGNITUDE ? null : calibration).run(out);
                add(all, score(type.label(), method.name().toLowerCase(Locale.ROOT), out));
            }
        }
        all.sort(Comparator.comparingDouble(Scored::bits).thenComparingDouble(Scored::divergence));
        var front = front(all, Scored::divergence);
        report.add(new Report.Table("Quality by type of weights, shipped model", String.format(Locale.ROOT,
                "%d windows of %d tokens of held-out files; statistics are of %d windows of other files. Matrices in blocks are of the "
                        + "type, the embedding is F16 in every model; bits per weight are those of the matrices in blocks. Loss beyond "
                        + "F16 in nats per token, \u00b1 two standard errors over windows, paired; divergence (KL) of the next token from "
                        + "F16 in nats; share of places with the same likeliest token. Front: no other has less divergence in as few bits.",
                scored.size(), WINDOW, CALIBRATION),
                List.of("type", "how", "bits per weight", "perplexity", "loss beyond F16", "KL", "same token", "front"),
                all.stream().map(each -> line(each, all, front.contains(each))).toList()));
        report.save(chart(all, "KL divergence from F16 in nats", true, each -> Math.max(LEAST, each.divergence)), "types-divergence");
        double most = MOST_PERPLEXITY * all.getLast().perplexity();
        var plotted = all.stream().filter(each -> each.perplexity() <= most).toList();
        report.save(chart(plotted, String.format(Locale.ROOT, "perplexity, up to %.0f", most), false, Scored::perplexity),
                "types-perplexity");
    }

    private static void add(List<Scored> all, Scored each) {
        System.out.println("  " + String.join(" | ", line(each, all, false)));
        all.add(each);
    }

    private static List<String> line(Scored each, List<Scored> all, boolean front) {
        var dense = all.stream().filter(other -> other.type.equals("f16")).findFirst().orElseThrow();
        int n = each.losses.length;
        double mean = each.loss() - dense.loss();
        double squares = 0;
        for (int i = 0; i < n; i++) {
            squares += Math.pow(each.losses[i] - dense.losses[i] - mean, 2);
        }
        return List.of(each.type, each.how, number("%.3f", each.bits), number("%.3f", each.perplexity()), each == dense ? ""
                : String.format(Locale.ROOT, "%+.4f \u00b1 %.4f", mean, 2 * Math.sqrt(squares / (n - 1) / n)),
                number("%.5f", each.divergence), number("%.1f %%", 100 * each.same), front ? "yes" : "");
    }

    private static String number(String format, double value) {
        return String.format(Locale.ROOT, format, value);
    }

    /** Those than which no other has less of a value in as few bits, by bits. */
    private static List<Scored> front(List<Scored> all, ToDoubleFunction<Scored> value) {
        var front = new ArrayList<Scored>();
        for (var each : all.stream().sorted(Comparator.comparingDouble(Scored::bits).thenComparingDouble(value)).toList()) {
            if (front.isEmpty() || value.applyAsDouble(each) < value.applyAsDouble(front.getLast())) {
                front.add(each);
            }
        }
        return front;
    }

    private static XYChart chart(List<Scored> all, String what, boolean logarithmic, ToDoubleFunction<Scored> value) {
        var chart = new XYChartBuilder().width(1100).height(640).title("Quality by type of weights, held-out Java, shipped model")
                .xAxisTitle("bits per weight of the matrices in blocks").yAxisTitle(what).build();
        chart.getStyler().setYAxisLogarithmic(logarithmic).setLegendPosition(LegendPosition.InsideNE);
        chart.getStyler().setXAxisMin(1.0).setXAxisMax(MOST_BITS).setAnnotationTextFontColor(Color.DARK_GRAY);
        var groups = new TreeMap<String, List<Scored>>();       // the same colours in every plot
        all.stream().filter(each -> each.bits < MOST_BITS)
                .forEach(each -> groups.computeIfAbsent(each.group(), key -> new ArrayList<>()).add(each));
        groups.forEach((name, members) -> chart.addSeries(name, members.stream().mapToDouble(Scored::bits).toArray(),
                members.stream().mapToDouble(value).toArray()).setXYSeriesRenderStyle(XYSeriesRenderStyle.Scatter));
        var shown = front(all.stream().filter(each -> each.bits < MOST_BITS).toList(), value);
        chart.addSeries("front", shown.stream().mapToDouble(Scored::bits).toArray(), shown.stream().mapToDouble(value).toArray())
                .setXYSeriesRenderStyle(XYSeriesRenderStyle.Line).setMarker(SeriesMarkers.NONE).setLineColor(Color.GRAY);
        // labels of the front stand below it, where nothing is; those of sparse types beside the best way of pruning
        var extent = all.stream().filter(each -> each.bits < MOST_BITS).mapToDouble(value).summaryStatistics();
        for (var each : all) {
            double at = value.applyAsDouble(each);
            if (each.type.startsWith("s24")) {
                if (each.how.equals("sparsegpt")) {
                    chart.addAnnotation(new AnnotationText(each.type, each.bits + BESIDE, at, false));
                }
            } else if (shown.contains(each)) {
                double below = logarithmic ? at * Math.pow(extent.getMin() / extent.getMax(), BELOW)
                        : at - BELOW * (extent.getMax() - extent.getMin());
                chart.addAnnotation(new AnnotationText(each.type, each.bits - BESIDE / 2, below, false));
            }
        }
        return chart;
    }

    private Map<String, float[]> importance() {
        var columns = new LinkedHashMap<String, Integer>();
        GgufFile.read(source).tensors().stream().filter(TypeQuality::inBlocks)
                .forEach(tensor -> columns.put(tensor.name(), Math.toIntExact(tensor.shape().getFirst())));
        try (var model = Model.load(source); var activations = Activations.open(model, columns, calibration, threads, Progress.NONE)) {
            return ImportanceMatrix.gather(activations, List.copyOf(columns.keySet()), "held-out files").means();
        }
    }

    /** A copy of the source with the matrices in blocks in a type. */
    private void quantize(GgmlType type, Map<String, float[]> importance, Path out) {
        var file = GgufFile.read(source);
        var writer = new GgufWriter().putAll(file.metadata());
        for (var tensor : file.tensors()) {
            boolean matrix = inBlocks(tensor);
            writer.tensor(tensor.name(), matrix ? type : tensor.type(), tensor.shape(), to -> {
                try (var arena = Arena.ofShared()) {
                    var data = file.map(tensor, arena);
                    to.write(matrix ? blocks(type, tensor, data, importance.get(tensor.name()), arena) : data);
                }
            });
        }
        writer.write(out);
    }

    private static MemorySegment blocks(GgmlType type, GgufTensor tensor, MemorySegment data, float[] importance, Arena arena) {
        int columns = Math.toIntExact(tensor.shape().getFirst());
        int rows = Math.toIntExact(tensor.elementCount() / columns);
        var blocks = arena.allocate(type.bytes(tensor.elementCount()), 32);
        IntStream.range(0, Math.ceilDiv(rows, TASK_ROWS)).parallel().forEach(task -> {
            int first = task * TASK_ROWS;
            int own = Math.min(TASK_ROWS, rows - first);
            var weights = new float[own * columns];
            Dequantizer.toFloats(tensor.type(), data.asSlice(tensor.type().bytes((long) first * columns)), weights, weights.length);
            BlockQuantizer.toBlocks(type, weights, own, columns, importance, blocks.asSlice(type.bytes((long) first * columns)));
        });
        return blocks;
    }

    @Override
    public void close() throws IOException {
        try (var files = Files.list(folder)) {
            for (var file : files.toList()) {
                Files.delete(file);
            }
        }
        Files.delete(folder);
    }
}
