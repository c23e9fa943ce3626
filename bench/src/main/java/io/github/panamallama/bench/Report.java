package io.github.panamallama.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;
import org.knowm.xchart.BitmapEncoder;
import org.knowm.xchart.XYChartBuilder;
import org.knowm.xchart.XYSeries;
import org.knowm.xchart.internal.chartpart.Chart;
import org.knowm.xchart.style.Styler;
import org.knowm.xchart.style.markers.SeriesMarkers;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.SerializationFeature;

/**
 * Writes what was measured: {@code report.html} with tables and plots in one file, {@code report.md}, {@code report.json} with every
 * single pair, one plot of the ratios per part, or per part and model. Rewritten after each comparison, so that a run that is stopped
 * leaves what it had.
 */
final class Report {
    private static final JsonMapper JSON = JsonMapper.builder().enable(SerializationFeature.INDENT_OUTPUT).build();
    /** Of one plot; a part with more has a plot for each model. */
    private static final int MOST_SERIES = 12;

    private final Path folder;
    private final Map<String, String> setting;
    private final List<Comparison> comparisons = new ArrayList<>();
    private final List<TokenCost> costs = new ArrayList<>();
    private final List<Table> tables = new ArrayList<>();
    private final Map<String, byte[]> plots = new LinkedHashMap<>();

    /**
     * What one token costs outside of evaluation, or a start.
     *
     * @param limit most that it may be, in the same unit
     * @param error half width of JMH's interval (99.9 %), or NaN
     */
    record TokenCost(String name, double value, double error, String unit, double limit) {
        boolean reached() {
            return value <= limit;
        }
    }

    /** Figures that are no comparison of rates. */
    record Table(String title, String note, List<String> columns, List<List<String>> rows) {
        Table {
            rows = List.copyOf(rows);
        }

        static Table notMeasured(String title, String why) {
            return new Table(title, "Not measured: " + why, List.of(), List.of());
        }
    }

    /** @param setting what a reader needs to know first: machine, Java, build flags */
    Report(Path folder, Map<String, String> setting) throws IOException {
        this.folder = Files.createDirectories(folder);
        this.setting = new LinkedHashMap<>(setting);
    }

    void add(Comparison comparison) throws IOException {
        comparisons.add(comparison);
        write();
    }

    void add(List<TokenCost> more) throws IOException {
        costs.addAll(more);
        write();
    }

    void add(Table table) throws IOException {
        tables.add(table);
        write();
    }

    /** Keeps a plot beside the report and on its page. */
    void save(Chart<?, ?> chart, String name) throws IOException {
        var png = BitmapEncoder.getBitmapBytes(chart, BitmapEncoder.BitmapFormat.PNG);
        Files.write(folder.resolve(name + ".png"), png);
        plots.put(name, png);
    }

    /** Keeps a plot, and writes the page that shows it. */
    void add(Chart<?, ?> chart, String name) throws IOException {
        save(chart, name);
        write();
    }

    /** Takes in the tables and plots of another report, and says when and by which command they were made. */
    void include(Path other) throws IOException {
        var file = other.resolve("report.json");
        var root = JSON.readTree(Files.readString(file));
        var origin = String.format(Locale.ROOT, "By %s at %s. ", root.at("/setting/command").stringValue(),
                Files.getLastModifiedTime(file).toInstant().truncatedTo(ChronoUnit.SECONDS));
        for (var node : root.path("tables")) {
            var table = JSON.treeToValue(node, Table.class);
            tables.add(new Table(table.title(), origin + table.note(), table.columns(), table.rows()));
        }
        try (var list = Files.newDirectoryStream(other, "*.png")) {
            for (var plot : list) {
                plots.put(plot.getFileName().toString().replaceAll("\\.png$", ""), Files.readAllBytes(plot));
            }
        }
        write();
    }

    /** Whether every target was reached. */
    boolean reached() {
        return comparisons.stream().allMatch(Comparison::reached) && costs.stream().allMatch(TokenCost::reached);
    }

