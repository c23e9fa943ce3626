package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.WholeFile;
import java.awt.Color;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.knowm.xchart.BitmapEncoder;
import org.knowm.xchart.HeatMapChartBuilder;

/** A heat map of what blocks do, token by token. */
final class LayersPlot {
    private static final int CELL = 5;
    private static final int MARGINS = 260;
    /** Few labels of the axis of tokens. */
    private static final int TICKS = 12;

    private LayersPlot() {
    }

    /** @param values {@code [block][token]}; the first token, whose values dwarf the others', is left out */
    static void write(String title, double[][] values, Path file) {
        System.setProperty("java.awt.headless", "true");    // an operating system without a display still draws into memory
        int tokens = values[0].length - 1;
        int width = Math.clamp(MARGINS + (long) tokens * CELL, 700, 3000);
        int height = Math.clamp(MARGINS + values.length * 22L, 420, 2000);
        var chart = new HeatMapChartBuilder().width(width).height(height).title("change of the residual stream, %, up to 100: " + title)
                .xAxisTitle("token").yAxisTitle("block").build();
        chart.getStyler().setRangeColors(new Color[] {new Color(0xf7fbff), new Color(0x6baed6), new Color(0x08306b)});
        chart.getStyler().setXAxisMaxLabelCount(TICKS);
        chart.getStyler().setPlotGridLinesVisible(false);
        var cells = new ArrayList<Number[]>();
        for (int block = 0; block < values.length; block++) {
            for (int token = 0; token < tokens; token++) {
                cells.add(new Number[] {token, block, Math.min(100, 100 * values[block][token + 1])});
            }
        }
        chart.addSeries("change", names(1, tokens), names(0, values.length), cells);
        WholeFile.write(file, "the plot", out -> BitmapEncoder.saveBitmap(chart, out, BitmapEncoder.BitmapFormat.PNG));
    }

    private static List<String> names(int from, int count) {
        return IntStream.range(from, from + count).mapToObj(String::valueOf).toList();
    }
}
