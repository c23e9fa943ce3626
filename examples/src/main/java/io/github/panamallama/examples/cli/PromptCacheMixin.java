package io.github.panamallama.examples.cli;

import io.github.panamallama.GenerationOptions;
import java.nio.file.Files;
import java.nio.file.Path;
import picocli.CommandLine.Option;

/** Where evaluated prompts are kept from one call to the next. */
final class PromptCacheMixin {
    @Option(names = "--prompt-cache", paramLabel = "FILE",
            description = "Keep the evaluated prompt in this file; a later call evaluates only "
            + "where its prompt goes on or differs. For one model, adapters and layers.")
    private Path file;

    boolean asked() {
        return file != null;
    }

    /** @throws CommandException when there is no folder for the file */
    GenerationOptions with(GenerationOptions options) {
        if (file != null && !Files.isDirectory(file.toAbsolutePath().getParent())) {
            throw new CommandException("--prompt-cache: no such folder: " + file.toAbsolutePath().getParent());
        }
        return options.withPromptCache(file);
    }
}
