package io.github.panamallama.examples.cli;

import io.github.panamallama.adapters.AdapterDiff;
import io.github.panamallama.adapters.LoraWeights;
import io.github.panamallama.runtime.gguf.GgufFile;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;

/** Shows which matrices an adapter changes and by how much. */
@Command(name = "diff", description = "Show which matrices an adapter changes and by how much: the Frobenius norm of what it adds to each.")
final class AdaptersDiffCommand implements Callable<Integer> {
    @ParentCommand
    private AdaptersCommand parent;

    @Parameters(index = "0", paramLabel = "ADAPTER[:SCALE]", converter = ScaledAdapter.Converter.class,
            description = "A LoRA or NOLA adapter as GGUF file, with its scale (without it: 1).")
    private ScaledAdapter adapter;

    @Option(names = "--base", paramLabel = "BASE", converter = ModelFile.class,
            description = "The model: norms are then also shown relative to those of its matrices.")
    private Path base;

    @Option(names = "--plot", paramLabel = "FILE.png",
            description = "Draw the norms into this file, a bar for each matrix, layer by layer.")
    private Path plot;

    @Option(names = "--json", description = "Print JSON.")
    private boolean json;

    @Override
    public Integer call() throws Exception {
        var diff = base == null ? AdapterDiff.of(LoraWeights.read(adapter.file()), adapter.scale()) : withBase();
        if (plot != null) {
            DiffPlot.write(diff, plot);
        }
        var shell = parent.main().shell();
        shell.println(json ? Json.write(document(diff)) : table(diff));
        if (plot != null) {
            shell.note("plot written to " + plot);
        }
        return Main.OK;
    }

    private AdapterDiff withBase() {
        var parts = GgufFile.readParts(base);
        return AdapterDiff.of(LoraWeights.read(adapter.file(), parts), adapter.scale(), parts);
    }

    private static Map<String, Object> document(AdapterDiff diff) {
        var matrices = new ArrayList<Map<String, Object>>();
        for (var matrix : diff.matrices()) {
            var fields = new LinkedHashMap<String, Object>();
            fields.put("name", matrix.name());
            put(fields, "layer", matrix.layer());
            fields.put("kind", matrix.kind());
            fields.put("rank", matrix.rank());
            norms(fields, matrix.norm(), matrix.baseNorm(), matrix.relative());
            matrices.add(fields);
        }
        var document = new LinkedHashMap<String, Object>();
        document.put("adapter", diff.adapter());
        document.put("scale", diff.scale());
        document.put("matrices", matrices);
        document.put("layers", diff.layers().stream().map(AdaptersDiffCommand::document).toList());
        document.put("total", document(diff.total()));
        return document;
    }

    private static Map<String, Object> document(AdapterDiff.Layer layer) {
        var fields = new LinkedHashMap<String, Object>();
        put(fields, "layer", layer.layer());
        fields.put("matrices", layer.matrices());
        norms(fields, layer.norm(), layer.baseNorm(), layer.relative());
        return fields;
    }

    private static void norms(Map<String, Object> fields, double norm, OptionalDouble base, OptionalDouble relative) {
        fields.put("norm", norm);
        base.ifPresent(value -> fields.put("base_norm", value));
        relative.ifPresent(value -> fields.put("relative", value));
    }

    private static void put(Map<String, Object> fields, String name, OptionalInt value) {
        value.ifPresent(number -> fields.put(name, number));
    }

    private static String table(AdapterDiff diff) {
        boolean known = diff.total().baseNorm().isPresent();
        var rows = new ArrayList<List<String>>();
        rows.add(row("matrix", "rank", "norm", "base norm", "relative", known));
        diff.matrices().forEach(matrix -> rows.add(row(InspectCommand.escape(matrix.name()), "" + matrix.rank(), norm(matrix.norm()),
                norm(matrix.baseNorm()), percent(matrix.relative()), known)));
        rows.add(List.of());
        diff.layers().forEach(layer ->
                rows.add(row(layer.layer().isPresent() ? "layer " + layer.layer().getAsInt() : "outside of layers", "",
                norm(layer.norm()), norm(layer.baseNorm()), percent(layer.relative()), known)));
        var total = diff.total();
        rows.add(row("all", "", norm(total.norm()), norm(total.baseNorm()), percent(total.relative()), known));

        var out = new StringBuilder();
        for (var row : rows) {
            for (int i = 0; i < row.size(); i++) {
                int column = i;
                int width = rows.stream().filter(other -> !other.isEmpty()).mapToInt(other -> other.get(column).length()).max().orElse(0);
                var gap = " ".repeat(width - row.get(i).length());
                out.append(i == 0 ? row.get(i) + gap : "  " + gap + row.get(i));
            }
            out.append('\n');
        }
        return out.toString().stripTrailing();
    }

    private static List<String> row(String name, String rank, String norm, String baseNorm, String relative, boolean known) {
        return known ? List.of(name, rank, norm, baseNorm, relative) : List.of(name, rank, norm);
    }

    private static String norm(double value) {
        return String.format(Locale.ROOT, "%.4g", value);
    }

    private static String norm(OptionalDouble value) {
        return value.isPresent() ? norm(value.getAsDouble()) : "";
    }

    private static String percent(OptionalDouble value) {
        return value.isPresent() ? String.format(Locale.ROOT, "%.3f %%", 100 * value.getAsDouble()) : "";
    }
}
