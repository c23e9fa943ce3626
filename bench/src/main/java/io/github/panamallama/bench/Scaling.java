package io.github.panamallama.bench;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.knowm.xchart.XYChartBuilder;

/** Tokens per second of several generations at once through one engine. */
final class Scaling {
    private static final int[] AT_ONCE = {1, 2, 4, 8, 16, 32};
    private static final long WARM_UP_NANOS = 3_000_000_000L;

    private Scaling() {
    }

    static void measure(BenchModels.BenchModel model, GenerationWork work, int threads, int rounds, long seed, Report report)
            throws IOException, InterruptedException {
        int most = AT_ONCE[AT_ONCE.length - 1];
        var rates = new double[AT_ONCE.length];
        var rows = new ArrayList<List<String>>();
        // every generation needs its cells: prompt and drawn tokens
        int cells = most * (work.generate() + work.prompt().length());
        try (var worker = new Worker(model.path(), work.withContextSize((cells + 255) / 256 * 256), threads, most)) {
            for (long until = System.nanoTime() + WARM_UP_NANOS; System.nanoTime() < until;) {
                for (int generations : AT_ONCE) {
                    worker.generateConcurrently(generations, seed);
                }
            }
            var measured = new double[AT_ONCE.length][rounds];
            for (int round = 0; round < rounds; round++) {      // in turn: what slows the machine down for a while slows all
                for (int i = 0; i < AT_ONCE.length; i++) {
                    measured[i][round] = worker.generateConcurrently(AT_ONCE[i], seed + round);
                }
            }
            for (int i = 0; i < AT_ONCE.length; i++) {
                rates[i] = Statistics.median(measured[i]);
                rows.add(List.of("" + AT_ONCE[i], Report.rate(rates[i]), Report.rate(rates[i] / AT_ONCE[i]),
                        String.format(Locale.ROOT, "%.2f", rates[i] / rates[0])));
                System.out.println("  scaling: " + rows.getLast());
            }
        }
        report.add(new Report.Table("Generations at once, " + model.name(), work.generate() + " tokens each on virtual threads, " + threads
                + " threads for the evaluation, median of " + rounds + " rounds after a warm-up.",
                List.of("generations", "tokens/s together", "tokens/s each", "to one"), rows));
        var chart = new XYChartBuilder().width(900).height(480).title("Generations at once, " + model.name()).xAxisTitle("generations")
                .yAxisTitle("tokens per second, together").build();
        chart.getStyler().setYAxisMin(0.0).setLegendVisible(false);
        chart.addSeries("measured", Arrays.stream(AT_ONCE).asDoubleStream().toArray(), rates);
        report.add(chart, "scaling-" + model.name().replaceAll("[^a-zA-Z0-9]+", "-"));
    }
}
