package io.github.panamallama.examples.cli;

import io.github.panamallama.hub.Hub;
import io.github.panamallama.hub.HubException;
import io.github.panamallama.hub.HubModel;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/** A model as users name it: a file, or {@code owner/repository[:QUANT]} for one that was pulled. A file of such a name comes first. */
final class ModelFile implements ITypeConverter<Path> {
    @Override
    public Path convert(String text) {
        if (text.isBlank()) {
            throw new TypeConversionException("the name is empty; without this option the shipped model is taken");
        }
        try {
            if (Files.exists(Path.of(text)) || !HubModel.isName(text)) {
                return Path.of(text);
            }
        } catch (InvalidPathException e) {      // Windows allows no colon
            if (!HubModel.isName(text)) {
                return Main.path(text);     // says why
            }
        }
        try {
            return Hub.open().find(HubModel.parse(text)).path();
        } catch (HubException | IllegalArgumentException e) {
            throw new TypeConversionException("there is no file " + text + ", and " + e.getMessage() + " (panama-llama pull " + text + ")");
        }
    }
}
