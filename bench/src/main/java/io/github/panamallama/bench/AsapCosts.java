package io.github.panamallama.bench;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.sampling.asap.Asap;
import io.github.panamallama.sampling.asap.AsapOptions;
import io.github.panamallama.sampling.asap.Draw;
import io.github.panamallama.sampling.asap.Target;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarVocabulary;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.knowm.xchart.CategoryChartBuilder;
import org.knowm.xchart.XYChart;
import org.knowm.xchart.XYChartBuilder;
import org.knowm.xchart.style.markers.SeriesMarkers;

/**
 * Grammar-aligned sampling until its distribution is within a thousandth of a nat of the target, against the reference's way: the
 * same draws, each evaluated anew from its prompt, token by token.
 */
final class AsapCosts {
    private static final double WANTED = 1e-3;
    private static final int MOST_DRAWS = 200_000;
    private static final int MOST_POSITIONS = 50_000;
    private static final int MOST_BARS = 12;

    private record Task(String name, String prompt, String regex) {
    }

    private static final List<Task> TASKS = List.of(
            new Task("a literal", "    private boolean enabled = ", "(true|false|null|0|1);"),
            new Task("a signature", "public interface Shape {\n    ", "(int|long|void|double) (area|size|get|set)\\(\\);"),
            new Task("a JSON record", "The settings as JSON: ", "\\{\"on\":(true|false),\"n\":[0-3]\\}"));

    private AsapCosts() {
    }

    static void measure(BenchModels.BenchModel bench, int threads, Report report) throws IOException {
        var rows = new ArrayList<List<String>>();
        XYChart chart = new XYChartBuilder().width(900).height(480).title("KL divergence from the model's distribution under the grammar")
                .xAxisTitle("draws").yAxisTitle("nats").build();
        chart.getStyler().setXAxisLogarithmic(true).setYAxisLogarithmic(true);
        try (var model = Model.load(bench.path());
                var engine = Engine.open(model, EngineOptions.defaults().withContextSize(1024).withThreads(threads))) {
            var vocabulary = GrammarVocabulary.of(model.vocabulary());
            for (var task : TASKS) {
                int[] prompt = model.vocabulary().tokenize(task.prompt, true, false);
                var grammar = Grammar.regex(task.regex);
                var options = AsapOptions.defaults().withMaxTokens(40).withoutByteTokens(model.vocabulary());
                int draws = 0;
                double masking;
                int positions;
                int texts;
                var x = new ArrayList<Integer>();
                var y = new ArrayList<Double>();
                try (var asap = Asap.open(engine, prompt, grammar.constraint(vocabulary), task.regex, options)) {
                    var target = asap.enumerate(MOST_POSITIONS);
                    masking = target.divergence();
                    var before = byText(target, true);
                    positions = target.positions();
                    texts = target.texts().size();
                    double now = masking;
                    while (now > WANTED && draws < MOST_DRAWS) {
                        int step = Math.max(1, draws / 20);
                        asap.draw(step);
                        draws += step;
                        now = target.divergence();
                        x.add(draws);
                        y.add(Math.max(now, 1e-6));
                    }
                    distributions(task, target, before, report);
                }
                if (!x.isEmpty()) {
                    chart.addSeries(task.name, x, y).setMarker(SeriesMarkers.NONE);
                }
                for (int parallel : new int[] {1, 8}) {
                    run(engine, prompt, grammar, vocabulary, task, options.withParallel(parallel), draws, masking, positions, texts, rows);
                }
            }
        }
        report.add(new Report.Table("ASAp to a divergence of 1e-3 nats, " + bench.name(),
                "Draws are counted with the exact divergence at hand; then as many draws are timed with an empty trie, and each of them "
                        + "is evaluated once more from its prompt, one token after the other, as the method's reference program does.",
                List.of("task", "token sequences", "positions", "KL of masking alone", "draws", "at once", "rows", "rows per draw",
                        "first tenth", "last tenth", "seconds", "re-run rows", "re-run seconds", "rows saved", "time saved",
                        "KL after"), rows));
        report.save(chart, "asap-divergence");
    }

    /** Probabilities of strings, all of their tokenisations together: the sampler's as it is, or the target's. */
    private static Map<String, Double> byText(Target target, boolean sampler) {
        var p = new HashMap<String, Double>();
        for (var text : target.texts()) {
            p.merge(text.text(), Math.exp(sampler ? target.logProposal(text.tokens()) : text.logProposal()), Double::sum);
        }
        return p;
    }

