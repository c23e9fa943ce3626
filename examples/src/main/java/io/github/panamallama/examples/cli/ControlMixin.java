package io.github.panamallama.examples.cli;

import io.github.panamallama.LlamaOptions;
import io.github.panamallama.runtime.ControlVector;
import io.github.panamallama.runtime.Model;
import java.util.List;
import java.util.regex.Pattern;
import picocli.CommandLine;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/** Which directions are added to the outputs of the model's blocks. */
final class ControlMixin {
    private static final Pattern LAYERS = Pattern.compile("(\\d{1,4})-(\\d{1,4})");

    @Option(names = "--control-vector", paramLabel = "FILE[:SCALE]",
            description = "A control vector (GGUF) of the model; a negative SCALE turns it round. May be repeated: they are summed.")
    private List<String> texts = List.of();

    @Option(names = "--control-vector-layers", paramLabel = "A-B", description = "The blocks it is added to. Without it: all but the first.")
    private String layers;

    /** @throws ParameterException what can be seen without the model, before that is loaded */
    LlamaOptions with(CommandLine command, LlamaOptions options) {
        if (texts.isEmpty()) {
            if (layers != null) {
                throw new ParameterException(command, "--control-vector-layers needs --control-vector");
            }
            return options;
        }
        if (layers != null && !LAYERS.matcher(layers).matches()) {
            throw new ParameterException(command, "--control-vector-layers is '" + layers + "'; it must be like 4-12");
        }
        try {
            var choices = AdapterChoice.parse(texts, "control vector");
            return options.withControl(model -> vector(command, model, choices));
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, "--control-vector: " + e.getMessage());
        }
    }

    private ControlVector vector(CommandLine command, Model model, List<AdapterChoice> choices) {
        try {
            var sum = choices.stream().map(choice -> ControlVector.load(model, choice.file()).times(choice.scale()))
                    .reduce(ControlVector::plus).orElseThrow();
            var range = LAYERS.matcher(layers == null ? "" : layers);
            return range.matches() ? sum.withLayers(Integer.parseInt(range.group(1)), Integer.parseInt(range.group(2))) : sum;
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, "--control-vector: " + e.getMessage());
        }
    }
}
