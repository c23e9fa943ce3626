package io.github.panamallama.bench;

import io.github.panamallama.layers.BlockInfluence;
import io.github.panamallama.layers.Lac;
import io.github.panamallama.layers.PlanDivergence;
import io.github.panamallama.layers.PlanSearch;
import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.search.Stage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import org.knowm.xchart.XYChart;
import org.knowm.xchart.XYChartBuilder;

/**
 * What leaving blocks out costs in quality: the perplexity of held-out Java files under the plans of every static chooser, beside random
 * plans. Choosers see every other file, the rest is scored.
 */
final class LayerQuality implements AutoCloseable {
    private static final int WINDOW = 256;
    /** Windows that choosers see, and that are scored. */
    private static final int CALIBRATION = 32;
    private static final int SCORED = 48;
    private static final int[] LEFT_OUT = {1, 2, 3};
    /** Random plans of each size, as far as there are so many. */
    private static final int CONTROLS = 6;
    private static final String RANDOM = "random";

    private final Model model;
    private final Engine engine;
    private final long seed;
    private final List<int[]> calibration;
    private final List<int[]> scored;
    private final Row[] rows;

    LayerQuality(Path modelFile, Path heldOut, int threads, long seed) throws IOException {
        this.seed = seed;
        model = Model.load(modelFile);
        engine = Engine.open(model, EngineOptions.defaults().withContextSize(2 * WINDOW).withThreads(threads).withMaxSequences(2));
        List<Path> files;
        try (var walk = Files.walk(heldOut)) {
            files = walk.filter(file -> file.toString().endsWith(".java")).sorted().toList();
        }
        calibration = windows(files, 0, CALIBRATION);
        scored = windows(files, 1, SCORED);
        rows = new Row[WINDOW];
        Arrays.setAll(rows, i -> engine.newRow());
    }

    /** So many windows, evenly chosen from all of every other file; each with a beginning of text where the vocabulary has one. */
    private List<int[]> windows(List<Path> files, int remainder, int count) throws IOException {
        var all = new ArrayList<int[]>();
        for (int i = remainder; i < files.size(); i += 2) {
            var text = Files.readString(files.get(i));
            int start = Math.max(0, text.indexOf("package "));    // the training text had no licence headers
            int[] tokens = model.vocabulary().tokenize(text.substring(start), true, false);
            for (int at = 0; at + WINDOW <= tokens.length; at += WINDOW) {
                var part = Arrays.copyOfRange(tokens, at, at + WINDOW);
                if (model.vocabulary().addsBos()) {
                    part[0] = model.vocabulary().bos();
                }
                all.add(part);
            }
        }
        if (all.size() < count) {
            throw new IOException("half of the held-out files have " + all.size() + " windows of " + WINDOW + " tokens; " + count
                    + " are needed");
        }
        var chosen = new ArrayList<int[]>();
        for (int i = 0; i < count; i++) {
            chosen.add(all.get((int) ((long) i * all.size() / count)));
        }
        return chosen;
    }

    /** @param losses mean loss of each window, in nats per token */
    private record Scored(LayerPlan plan, double[] losses) {
        double loss() {
            return Arrays.stream(losses).average().orElseThrow();
        }

        double perplexity() {
            return Math.exp(loss());
        }
    }

    void measure(String modelName, Report report) throws IOException {
        int blocks = model.layerCount();
        var whole = score(LayerPlan.all(blocks));
        var table = new ArrayList<List<String>>();
        var curves = new LinkedHashMap<String, List<Double>>();
        table.add(List.of("0", "whole model", whole.plan.toString(), number(whole.perplexity()), ""));
        for (int left : LEFT_OUT) {
            for (var entry : choose(left).entrySet()) {
                var each = score(entry.getValue());
                table.add(List.of("" + left, entry.getKey(), each.plan.toString(), number(each.perplexity()), difference(each, whole)));
                curve(curves, entry.getKey(), whole).add(each.perplexity());
                System.out.println("  " + String.join(" | ", table.getLast()));
            }
            var random = random(left).stream().map(this::score).toList();
            double[] losses = random.stream().mapToDouble(Scored::loss).sorted().toArray();
            double mean = Arrays.stream(losses).average().orElseThrow();
            double least = losses[0];
            double most = losses[losses.length - 1];
            table.add(List.of("" + left, RANDOM, losses.length + " plans", String.format(Locale.ROOT, "%.3f (%.3f to %.3f)", Math.exp(mean),
                    Math.exp(least), Math.exp(most)), String.format(Locale.ROOT, "%+.3f (%+.3f to %+.3f)", mean - whole.loss(),
                    least - whole.loss(), most - whole.loss())));
            curve(curves, RANDOM + ", mean", whole).add(Math.exp(mean));
            curve(curves, RANDOM + ", best", whole).add(Math.exp(least));
            curve(curves, RANDOM + ", worst", whole).add(Math.exp(most));
            System.out.println("  " + String.join(" | ", table.getLast()));
        }
        report.add(new Report.Table("Quality without blocks, " + modelName, String.format(Locale.ROOT,
                "Perplexity of %d windows of %d tokens of held-out files; choosers saw %d windows of other files. Random plans keep the "
                        + "first and the last block, as influence and LAC do; their mean is that of the losses, in brackets the best and "
                        + "the worst. Halves leave out as many attention and feed-forward parts each as the others leave out blocks. "
                        + "Differences are in nats per token, \u00b1 two standard errors over windows, paired.",
                scored.size(), WINDOW, calibration.size()),
                List.of("blocks left out", "chooser", "plan", "perplexity", "loss beyond the whole model's"), table));
        report.save(chart(curves), "layers-quality");
    }

