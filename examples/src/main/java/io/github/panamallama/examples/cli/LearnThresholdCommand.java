package io.github.panamallama.examples.cli;

import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.sampling.strategy.EntropyThreshold;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Learns from source files where a model's best guess tends to be wrong, for the strategy that looks ahead there. */
@Command(
        name = "learn-threshold",
        description = {
            "Learn from source files at which entropy the model's best guess tends to be wrong, and keep it for '--strategy adadec'.",
            "",
            "Files that the model has not seen in training give the honest figure.",
        })
final class LearnThresholdCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Mixin
    private TextsMixin input;

    @Option(names = "--thresholds", paramLabel = "FILE",
            description = "Where to keep it, among those of other models. Without it: in the cache folder.")
    private Path thresholds;

    @Option(names = {"-s", "--seed"}, paramLabel = "N", description = "Seed of the choice of positions. Default: ${DEFAULT-VALUE}.")
    private long seed = 1;

    @Option(names = "--json", description = "As JSON.")
    private boolean json;

    @Mixin
    private ModelMixin model;

    @Mixin
    private EngineMixin engine;

    /** Where thresholds are kept if nobody says otherwise. */
    static Path usualFile() {
        return DefaultModel.cacheFolder().resolve("thresholds.json");
    }

    @Override
    public Integer call() throws IOException {
        var sources = input.find(spec.commandLine());
        var file = thresholds == null ? usualFile() : thresholds;
        if (Files.isDirectory(file)) {
            throw new CommandException(file + " is a directory; --thresholds needs a file");
        }
        var options = engine.options(spec.commandLine());
        try (var loaded = model.load(main, options); var opened = Engine.open(loaded, options)) {
            Iterable<int[]> texts = () -> new Iterator<>() {
                private final Iterator<Path> rest = sources.iterator();
                private int done;

                @Override
                public boolean hasNext() {
                    return rest.hasNext() && !main.interrupts().raised();
                }

                @Override
                public int[] next() {
                    if (main.shell().interactive()) {
                        main.shell().err().print("\rfile " + ++done + " of " + sources.size());
                    }
                    return loaded.vocabulary().tokenize(Sources.read(rest.next()), true, false);
                }
            };
            var learned = EntropyThreshold.learn(opened, texts, seed);
            if (main.shell().interactive()) {
                main.shell().err().println();
            }
            if (main.interrupts().raised()) {
                return Main.INTERRUPTED;
            }
            Files.createDirectories(file.toAbsolutePath().getParent());
            learned.store(file, loaded);
            if (json) {
                var document = new LinkedHashMap<String, Object>();
                document.put("model", model.path().toString());
                document.put("threshold_nats", learned.threshold());
                document.put("intercept", learned.intercept());
                document.put("slope", learned.slope());
                document.put("cut", learned.cut());
                document.put("accuracy", learned.accuracy());
                document.put("positions", learned.positions());
                document.put("files", sources.size());
                document.put("stored_in", file.toString());
                main.shell().println(Json.write(document));
            } else {
                main.shell().println(String.format(Locale.ROOT,
                        "%.4f nats; tells right from wrong guesses at %.1f %% of the held-out positions (%d used, %d files)",
                        learned.threshold(), 100 * learned.accuracy(), learned.positions(), sources.size()));
                main.shell().note("kept in " + file);
            }
            return Main.OK;
        }
    }
}
