package io.github.panamallama.bench;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.sampling.Sampler;
import io.github.panamallama.sampling.SamplerOptions;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.knowm.xchart.XYChartBuilder;

/** What a token costs outside of {@code llama_decode} at vocabularies of several sizes: row copy, engine, sampler, text. */
final class Vocabularies {
    private static final int[] SIZES = {8_192, 32_000, 65_536, 128_256, 151_936, 262_144};
    private static final int CONTEXT = 256;
    private static final int ROUNDS = 15;

    private Vocabularies() {
    }

    static void measure(Report report) throws IOException {
        var rows = new ArrayList<List<String>>();
        var greedy = new double[SIZES.length];
        var drawn = new double[SIZES.length];
        for (int i = 0; i < SIZES.length; i++) {
            var shape = RandomModel.llama(1, 64, 2, 1, 128, SIZES[i]).withType(GgmlType.Q8_0);
            try (var model = Model.load(BenchModels.cached(shape));
                    var engine = Engine.open(model, EngineOptions.defaults().withContextSize(CONTEXT).withThreads(1).withMaxSequences(1))) {
                greedy[i] = microseconds(model, engine, Sampler.greedy());
                drawn[i] = microseconds(model, engine, Sampler.of(SamplerOptions.defaults().withMinP(0).withSeed(1)));
            }
            rows.add(List.of("" + SIZES[i], format(greedy[i]), format(drawn[i])));
            System.out.println("  vocabulary: " + rows.getLast());
        }
        report.add(new Report.Table("A token by vocabulary size", "Microseconds outside of `llama_decode`: row copy, engine, sampler, "
                + "text; median of " + ROUNDS + " rounds of " + (CONTEXT - 1) + " tokens on one thread, after as many to warm up.",
                List.of("tokens in the vocabulary", "greedy", "temperature, top-k, top-p"), rows));
        var sizes = Arrays.stream(SIZES).asDoubleStream().toArray();
        var chart = new XYChartBuilder().width(900).height(480).title("A token outside of llama_decode")
                .xAxisTitle("tokens in the vocabulary").yAxisTitle("microseconds").build();
        chart.getStyler().setYAxisMin(0.0).setXAxisDecimalPattern("#,###").setYAxisDecimalPattern("#,###");
        chart.addSeries("greedy", sizes, greedy);
        chart.addSeries("temperature, top-k, top-p", sizes, drawn);
        report.add(chart, "vocabulary");
    }

    private static double microseconds(Model model, Engine engine, Sampler sampler) {
        var rounds = new double[ROUNDS];
        var row = engine.newRow();
        for (int round = -ROUNDS; round < ROUNDS; round++) {
            var decoder = model.vocabulary().decoder();
            try (var sequence = engine.newSequence()) {
                sequence.append(300, row);
                long before = engine.stats().decodeNanos();
                long start = System.nanoTime();
                for (int i = 1; i < CONTEXT; i++) {
                    int token = sampler.sample(row);
                    sampler.accept(token);
                    decoder.push(token);
                    sequence.append(token, row);
                }
                long outside = System.nanoTime() - start - (engine.stats().decodeNanos() - before);
                if (round >= 0) {
                    rounds[round] = outside / 1e3 / (CONTEXT - 1);
                }
            }
        }
        return Statistics.median(rounds);
    }

    private static String format(double value) {
        return String.format(Locale.ROOT, "%.1f", value);
    }
}
