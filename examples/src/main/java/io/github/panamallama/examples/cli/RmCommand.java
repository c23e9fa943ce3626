package io.github.panamallama.examples.cli;

import io.github.panamallama.hub.Hub;
import io.github.panamallama.hub.HubModel;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;

/** Removes models that were pulled. */
@Command(name = "rm", description = "Remove models that were pulled.")
final class RmCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Parameters(paramLabel = "OWNER/REPOSITORY[:QUANT]", arity = "1..*", converter = HubName.class,
            description = "Without QUANT: all of the repository, unfinished files too.")
    private List<HubModel> models;

    @Override
    public Integer call() {
        for (var model : models) {
            main.shell().note(model + " removed, " + Units.bytes(Hub.open().remove(model)) + " are free");
        }
        return Main.OK;
    }
}