    String markdown() {
        var text = new StringBuilder("# panama-llama: report\n\n");
        setting.forEach((name, value) -> text.append("* ").append(name).append(": ").append(value).append('\n'));
        if (!comparisons.isEmpty()) {
            text.append("""

                    Tokens per second, medians over pairs measured in alternation; the ratio is the median of the pairs' ratios, \
                    ours to baseline, beside it the interval that holds its median.

                    | part | model | work | threads | ours | baseline | ours t/s | baseline t/s | ratio | interval | pairs | target |
                    | --- | --- | --- | ---: | --- | --- | ---: | ---: | ---: | --- | ---: | --- |
                    """);
        }
        for (var c : comparisons) {
            var interval = c.interval();
            text.append(String.format(Locale.ROOT,
                    "| %s | %s | %s | %d | %s | %s | %s | %s | %.4f | %.4f to %.4f (%.1f %%) | %d | %s |%n",
                    c.part(), c.model(), c.work(), c.threads(), c.ours(), c.baseline(), rate(c.medianOurs()),
                    rate(c.medianBaseline()), c.ratio(), interval.low(), interval.high(), 100 * interval.coverage(),
                    c.pairs().size(), target(c.target(), c.reached())));
        }
        if (!costs.isEmpty()) {
            text.append("""

                    ## Costs

                    | what | value | limit |
                    | --- | ---: | --- |
                    """);
        }
        for (var cost : costs) {
            text.append(String.format(Locale.ROOT, "| %s | %.2f%s %s | %s |%n", cost.name(), cost.value(),
                    Double.isNaN(cost.error()) ? "" : String.format(Locale.ROOT, " ± %.2f", cost.error()), cost.unit(),
                    Double.isInfinite(cost.limit()) ? "reported"
                            : String.format(Locale.ROOT, "%.0f: %s", cost.limit(), cost.reached() ? "kept" : "missed")));
        }
        for (var table : tables) {
            text.append("\n## ").append(table.title()).append("\n\n").append(table.note()).append("\n\n");
            if (!table.columns().isEmpty()) {
                text.append(line(table.columns())).append("| --- ".repeat(table.columns().size())).append("|\n");
            }
            table.rows().forEach(row -> text.append(line(row)));
        }
        return text.toString();
    }

    private static String line(List<String> cells) {
        return cells.stream().map(cell -> cell.replace("|", "\\|")).collect(Collectors.joining(" | ", "| ", " |\n"));
    }

    static String target(double target, boolean reached) {
        return target == 0 ? "reported" : String.format(Locale.ROOT, "%.2f: %s", target, reached ? "reached" : "missed");
    }

    static String rate(double tokensPerSecond) {
        return String.format(Locale.ROOT, tokensPerSecond < 100 ? "%.2f" : "%.1f", tokensPerSecond);
    }

    private void write() throws IOException {
        Files.writeString(folder.resolve("report.md"), markdown());
        Files.writeString(folder.resolve("report.json"), JSON.writeValueAsString(Map.of(
                "setting", setting,
                "comparisons", comparisons.stream().map(Report::fields).toList(),
                "costs", costs.stream().map(Report::fields).toList(),
                "tables", tables)));
        var parts = new LinkedHashMap<String, List<Comparison>>();
        comparisons.forEach(c -> parts.computeIfAbsent(c.part(), key -> new ArrayList<>()).add(c));
        for (var part : parts.entrySet()) {
            var models = new LinkedHashMap<String, List<Comparison>>();
            part.getValue().forEach(c -> models.computeIfAbsent(c.model(), key -> new ArrayList<>()).add(c));
            if (part.getValue().size() <= MOST_SERIES || models.size() == 1) {
                plot(part.getKey(), part.getValue());
                continue;
            }
            plots.remove(fileName(part.getKey()));
            Files.deleteIfExists(folder.resolve(fileName(part.getKey()) + ".png"));
            for (var model : models.entrySet()) {
                plot(part.getKey() + ", " + model.getKey(), model.getValue());
            }
        }
        Files.writeString(folder.resolve("report.html"), new Page(setting, comparisons, costs, tables, plots).html());
    }

