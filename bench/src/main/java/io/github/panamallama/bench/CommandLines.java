package io.github.panamallama.bench;

import picocli.CommandLine;

/** How the programs of this module start: an error prints its stack trace, since who runs them works on this project. */
final class CommandLines {
    private CommandLines() {
    }

    /** Runs the command and ends the JVM: with what it returns, 1 after an error, 2 for wrong arguments. */
    static void run(Object command, String[] arguments) {
        System.exit(new CommandLine(command).setCaseInsensitiveEnumValuesAllowed(true)
                .setExecutionExceptionHandler((exception, line, result) -> {
                    exception.printStackTrace(line.getErr());
                    return 1;
                }).execute(arguments));
    }
}
