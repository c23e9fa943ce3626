package io.github.panamallama.examples.cli;

import java.nio.file.Path;
import java.util.List;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.TypeConversionException;

/**
 * {@code ADAPTER[:SCALE]... OUT}, which picocli sees as one list.
 *
 * @param adapters at least one
 * @param out      the last argument
 */
record AdapterArguments(List<ScaledAdapter> adapters, Path out) {
    AdapterArguments(CommandSpec spec, List<String> arguments) {
        this(arguments.subList(0, arguments.size() - 1).stream().map(text -> adapter(spec, text)).toList(), Path.of(arguments.getLast()));
    }

    private static ScaledAdapter adapter(CommandSpec spec, String text) {
        try {
            return new ScaledAdapter.Converter().convert(text);
        } catch (TypeConversionException e) {
            throw new ParameterException(spec.commandLine(), e.getMessage());
        }
    }
}
