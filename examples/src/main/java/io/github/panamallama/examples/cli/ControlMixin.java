package io.github.panamallama.examples.cli;

import io.github.panamallama.ControlFiles;
import io.github.panamallama.LlamaOptions;
import io.github.panamallama.runtime.ControlVector;
import io.github.panamallama.runtime.Model;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
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

    @Option(names = "--control-vector-layers", paramLabel = "A-B",
            description = "The blocks it is added to. Without it: all but the first.")
    private String layers;

    /**
     * The files and blocks that are named; null for none.
     *
     * @throws ParameterException what can be seen without the model, before that is loaded
     */
    ControlFiles files(CommandLine command) {
        if (texts.isEmpty()) {
            if (layers != null) {
                throw new ParameterException(command, "--control-vector-layers needs --control-vector");
            }
            return null;
        }
        var range = LAYERS.matcher(layers == null ? "" : layers);
        if (layers != null && !range.matches()) {
            throw new ParameterException(command, "--control-vector-layers is '" + layers + "'; it must be like 4-12");
        }
        try {
            var files = new ControlFiles(AdapterChoice.parse(texts, "control vector").stream()
                    .map(choice -> new ControlFiles.Scaled(choice.file(), choice.scale())).toList(), 0, 0);
            return layers == null ? files : files.withLayers(Integer.parseInt(range.group(1)), Integer.parseInt(range.group(2)));
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, "--control-vector: " + e.getMessage());
        }
    }

    /** Options with what is named; throws as {@link #files}. */
    LlamaOptions with(CommandLine command, LlamaOptions options) {
        var files = files(command);
        return files == null ? options : options.withControl(model -> vector(command, files, model));
    }

    /**
     * What is named, for a model.
     *
     * @param files of {@link #files}; null for none
     * @return null for none
     */
    static ControlVector vector(CommandLine command, ControlFiles files, Model model) {
        try {
            return files == null ? null : files.apply(model);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, "--control-vector: " + e.getMessage());
        }
    }

    /** For a JSON document. */
    static List<Map<String, Object>> describe(ControlFiles files) {
        return files == null ? List.of() : files.files().stream().map(one -> {
            Map<String, Object> described = new LinkedHashMap<>();
            described.put("file", one.file().toString());
            described.put("scale", one.scale());
            if (files.first() > 0) {
                described.put("layers", files.first() + "-" + files.last());
            }
            return described;
        }).toList();
    }
}
