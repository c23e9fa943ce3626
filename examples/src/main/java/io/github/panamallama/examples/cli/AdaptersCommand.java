package io.github.panamallama.examples.cli;

import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** What can be done with files of LoRA adapters. */
@Command(name = "adapters", description = "Look at LoRA adapters, convert, merge, compare and add them.",
        subcommands = {AdaptersInspectCommand.class, AdaptersConvertCommand.class, AdaptersMergeCommand.class, AdaptersDiffCommand.class,
                AdaptersCombineCommand.class},
        synopsisSubcommandLabel = "COMMAND")
final class AdaptersCommand implements Runnable {
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
