package io.github.panamallama.examples.cli;

/** A failure whose message is all that a user needs; ends the command with exit code 1. */
final class CommandException extends RuntimeException {
    private static final long serialVersionUID = 1;

    CommandException(String message) {
        super(message);
    }
}