    /** The most likely strings of the language under the model, by masking alone, and by ASAp after its draws. */
    private static void distributions(Task task, Target target, Map<String, Double> masking, Report report) throws IOException {
        var model = byText(target, false);
        var learned = byText(target, true);
        var texts = model.keySet().stream().sorted(Comparator.comparingDouble((String text) -> -Math.max(model.get(text),
                masking.get(text)))).limit(MOST_BARS).toList();
        var chart = new CategoryChartBuilder().width(1000).height(520).title("Probability of each text: "
                + task.name).yAxisTitle("probability").build();
        chart.getStyler().setXAxisLabelRotation(60);
        chart.addSeries("model, given the grammar", texts, texts.stream().map(model::get).toList());
        chart.addSeries("masking alone", texts, texts.stream().map(masking::get).toList());
        chart.addSeries("ASAp", texts, texts.stream().map(learned::get).toList());
        report.save(chart, "asap-" + task.name.replace(' ', '-'));
        report.add(new Report.Table("Probability of each text: " + task.name, String.format(Locale.ROOT,
                "Total variation from the model's distribution given the grammar: masking alone %.3f, ASAp %.4f.", distance(model, masking),
                        distance(model, learned)),
                List.of("text", "model, given the grammar", "masking alone", "ASAp"), texts.stream().map(text -> List.of("`" + text + "`",
                format(model.get(text)), format(masking.get(text)), format(learned.get(text)))).toList()));
    }

    private static double distance(Map<String, Double> a, Map<String, Double> b) {
        return a.keySet().stream().mapToDouble(text -> Math.abs(a.get(text) - b.get(text))).sum() / 2;
    }

    private static void run(Engine engine, int[] prompt, Grammar grammar, GrammarVocabulary vocabulary, Task task,
            AsapOptions options, int draws, double masking, int positions, int texts, List<List<String>> rows) {
        var drawn = new ArrayList<Draw>();
        long evaluated;
        long firstTenth = 0;
        long lastTenth = 0;
        double seconds;
        double after;
        try (var asap = Asap.open(engine, prompt, grammar.constraint(vocabulary), task.regex, options)) {
            long start = System.nanoTime();
            int tenth = Math.max(1, draws / 10);
            while (drawn.size() < draws) {
                int step = Math.min(drawn.size() % tenth == 0 ? tenth : tenth - drawn.size() % tenth, draws - drawn.size());
                long before = asap.stats().rows();
                drawn.addAll(asap.draw(step));
                lastTenth = asap.stats().rows() - before;
                firstTenth = firstTenth == 0 ? lastTenth : firstTenth;
            }
            seconds = (System.nanoTime() - start) * 1e-9;
            evaluated = asap.stats().rows();
            after = asap.enumerate(MOST_POSITIONS).divergence();
        }
        long again = 0;
        var row = engine.newRow();
        long start = System.nanoTime();
        int sample = Math.min(draws, 400);    // the cost of a re-run does not change: some of them tell
        for (int i = 0; i < sample; i++) {
            var draw = drawn.get(i * (draws / sample));
            try (var sequence = engine.newSequence()) {
                sequence.append(prompt, row);
                again += prompt.length;
                for (int t = 0; t < draw.tokens().length - 1; t++, again++) {
                    sequence.append(draw.tokens()[t], row);
                }
            }
        }
        double scale = draws / (double) sample;
        double rerun = (System.nanoTime() - start) * 1e-9 * scale;
        long rerunRows = Math.round(again * scale);
        var line = List.of(task.name + " `" + task.regex.replace("|", "\\|") + "`", Integer.toString(texts), Integer.toString(positions),
                format(masking),
                Integer.toString(draws), Integer.toString(options.parallel()), Long.toString(evaluated), format(evaluated / (double) draws),
                Long.toString(firstTenth), Long.toString(lastTenth), format(seconds), Long.toString(rerunRows), format(rerun),
                String.format(Locale.ROOT, "%.1f times", rerunRows / (double) evaluated), String.format(Locale.ROOT, "%.1f times",
                        rerun / seconds), format(after));
        System.out.println("  " + String.join(" | ", line));
        rows.add(line);
    }

    private static String format(double value) {
        return String.format(Locale.ROOT, "%.3g", value);
    }
}
