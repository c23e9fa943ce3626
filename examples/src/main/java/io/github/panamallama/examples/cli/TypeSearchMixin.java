package io.github.panamallama.examples.cli;

import io.github.panamallama.quantization.TypeSearch;
import io.github.panamallama.quantization.TypeSearch.Resources;
import io.github.panamallama.runtime.search.Stage;
import java.nio.file.Files;
import java.nio.file.Path;
import picocli.CommandLine;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/** How types are searched. */
final class TypeSearchMixin {
    @Option(names = "--generations", paramLabel = "N", description = "Generations of the search. Default: ${DEFAULT-VALUE}.")
    private int generations = 60;

    @Option(names = "--offspring", paramLabel = "N", description = "Candidates of each generation. Default: ${DEFAULT-VALUE}.")
    private int offspring = 16;

    @Option(names = "--tokens", paramLabel = "N",
            description = "Tokens that the best of each generation are tried on, and all on an eighth of them. Default: ${DEFAULT-VALUE}.")
    private int tokens = 4096;

    @Option(names = {"-s", "--seed"}, paramLabel = "N", description = "Default: ${DEFAULT-VALUE}.")
    private long seed = 1;

    @Option(names = "--scratch", paramLabel = "DIR",
            description = "A folder with room for the matrices in every type. Without it: that for temporary files.")
    private Path scratch;

    /** @throws ParameterException when a value is out of range */
    TypeSearch of(CommandLine command, TypeSearch search) {
        try {
            return search.withGenerations(generations).withOffspring(offspring).withSeed(seed)
                    .withStages(new Stage(4, Math.ceilDiv(tokens, 8)), new Stage(1, tokens));
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, e.getMessage());
        }
    }

    Resources resources(Main main, int threads) {
        var usual = Resources.usual();
        if (scratch != null && !Files.isDirectory(scratch)) {
            throw new CommandException("--scratch: there is no folder " + scratch);
        }
        return new Resources(threads, usual.gramMemory(), usual.logitMemory(), scratch == null ? usual.folder() : scratch,
                CalibrationMixin.progress(main));
    }
}