    private static Map<String, Object> fields(Comparison c) {
        var fields = new LinkedHashMap<String, Object>();
        fields.put("part", c.part());
        fields.put("model", c.model());
        fields.put("work", c.work());
        fields.put("threads", c.threads());
        fields.put("ours", c.ours());
        fields.put("baseline", c.baseline());
        fields.put("target", c.target());
        fields.put("median_ours_ts", c.medianOurs());
        fields.put("median_baseline_ts", c.medianBaseline());
        fields.put("ratio", c.ratio());
        fields.put("interval", c.interval());
        fields.put("pairs", c.pairs());
        return fields;
    }

    /** JSON has no infinity and no NaN: what is only reported has no limit there. */
    private static Map<String, Object> fields(TokenCost cost) {
        var fields = new LinkedHashMap<String, Object>();
        fields.put("name", cost.name());
        fields.put("value", cost.value());
        fields.put("unit", cost.unit());
        if (!Double.isNaN(cost.error())) {
            fields.put("error", cost.error());
        }
        if (!Double.isInfinite(cost.limit())) {
            fields.put("limit", cost.limit());
        }
        return fields;
    }

    private static String fileName(String part) {
        return part.replaceAll("[^a-zA-Z0-9]+", "-");
    }

    private static String title(String part, List<Comparison> shown) {
        var models = shown.stream().map(Comparison::model).distinct().toList();
        return part + (models.size() > 1 || part.endsWith(models.getFirst()) ? "" : ", " + models.getFirst())
                + ": ours / baseline, pair by pair";
    }

    /** What tells the comparisons of a plot apart: their models and threads where there are several, the work where that is not enough. */
    static List<String> seriesNames(List<Comparison> shown) {
        var models = shown.stream().map(Comparison::model).distinct().count();
        var threads = shown.stream().map(Comparison::threads).distinct().count();
        var names = shown.stream().map(c -> (models > 1 ? c.model() + ", " : "") + c.baseline()
                + (threads > 1 ? ", " + c.threads() + (c.threads() == 1 ? " thread" : " threads") : "")).toList();
        var full = new ArrayList<String>();
        for (int i = 0; i < names.size(); i++) {
            var name = Collections.frequency(names, names.get(i)) > 1 ? names.get(i) + ", " + shown.get(i).work() : names.get(i);
            full.add(full.contains(name) ? name + " (" + (i + 1) + ")" : name);
        }
        return full;
    }

    private void plot(String part, List<Comparison> shown) throws IOException {
        // the legend is below: long names beside it would leave the plot half of the page
        var chart = new XYChartBuilder().width(900).height(440 + 24 * shown.size()).title(title(part, shown))
                .xAxisTitle("pair").yAxisTitle("ratio").build();
        chart.getStyler().setLegendPosition(Styler.LegendPosition.OutsideS).setLegendLayout(Styler.LegendLayout.Vertical);
        var names = seriesNames(shown);
        int longest = 1;
        for (int k = 0; k < shown.size(); k++) {
            var c = shown.get(k);
            var ratios = c.pairs().stream().mapToDouble(Comparison.Pair::ratio).toArray();
            var index = new double[ratios.length];
            for (int i = 0; i < index.length; i++) {
                index[i] = i + 1;
            }
            chart.addSeries(names.get(k), index, ratios).setXYSeriesRenderStyle(XYSeries.XYSeriesRenderStyle.Scatter);
            longest = Math.max(longest, ratios.length);
        }
        for (double target : shown.stream().mapToDouble(Comparison::target).filter(target -> target > 0).distinct().toArray()) {
            chart.addSeries("target " + target, new double[] {1, longest}, new double[] {target, target})
                    .setXYSeriesRenderStyle(XYSeries.XYSeriesRenderStyle.Line).setMarker(SeriesMarkers.NONE);
        }
        save(chart, fileName(part));
    }
}
