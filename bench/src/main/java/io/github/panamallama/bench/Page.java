package io.github.panamallama.bench;

import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;

/**
 * The report as one HTML file that needs nothing else: tables, and the plots as images in the text.
 *
 * @param plots PNG images by the name under which they also stand beside the page
 */
record Page(Map<String, String> setting, List<Comparison> comparisons, List<Report.TokenCost> costs, List<Report.Table> tables,
        Map<String, byte[]> plots) {
    private static final String STYLE = """
            body { font: 15px/1.45 system-ui, sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 1em; color: #222 }
            table { border-collapse: collapse; margin: 1em 0 } th, td { border: 1px solid #ccc; padding: .25em .6em; text-align: left }
            td.number { text-align: right; font-variant-numeric: tabular-nums } th { background: #f2f2f2 } img { max-width: 100% }
            .missed { color: #b00020; font-weight: bold } code { background: #f5f5f5; padding: 0 .2em }""";

    String html() {
        var html = new StringBuilder("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")
                .append("<title>panama-llama: report</title>\n<style>\n").append(STYLE)
                .append("\n</style></head><body>\n<h1>panama-llama: report</h1>\n");
        html.append(table(List.of("setting", "value"),
                setting.entrySet().stream().map(entry -> List.of(entry.getKey(), entry.getValue())).toList()));
        if (!comparisons.isEmpty()) {
            html.append("<h2>Ratios</h2>\n<p>Tokens per second, medians over pairs measured in alternation. The ratio is the median of ")
                    .append("the pairs' ratios, ours to baseline; beside it the interval that holds its median.</p>\n");
            html.append(table(List.of("part", "model", "work", "threads", "ours", "baseline", "ours t/s", "baseline t/s", "ratio",
                    "interval", "pairs", "target"), comparisons.stream().map(Page::row).toList()));
        }
        if (!costs.isEmpty()) {
            html.append("<h2>Costs</h2>\n");
            html.append(table(List.of("what", "value", "unit", "limit"), costs.stream().map(Page::row).toList()));
        }
        for (var table : tables) {
            html.append("<h2>").append(escape(table.title())).append("</h2>\n<p>").append(escape(table.note())).append("</p>\n")
                    .append(table(table.columns(), table.rows()));
        }
        if (!plots.isEmpty()) {
            html.append("<h2>Plots</h2>\n");
        }
        plots.forEach((name, png) -> html.append("<figure><img alt=\"").append(escape(name)).append("\" src=\"data:image/png;base64,")
                .append(Base64.getEncoder().encodeToString(png)).append("\"></figure>\n"));
        return html.append("</body></html>\n").toString();
    }

    private static List<String> row(Comparison c) {
        var interval = c.interval();
        return List.of(c.part(), c.model(), c.work(), "" + c.threads(), c.ours(), c.baseline(), Report.rate(c.medianOurs()),
                Report.rate(c.medianBaseline()), format("%.4f", c.ratio()),
                format("%.4f to %.4f (%.1f %%)", interval.low(), interval.high(), 100 * interval.coverage()), "" + c.pairs().size(),
                Report.target(c.target(), c.reached()));
    }

    private static List<String> row(Report.TokenCost cost) {
        return List.of(cost.name(), format("%.2f", cost.value()), cost.unit(), Double.isInfinite(cost.limit()) ? "reported"
                : format("%.0f: ", cost.limit()) + (cost.reached() ? "kept" : "missed"));
    }

    private static String format(String format, Object... values) {
        return String.format(Locale.ROOT, format, values);
    }

    private static String table(List<String> columns, List<List<String>> rows) {
        if (columns.isEmpty()) {
            return "";
        }
        return "<table>\n<tr>" + columns.stream().map(column -> "<th>" + escape(column) + "</th>").collect(Collectors.joining()) + "</tr>\n"
                + rows.stream().map(row -> "<tr>" + row.stream().map(Page::cell).collect(Collectors.joining()) + "</tr>\n")
                        .collect(Collectors.joining()) + "</table>\n";
    }

    private static String cell(String text) {
        var kind = text.endsWith("missed") ? " class=\"missed\"" : text.matches("[-+]?[\\d.,]+") ? " class=\"number\"" : "";
        return "<td" + kind + ">" + escape(text) + "</td>";
    }

    /** Also what stands between backticks, as in the Markdown of the other report. */
    static String escape(String text) {
        var plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\"", "&quot;");
        var parts = plain.split("`", -1);
        if (parts.length % 2 == 0) {
            return plain;
        }
        for (int i = 1; i < parts.length; i += 2) {
            parts[i] = "<code>" + parts[i] + "</code>";
        }
        return String.join("", Arrays.asList(parts));
    }
}
