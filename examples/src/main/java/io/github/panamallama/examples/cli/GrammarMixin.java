package io.github.panamallama.examples.cli;

import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarException;
import io.github.panamallama.sampling.grammar.JsonOptions;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.stream.Stream;
import picocli.CommandLine;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/** What the text has to satisfy. */
final class GrammarMixin {
    @Option(names = "--grammar", paramLabel = "FILE", description = "The text belongs to this grammar, in llama.cpp's notation (GBNF).")
    private Path gbnf;

    @Option(names = "--json-schema", paramLabel = "FILE", description = "The text is JSON that this JSON Schema allows.")
    private Path schema;

    @Option(names = "--regex", paramLabel = "REGEX", description = "The text as a whole matches this regular expression.")
    private String regex;

    @Option(names = "--choices", paramLabel = "A,B,...", split = ",", hideParamSyntax = true, description = "The text is one of these.")
    private List<String> choices;

    @Option(names = "--any-order", description = "With --json-schema: properties in any order. Without it: in the order of the schema.")
    private boolean anyOrder;

    @Option(names = "--whitespace", paramLabel = "N", description = "With --json-schema: at most N blanks at each place. Default: none.")
    private Integer whitespace;

    @Option(names = "--formats", description = "With --json-schema: formats such as date-time are enforced.")
    private boolean formats;

    /** Null if none was asked for. */
    Grammar grammar(CommandLine command) {
        long given = Stream.of(gbnf, schema, regex, choices).filter(Objects::nonNull).count();
        if (given > 1) {
            throw new ParameterException(command, "--grammar, --json-schema, --regex and --choices exclude each other");
        }
        if (schema == null && (anyOrder || whitespace != null || formats)) {
            throw new ParameterException(command, "--any-order, --whitespace and --formats are for --json-schema");
        }
        if (choices != null && choices.stream().allMatch(String::isEmpty)) {
            throw new ParameterException(command, "--choices holds no text; give at least one, separated by commas");
        }
        if (gbnf != null) {
            return read(gbnf, Grammar::gbnf);
        }
        if (schema != null) {
            var options = jsonOptions(command, anyOrder, whitespace, formats);
            return read(schema, text -> Grammar.jsonSchema(text, options));
        }
        if (regex != null) {
            return named("--regex", () -> Grammar.regex(regex));
        }
        return choices == null ? null : named("--choices", () -> Grammar.choices(choices));
    }

    static JsonOptions jsonOptions(CommandLine command, boolean anyOrder, Integer whitespace, boolean formats) {
        try {
            return JsonOptions.DEFAULT.order(anyOrder ? JsonOptions.Order.ANY : JsonOptions.Order.SCHEMA)
                    .spelling(JsonOptions.Spelling.SHORTEST).whitespace(whitespace == null ? 0 : whitespace).formats(formats);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, "--whitespace: " + e.getMessage());
        }
    }

    /** How a text is read as a grammar. */
    interface Reading {
        Grammar of(String text);
    }

    private interface Making {
        Grammar make();
    }

    /** @throws CommandException that begins with the file and the place in it */
    static Grammar read(Path file, Reading reading) {
        var text = Sources.read(file);
        return named(file.toString(), () -> reading.of(text));
    }

    private static Grammar named(String name, Making making) {
        try {
            return making.make();
        } catch (GrammarException e) {
            throw new CommandException(name + ": " + e.getMessage());
        }
    }
}
