package io.github.panamallama.examples.cli;

import io.github.panamallama.layers.PrunedModel;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Writes a model that lacks the blocks which a plan leaves out. */
@Command(name = "prune", description = "Write a model (GGUF) that lacks the blocks which --layers leaves out.")
final class LayersPruneCommand implements Callable<Integer> {
    @ParentCommand
    private LayersCommand parent;

    @Spec
    private CommandSpec spec;

    @Parameters(paramLabel = "OUT", description = "The file to write; one that is there is refused.")
    private Path out;

    @Mixin
    private ModelMixin model;

    @Mixin
    private LayersMixin layers;

    @Override
    public Integer call() {
        layers.checkPlan(spec.commandLine());
        var main = parent.main();
        try (var loaded = model.load(main)) {
            var plan = layers.plan(spec.commandLine(), loaded);
            if (plan == null) {
                throw new ParameterException(spec.commandLine(), "--layers is needed: which blocks stay");
            }
            PrunedModel.write(model.path(), plan, out);
            main.shell().note("written to " + out);
        }
        return Main.OK;
    }
}
