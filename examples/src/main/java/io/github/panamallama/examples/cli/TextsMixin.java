package io.github.panamallama.examples.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;

/** Texts that something is learned from. */
final class TextsMixin {
    @Parameters(paramLabel = "TEXT", arity = "1..*", description = "Files, or folders of them, like the texts to come.")
    private List<Path> files;

    @Option(names = "--suffix", paramLabel = ".EXT", description = "Which files of a folder. Default: ${DEFAULT-VALUE}.")
    private String suffix = ".java";

    /**
     * The files, and those in the folders that end as was asked, in the order of their paths.
     *
     * @throws CommandException   when one is missing
     * @throws ParameterException when there is none
     */
    List<Path> find(CommandLine command) throws IOException {
        var sources = new ArrayList<Path>();
        for (var file : files) {
            if (Files.isDirectory(file)) {
                try (var below = Files.walk(file)) {
                    below.filter(f -> f.toString().endsWith(suffix) && Files.isRegularFile(f)).sorted().forEach(sources::add);
                }
            } else if (Files.exists(file)) {
                sources.add(file);
            } else {
                throw new CommandException("no such file: " + file);
            }
        }
        if (sources.isEmpty()) {
            throw new ParameterException(command, "no file that ends with " + suffix + " in " + files.getFirst() + "; see --suffix");
        }
        return sources;
    }
}
