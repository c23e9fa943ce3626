package io.github.panamallama.bench;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.knowm.xchart.XYChartBuilder;

class PageTest {
    private static final Pattern IMAGE = Pattern.compile("src=\"data:image/png;base64,([^\"]+)\"");

    @TempDir
    private Path folder;

    @Test
    void onePageHoldsTablesAndPlotsAndNeedsNothingElse() throws Exception {
        var report = new Report(folder, Map.of("command", "`bench/run <all>`"));
        report.add(new Comparison("decode", "a & b", "32 tokens", 2, "ours", "theirs", 0.99,
                List.of(new Comparison.Pair(90, 100, true), new Comparison.Pair(91, 100, false))));
        report.add(List.of(new Report.TokenCost("start", 700, Double.NaN, "ms", 600)));
        report.add(new Report.Table("Runtimes", "by `Maven`", List.of("runtime", "tokens/s"), List.of(List.of("<other>", "12.5"))));
        report.add(Report.Table.notMeasured("Memory", "no `/proc`."));
        report.add(new Report.Table("Bars", "", List.of("a|b"), List.of(List.of("c"))));
        var html = Files.readString(folder.resolve("report.html"));
        assertTrue(html.contains("<td><code>bench/run &lt;all&gt;</code></td>") && html.contains("a &amp; b"), html);
        assertTrue(html.contains("<td class=\"missed\">0.99: missed</td>") && html.contains("<td class=\"missed\">600: missed</td>"), html);
        assertTrue(html.contains("<td>&lt;other&gt;</td><td class=\"number\">12.5</td>") && html.contains("by <code>Maven</code>"), html);
        assertTrue(html.contains("<h2>Memory</h2>\n<p>Not measured: no <code>/proc</code>.</p>\n<h2>Bars</h2>"), html);
        assertTrue(report.markdown().contains("## Memory\n\nNot measured: no `/proc`.\n\n\n## Bars\n\n\n\n| a\\|b |\n| --- |\n| c |\n"),
                report.markdown());
        assertFalse(html.contains("http://") || html.contains("https://") || html.contains("<script"), "refers to something else");

        var image = IMAGE.matcher(html);
        assertTrue(image.find());
        var png = Base64.getDecoder().decode(image.group(1));
        assertEquals(900, ByteBuffer.wrap(png).getInt(16), "width in the image's header");
        assertArrayEquals(png, Files.readAllBytes(folder.resolve("decode.png")));
    }

    @Test
    void aReportTakesInTheTablesAndPlotsOfAnother() throws Exception {
        var other = Files.createDirectory(folder.resolve("soak"));
        var soak = new Report(other, Map.of("command", "`bench/run soak`"));
        soak.add(new Report.Table("Memory", "MiB.", List.of("part", "resident"), List.of(List.of("last third", "2300"))));
        var chart = new XYChartBuilder().width(300).height(200).build();
        chart.addSeries("rest", new double[] {1, 2}, new double[] {3, 4});
        soak.add(chart, "soak");

        var report = new Report(folder, Map.of("command", "`bench/report`"));
        report.include(other);
        assertTrue(Pattern.compile("\\n## Memory\\n\\nBy `bench/run soak` at 20\\S+Z\\. MiB\\.\\n\\n\\| part \\| resident \\|")
                .matcher(report.markdown()).find(), report.markdown());
        var image = IMAGE.matcher(Files.readString(folder.resolve("report.html")));
        assertTrue(image.find());
        assertArrayEquals(Files.readAllBytes(other.resolve("soak.png")), Base64.getDecoder().decode(image.group(1)));
    }

    @Test
    void aPartWithManyComparisonsHasAPlotForEachModel() throws Exception {
        var report = new Report(folder, Map.of());
        for (var model : List.of("1B", "3B")) {
            for (int i = 0; i < 8; i++) {
                report.add(new Comparison("types, decode", model, "32 tokens", 1 + i % 2, "s24_q4", "q" + i / 2, 0,
                        List.of(new Comparison.Pair(90, 100, true))));
            }
        }
        for (var name : List.of("types-decode-1B", "types-decode-3B")) {
            assertTrue(Files.exists(folder.resolve(name + ".png")), name);
        }
        assertFalse(Files.exists(folder.resolve("types-decode.png")), "left of when there were few");
        assertEquals(2, Files.readString(folder.resolve("report.html")).split("<figure>").length - 1);
    }

    @Test
    void plotsTellTheWorkOfEachWhereModelAndBaselineAreNotEnough() {
        assertEquals(List.of("a, x, search", "a, x, drafts", "b, x", "a, x, drafts (4)"), Report.seriesNames(List.of(
                comparison("a", "search"), comparison("a", "drafts"), comparison("b", "search"), comparison("a", "drafts"))));
    }

    private static Comparison comparison(String model, String work) {
        return new Comparison("strategies", model, work, 2, "ours", "x", 0, List.of(new Comparison.Pair(1, 1, true)));
    }

    @Test
    void aSingleBacktickIsOne() {
        assertEquals("a ` b", Page.escape("a ` b"));
        assertEquals("<code>a</code> &quot;b&quot;", Page.escape("`a` \"b\""));
    }
}