    private static List<Double> curve(Map<String, List<Double>> curves, String name, Scored whole) {
        return curves.computeIfAbsent(name, n -> new ArrayList<>(List.of(whole.perplexity())));
    }

    private static XYChart chart(Map<String, List<Double>> curves) {
        var chart = new XYChartBuilder().width(900).height(480).title("Perplexity of held-out files without blocks")
                .xAxisTitle("blocks left out").yAxisTitle("perplexity").build();
        chart.getStyler().setYAxisLogarithmic(true);
        var x = new ArrayList<Integer>(List.of(0));
        Arrays.stream(LEFT_OUT).forEach(x::add);
        curves.forEach((name, values) -> chart.addSeries(name, x, values));
        return chart;
    }

    /** What each chooser leaves out, by the calibration texts. */
    private Map<String, LayerPlan> choose(int left) {
        var plans = new LinkedHashMap<String, LayerPlan>();
        plans.put("influence", BlockInfluence.measure(engine, calibration).without(left));
        var lac = new Lac(Lac.DEFAULT_ALPHA);
        plans.put("LAC", Lac.skipping(calibration.stream().flatMap(text -> lac.trace(engine, text).stream()).toList(), left));
        var divergence = new PlanDivergence(engine, calibration);
        var search = PlanSearch.removing(left).withOffspring(8).withInitial(16, 2 * WINDOW)
                .withStages(new Stage(2, 2 * WINDOW), new Stage(1, 8 * WINDOW)).withSeed(seed);
        plans.put("search, blocks", search.run(divergence, divergence).plan());
        plans.put("search, halves", search.withHalves(true).run(divergence, divergence).plan());
        return plans;
    }

    private Set<LayerPlan> random(int left) {
        int inner = model.layerCount() - 2;
        int most = 1;    // inner over left
        for (int i = 0; i < left; i++) {
            most = most * (inner - i) / (i + 1);
        }
        var random = new SplittableRandom(seed + left);
        var plans = new LinkedHashSet<LayerPlan>();
        while (plans.size() < Math.min(CONTROLS, most)) {
            plans.add(LayerPlan.all(model.layerCount()).skip(random.ints(1, inner + 1).distinct().limit(left).toArray()));
        }
        return plans;
    }

    private Scored score(LayerPlan plan) {
        var losses = new double[scored.size()];
        for (int i = 0; i < losses.length; i++) {
            int[] text = scored.get(i);
            try (var sequence = engine.newSequence(plan)) {
                engine.decode(Append.all(sequence, text, rows));
            }
            for (int at = 0; at + 1 < text.length; at++) {
                losses[i] += (RowMath.logSumExp(rows[at]) - rows[at].get(text[at + 1])) / (text.length - 1);
            }
        }
        return new Scored(plan, losses);
    }

    private static String difference(Scored plan, Scored whole) {
        int n = plan.losses.length;
        double mean = plan.loss() - whole.loss();
        double squares = 0;
        for (int i = 0; i < n; i++) {
            double each = plan.losses[i] - whole.losses[i] - mean;
            squares += each * each;
        }
        return String.format(Locale.ROOT, "%+.3f \u00b1 %.3f", mean, 2 * Math.sqrt(squares / (n - 1) / n));
    }

    private static String number(double value) {
        return String.format(Locale.ROOT, "%.3f", value);
    }

    @Override
    public void close() {
        engine.close();
        model.close();
    }
}
