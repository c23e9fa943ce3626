package io.github.panamallama.examples.cli;

import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Says whether a grammar is good, and whether a text belongs to it. */
@Command(
        name = "check",
        description = {
            "Say whether a grammar, a JSON Schema or a regular expression is good, or what is wrong with it and where; and whether it "
                    + "accepts a text.",
            "",
            "Exit codes: 0 it is good, and accepts the text if there is one; 1 it is not, or does not.",
        })
final class GrammarCheckCommand implements Callable<Integer> {
    /** Notations. */
    enum Type { GBNF, JSON_SCHEMA, REGEX }

    @ParentCommand
    private GrammarCommand parent;

    @Spec
    private CommandSpec spec;

    @Parameters(paramLabel = "FILE", description = "A grammar (.gbnf) or a JSON Schema (.json).")
    private Path file;

    @Option(names = "--type", paramLabel = "gbnf|json-schema|regex", description = "What the file is, where its name doesn't tell.")
    private String typeName;

    @Option(names = "--accept", paramLabel = "TEXT", description = "Also say whether this text belongs to the language.")
    private String accept;

    @Option(names = "--accept-file", paramLabel = "FILE", description = "The same for a file's text.")
    private Path acceptFile;

    @Option(names = "--any-order", description = "JSON Schema: properties in any order.")
    private boolean anyOrder;

    @Option(names = "--whitespace", paramLabel = "N", description = "JSON Schema: at most N blanks at each place. Default: none.")
    private Integer whitespace;

    @Option(names = "--formats", description = "JSON Schema: formats are enforced.")
    private boolean formats;

    @Option(names = "--json", description = "As JSON.")
    private boolean json;

    @Override
    public Integer call() {
        var main = parent.main();
        if (accept != null && acceptFile != null) {
            throw new ParameterException(spec.commandLine(), "--accept and --accept-file exclude each other");
        }
        var type = type();
        if (type != Type.JSON_SCHEMA && (anyOrder || whitespace != null || formats)) {
            throw new ParameterException(spec.commandLine(), "--any-order, --whitespace and --formats are for JSON Schema");
        }
        var options = GrammarMixin.jsonOptions(spec.commandLine(), anyOrder, whitespace, formats);
        var source = Sources.read(file);
        var document = new LinkedHashMap<String, Object>();
        document.put("file", file.toString());
        document.put("type", type.name().toLowerCase(Locale.ROOT).replace('_', '-'));
        Grammar grammar;
        try {
            grammar = switch (type) {
                case GBNF -> Grammar.gbnf(source);
                case JSON_SCHEMA -> Grammar.jsonSchema(source, options);
                case REGEX -> Grammar.regex(source.strip());
            };
        } catch (GrammarException e) {
            if (!json) {
                throw new CommandException(file + ": " + e.getMessage());
            }
            document.put("good", false);
            document.put("error", e.getMessage());
            if (e.line() > 0) {
                document.put("line", e.line());
                document.put("column", e.column());
            }
            if (e.pointer() != null) {
                document.put("pointer", e.pointer());
            }
            main.shell().println(Json.write(document));
            return Main.FAILURE;
        }
        document.put("good", true);
        var text = acceptFile != null ? Sources.read(acceptFile) : accept;
        boolean accepted = text == null || verdict(grammar, text, document);
        if (json) {
            main.shell().println(Json.write(document));
        } else if (text == null) {
            main.shell().println("good");
        } else {
            main.shell().println(accepted ? "accepted" : "refused: " + document.get("refused"));
        }
        return accepted ? Main.OK : Main.FAILURE;
    }

    private Type type() {
        var name = typeName != null ? typeName.toLowerCase(Locale.ROOT) : file.getFileName().toString().toLowerCase(Locale.ROOT);
        if (typeName == null) {
            name = name.endsWith(".gbnf") ? "gbnf" : name.endsWith(".json") ? "json-schema" : "";
        }
        return switch (name) {
            case "gbnf" -> Type.GBNF;
            case "json-schema" -> Type.JSON_SCHEMA;
            case "regex" -> Type.REGEX;
            default -> throw new ParameterException(spec.commandLine(), typeName == null
                    ? "the name of " + file + " doesn't tell what it is; give --type gbnf, json-schema or regex"
                    : "'" + typeName + "' is no type; the types are gbnf, json-schema and regex");
        };
    }

    /** Whether the text is accepted; if not, the document says where it stops to be. */
    private static boolean verdict(Grammar grammar, String text, LinkedHashMap<String, Object> document) {
        boolean accepted = grammar.accepts(text);
        document.put("accepted", accepted);
        if (accepted) {
            return true;
        }
        var bytes = text.getBytes(StandardCharsets.UTF_8);
        int good = grammar.prefix(bytes);
        document.put("byte", good);
        if (good == bytes.length) {
            document.put("refused", "it is a beginning of a text of the language, and not whole");
            return false;
        }
        // bytes of a character that is cut belong to it
        var before = new String(bytes, 0, good, StandardCharsets.UTF_8).replace("\uFFFD", "");
        int line = 1 + (int) before.chars().filter(c -> c == '\n').count();
        int column = 1 + before.codePointCount(before.lastIndexOf('\n') + 1, before.length());
        var rest = text.substring(Math.min(before.length(), text.length()));
        var found = rest.isEmpty() ? "" : InspectCommand.escape(rest.substring(0, rest.offsetByCodePoints(0, 1)));
        document.put("line", line);
        document.put("column", column);
        document.put("refused", "line " + line + ", column " + column + " (byte " + good + "): '" + found + "' can't stand there");
        return false;
    }
}
