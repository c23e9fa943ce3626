package io.github.panamallama.examples.cli;

import io.github.panamallama.adapters.AdapterDiff;
import io.github.panamallama.runtime.WholeFile;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.OptionalInt;
import org.knowm.xchart.BitmapEncoder;
import org.knowm.xchart.CategoryChartBuilder;
import org.knowm.xchart.style.Styler;

/** Bars of an adapter's norms: a group for each layer, a colour for each kind of matrix. */
final class DiffPlot {
    private static final int HEIGHT = 520;
    private static final int BAR_WIDTH = 9;
    private static final int MARGINS = 320;
    private static final int MAX_WIDTH = 6000;

    private DiffPlot() {
    }

    static void write(AdapterDiff diff, Path file) {
        // an operating system without a display still draws into memory
        System.setProperty("java.awt.headless", "true");
        boolean relative = diff.total().relative().isPresent();
        var groups = diff.layers().stream().map(layer -> group(layer.layer())).toList();
        var kinds = new LinkedHashMap<String, Map<String, Double>>();
        for (var matrix : diff.matrices()) {
            kinds.computeIfAbsent(matrix.kind(), kind -> new HashMap<>())
                    .put(group(matrix.layer()), relative ? 100 * matrix.relative().orElse(0) : matrix.norm());
        }

        int width = Math.clamp(MARGINS + (long) groups.size() * (kinds.size() + 1) * BAR_WIDTH, 900, MAX_WIDTH);
        var chart = new CategoryChartBuilder().width(width).height(HEIGHT).title("what " + diff.adapter() + " changes").xAxisTitle("layer")
                .yAxisTitle(relative ? "norm of the update, % of the matrix's norm" : "Frobenius norm of the update").build();
        chart.getStyler().setLegendPosition(Styler.LegendPosition.OutsideE);
        kinds.forEach((kind, norms) -> {
            var bars = new ArrayList<Double>();
            groups.forEach(group -> bars.add(norms.getOrDefault(group, 0.0)));
            chart.addSeries(kind, groups, bars);
        });
        WholeFile.write(file, "the plot", out -> BitmapEncoder.saveBitmap(chart, out, BitmapEncoder.BitmapFormat.PNG));
    }

    private static String group(OptionalInt layer) {
        return layer.isPresent() ? String.valueOf(layer.getAsInt()) : "other";
    }
}
