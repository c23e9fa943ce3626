package io.github.panamallama.examples.cli;

import io.github.panamallama.hub.Hub;
import picocli.CommandLine;
import picocli.CommandLine.ParameterException;

/** The hub, for commands whose environment is as much the user's as their arguments. */
final class Hubs {
    private Hubs() {
    }

    /** @throws ParameterException if HF_ENDPOINT or HF_TOKEN can't be right */
    static Hub open(CommandLine command) {
        try {
            return Hub.open();
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, e.getMessage());
        }
    }
}
