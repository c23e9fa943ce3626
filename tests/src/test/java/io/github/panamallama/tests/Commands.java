package io.github.panamallama.tests;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/** The command line as its users start it, in a process of its own. */
final class Commands {
    private static final String MAIN = "io.github.panamallama.examples.cli.Main";

    private Commands() {
    }

    static Project.Result run(String... arguments) throws IOException, InterruptedException {
        return runWithInput("", arguments);
    }

    static Project.Result runWithInput(String input, String... arguments) throws IOException, InterruptedException {
        return Project.java(MAIN, List.of(arguments), input);
    }

    /** With a limit on the size of files, beyond which writes fail as on a full disk. */
    static Project.Result runWithFilesBelow(int kilobytes, String... arguments) throws IOException, InterruptedException {
        var command = new ArrayList<>(List.of("bash", "-c", "ulimit -f " + kilobytes + " && exec \"$0\" \"$@\""));
        command.addAll(Project.javaCommand(MAIN, List.of(arguments)));
        return Project.run(command, "");
    }
}
