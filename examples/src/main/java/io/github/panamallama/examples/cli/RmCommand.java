package io.github.panamallama.examples.cli;

import io.github.panamallama.hub.HubModel;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Removes models that were pulled. */
@Command(name = "rm", description = "Remove models that were pulled.")
final class RmCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Parameters(paramLabel = "OWNER/REPOSITORY[:QUANT]", arity = "1..*", converter = HubName.class,
            description = "Without QUANT: all of the repository, unfinished files too.")
    private List<HubModel> models;

    @Override
    public Integer call() {
        var hub = Hubs.open(spec.commandLine());
        for (var model : models) {
            main.shell().note(model + " removed, " + Units.bytes(hub.remove(model)) + " are free");
        }
        return Main.OK;
    }
}
