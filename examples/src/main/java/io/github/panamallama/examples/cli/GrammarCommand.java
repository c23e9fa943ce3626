package io.github.panamallama.examples.cli;

import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** What can be done with a grammar without a model. */
@Command(name = "grammar", description = "Look at grammars without a model.", subcommands = GrammarCheckCommand.class,
        synopsisSubcommandLabel = "COMMAND")
final class GrammarCommand implements Runnable {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    Main main() {
        return main;
    }

    @Override
    public void run() {
        throw new ParameterException(spec.commandLine(), "a command is needed: check");
    }
}
