package io.github.panamallama.examples.cli;

import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** What the blocks of a model do, and which of them a text can do without. */
@Command(name = "layers",
        description = "See what the blocks of a model do, find plans that leave some out, train routers, and write models without them.",
        subcommands = {LayersTraceCommand.class, LayersSearchCommand.class, LayersTrainRouterCommand.class,
                LayersPruneCommand.class},
        synopsisSubcommandLabel = "COMMAND")
final class LayersCommand implements Runnable {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    Main main() {
        return main;
    }

    @Override
    public void run() {
        throw new ParameterException(spec.commandLine(), "a command is needed: " + String.join(", ", spec.subcommands().keySet()));
    }
}
