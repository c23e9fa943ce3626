package io.github.panamallama.tests;

import java.io.IOException;
import java.util.List;

/** The command line as its users start it, in a process of its own. */
final class Commands {
    private Commands() {
    }

    static Project.Result run(String... arguments) throws IOException, InterruptedException {
        return runWithInput("", arguments);
    }

    static Project.Result runWithInput(String input, String... arguments) throws IOException, InterruptedException {
        return Project.java("io.github.panamallama.examples.cli.Main", List.of(arguments), input);
    }
}
