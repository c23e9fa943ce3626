package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterSet;
import java.nio.file.Path;
import java.util.List;
import java.util.function.Function;
import picocli.CommandLine;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/** Which LoRA adapters the model is asked under. */
final class AdapterMixin {
    @Option(names = "--adapter", paramLabel = "FILE[:SCALE]",
            description = "A LoRA adapter (GGUF) of the model; SCALE 1 is as it was trained. May be repeated: what they add is summed.")
    private List<String> texts = List.of();

    /** Refuses what can be seen without the model, before that is loaded. */
    List<AdapterChoice> check(CommandLine command) {
        try {
            return AdapterChoice.parse(texts);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, "--adapter: " + e.getMessage());
        }
    }

    /** The set that was asked for; {@code load} loads a file for the model. */
    AdapterSet set(CommandLine command, Function<Path, Adapter> load) {
        var choices = check(command);
        try {
            return AdapterChoice.set(choices, load);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, "--adapter: " + e.getMessage());
        }
    }
}
