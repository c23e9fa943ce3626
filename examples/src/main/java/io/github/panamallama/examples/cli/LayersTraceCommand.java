package io.github.panamallama.examples.cli;

import io.github.panamallama.layers.Lac;
import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Tap;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** What each block does to the residual stream, token by token. */
@Command(name = "trace", description = {
        "What each block of a model does to the residual stream while it reads a text.",
        "",
        "norm: of the stream behind the block; change: of what the block adds, as a share of what it gets; turn: 1 - cosine between input",
        "and output (block influence); active: share of the tokens for which LAC finds the block active. Means over all tokens but",
        "the first."})
final class LayersTraceCommand implements Callable<Integer> {
    @ParentCommand
    private LayersCommand parent;

    @Spec
    private CommandSpec spec;

    @Parameters(paramLabel = "TEXT", description = "The text, a file.")
    private Path file;

    @Option(names = "--tokens", paramLabel = "N", description = "Most tokens of it that are read. Default: ${DEFAULT-VALUE}.")
    private int most = 256;

    @Option(names = "--alpha", paramLabel = "A",
            description = "LAC's threshold, a share of the range of growth in the blocks before. Default: ${DEFAULT-VALUE}.")
    private double alpha = Lac.DEFAULT_ALPHA;

    @Option(names = "--plot", paramLabel = "FILE.png", description = "Draw the change by block and token.")
    private Path plot;

    @Option(names = "--json", description = "As JSON.")
    private boolean json;

    @Mixin
    private ModelMixin model;

    @Mixin
    private EngineMixin engine;

    @Override
    public Integer call() {
        if (most < 2) {
            throw new ParameterException(spec.commandLine(), "--tokens is " + most + "; at least 2 are needed");
        }
        var lac = lac();
        var text = Sources.read(file);
        var main = parent.main();
        try (var loaded = model.load(main)) {
            var tokens = loaded.vocabulary().tokenize(text, true, false);
            if (tokens.length < 2) {
                throw new CommandException(file + " has " + tokens.length + " tokens; at least 2 are needed");
            }
            if (tokens.length > most) {
                main.shell().note("the first " + most + " of " + tokens.length + " tokens; --tokens takes more");
            }
            tokens = Arrays.copyOf(tokens, Math.min(most, tokens.length));
            var blocks = loaded.layerCount();
            var options = engine.options(spec.commandLine()).withMaxSequences(1);
            try (var opened = Engine.open(loaded, engine.givesContextSize() ? options : options.withContextSize(tokens.length))) {
                var trace = new Trace(blocks, tokens.length, lac);
                read(opened, tokens, trace);
                main.shell().println(json ? Json.write(trace.document(tokens)) : trace.table());
                if (plot != null) {
                    LayersPlot.write(loaded.description() + ", " + file.getFileName(), trace.changes, plot);
                    main.shell().note("drawn in " + plot);
                }
            }
        }
        return Main.OK;
    }

    private Lac lac() {
        try {
            return new Lac(alpha);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(spec.commandLine(), "--alpha: " + e.getMessage());
        }
    }

    /** With the logits behind each token: the last block evaluates only such tokens. */
    private static void read(Engine engine, int[] tokens, Trace trace) {
        try (var sequence = engine.newSequence()) {
            sequence.tap(Tap.norms(), trace::add);
            var rows = new Row[32];
            Arrays.setAll(rows, i -> engine.newRow());
            for (int at = 0; at < tokens.length; at += rows.length) {
                int count = Math.min(rows.length, tokens.length - at);
                engine.decode(Append.all(sequence, Arrays.copyOfRange(tokens, at, at + count), Arrays.copyOf(rows, count)));
            }
        }
    }

    /** Of all tokens; {@code [block][position]}. */
    private static final class Trace {
        private final double[][] norms;
        private final double[][] changes;
        private final double[][] turns;
        private final double[][] active;
        private final Lac lac;

        Trace(int blocks, int tokens, Lac lac) {
            norms = new double[blocks][tokens];
            changes = new double[blocks][tokens];
            turns = new double[blocks][tokens];
            active = new double[blocks][tokens];
            this.lac = lac;
        }

        void add(Tap.Reading reading) {
            int position = reading.position();
            var stream = new double[norms.length + 1];
            stream[0] = reading.norm(-1);
            for (int block = 0; block < norms.length; block++) {
                stream[block + 1] = reading.norm(block);
                norms[block][position] = stream[block + 1];
                changes[block][position] = reading.difference(block) / stream[block];
                turns[block][position] = 1 - reading.cosine(block);
            }
            var flags = lac.judge(position, stream);
            for (int block = 0; block < norms.length; block++) {
                active[block][position] = flags.active(block) ? 1 : 0;
            }
        }

        private static double mean(double[] values) {
            return Arrays.stream(values, 1, values.length).average().orElseThrow();
        }

        String table() {
            var lines = new ArrayList<String>();
            lines.add("block        norm    change      turn    active");
            for (int block = 0; block < norms.length; block++) {
                lines.add(String.format(Locale.ROOT, "%5d  %10.4g  %7.1f %%  %8.4f  %6.1f %%", block, mean(norms[block]),
                        100 * mean(changes[block]), mean(turns[block]), 100 * mean(active[block])));
            }
            return String.join("\n", lines);
        }

        Object document(int[] tokens) {
            var document = new LinkedHashMap<String, Object>();
            document.put("alpha", lac.alpha());
            document.put("tokens", tokens);
            document.put("blocks", IntStream.range(0, norms.length).mapToObj(block -> {
                var fields = new LinkedHashMap<String, Object>();
                fields.put("block", block);
                fields.put("norm", mean(norms[block]));
                fields.put("change", mean(changes[block]));
                fields.put("turn", mean(turns[block]));
                fields.put("active", mean(active[block]));
                fields.put("norms", norms[block]);
                fields.put("changes", changes[block]);
                fields.put("turns", turns[block]);
                fields.put("flags", Arrays.stream(active[block]).mapToObj(flag -> flag > 0).toList());
                return fields;
            }).toList());
            return document;
        }
    }
}
