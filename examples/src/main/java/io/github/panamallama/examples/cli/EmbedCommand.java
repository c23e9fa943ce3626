package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.Embedder;
import io.github.panamallama.runtime.EmbedderOptions;
import io.github.panamallama.runtime.EmbeddingException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Normalization;
import io.github.panamallama.runtime.Pooling;
import io.github.panamallama.runtime.Reranker;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.function.Function;
import picocli.CommandLine.Command;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

/** Vectors of texts, or scores of texts as answers to a query. */
@Command(
        name = "embed",
        description = {
            "Turn texts into vectors with an embedding model, or rank them with a reranker.",
            "",
            "Each line of the files, or of standard input, is a text; blank ones are left out. Printed is one vector per line, or with "
                    + "--rerank one score and text per line, the best first.",
        })
final class EmbedCommand implements Callable<Integer> {
    /** Below errors about texts. */
    static final String HINT = "  (on the command line: --rerank for rerankers, --pooling for how tokens become a vector, "
            + "-b for longer texts, --truncate to cut them)";

    /** Texts that are evaluated before the first of them is printed. */
    private static final int AT_A_TIME = 512;

    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Parameters(paramLabel = "FILE", arity = "0..*", description = "Texts; standard input without any, or where it is '-'.")
    private List<Path> files = List.of();

    @Option(names = {"-p", "--prompt"}, paramLabel = "TEXT", description = "One text; \\n is a line's end. May be repeated.")
    private List<String> prompts = List.of();

    @Option(names = "--whole", description = "Each file is one text.")
    private boolean whole;

    @Option(names = "--pooling", paramLabel = "none|mean|cls|last",
            description = "How tokens' vectors become one. Without it: as the model says.")
    private Pooling pooling;

    @Option(names = "--normalize", paramLabel = "none|max|taxicab|euclidean|P", converter = Norm.class,
            description = "What a vector is divided by: its largest value (then 32760 is the largest), or its p-norm. Default: euclidean.")
    private Normalization normalization = Normalization.EUCLIDEAN;

    @Option(names = "--causal", negatable = true, description = "Whether tokens of a decoder see those before them only. Without it: as the model does.")
    private Boolean causal;

    @Option(names = "--truncate", description = "Cut the end of a text that is too long; it is refused without this.")
    private boolean truncate;

    @Option(names = "--rerank", paramLabel = "QUERY", description = "Rank the texts as answers to this.")
    private String query;

    @Option(names = "--json", description = "As JSON.")
    private boolean json;

    @Option(names = {"-b", "--batch-size"}, paramLabel = "N",
            description = "Most tokens per native call, and of a text. Without it: the model's context, at most 2048.")
    private int batchSize;

    @Option(names = {"-t", "--threads"}, paramLabel = "N", description = "CPU threads. Without it: one per core.")
    private int threads;

    @Mixin
    private ModelMixin model;

    @Override
    public Integer call() throws IOException {
        var command = spec.commandLine();
        if (query != null && pooling != null) {
            throw new ParameterException(command, "--rerank asks for scores, --pooling for vectors");
        }
        if (pooling == Pooling.RANK) {
            throw new ParameterException(command, "--pooling rank is --rerank QUERY");
        }
        if (whole && files.isEmpty()) {
            throw new ParameterException(command, "--whole needs files");
        }
        EmbedderOptions options;
        try {
            options = EmbedderOptions.defaults().withPooling(pooling).withNormalization(normalization).withBatchSize(batchSize)
                    .withTruncation(truncate).withCausal(causal).withThreads(threads);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(command, e.getMessage());
        }
        var texts = texts();
        if (texts.isEmpty()) {
            throw new ParameterException(command, "there is no text");
        }
        try (var loaded = model.load(main)) {
            if (query != null) {
                rank(loaded, options, texts);
            } else {
                embed(loaded, options, texts);
            }
        }
        return main.interrupts().raised() ? Main.INTERRUPTED : Main.OK;
    }

    /** @param place where it is from, for errors: {@code FILE:LINE} */
    private record Text(String place, String text) {
    }

    private List<Text> texts() throws IOException {
        var texts = new ArrayList<Text>();
        prompts.forEach(prompt -> texts.add(new Text("-p", prompt.replace("\\n", "\n"))));
        var sources = files.isEmpty() && prompts.isEmpty() ? List.of(Path.of("-")) : files;
        for (var file : sources) {
            boolean standard = file.toString().equals("-");
            var text = standard ? main.shell().readAll() : Sources.read(file);
            var name = standard ? "standard input" : file.toString();
            if (whole) {
                texts.add(new Text(name, text));
                continue;
            }
            int number = 0;
            for (var lines = text.lines().iterator(); lines.hasNext();) {
                var line = lines.next();
                number++;
                if (!line.isBlank()) {
                    texts.add(new Text(name + ":" + number, line));
                }
            }
        }
        return texts;
    }

    /** Runs it for some of the texts, and says which of them is wrong where one is. */
    private <T> T evaluated(List<Text> some, Function<List<String>, T> evaluation) {
        try {
            return evaluation.apply(some.stream().map(Text::text).toList());
        } catch (EmbeddingException e) {
            throw e.index() < 0 ? e : new CommandException(some.get(e.index()).place() + ": the text " + e.problem() + "\n" + HINT);
        }
    }

    private void embed(Model loaded, EmbedderOptions options, List<Text> texts) {
        try (var embedder = Embedder.open(loaded, options)) {
            boolean pooled = embedder.pooling() != Pooling.NONE;
            var data = new ArrayList<Map<String, Object>>();
            for (int from = 0; from < texts.size() && !main.interrupts().raised(); from += AT_A_TIME) {
                var some = texts.subList(from, Math.min(texts.size(), from + AT_A_TIME));
                var vectors = pooled ? evaluated(some, embedder::embed) : null;
                for (int i = 0; i < some.size() && !main.interrupts().raised(); i++) {
                    var each = pooled ? new float[][] {vectors[i]} : evaluated(List.of(some.get(i)),
                            text -> embedder.embedTokens(text.getFirst()));
                    if (json) {
                        var entry = new LinkedHashMap<String, Object>();
                        entry.put("index", from + i);
                        entry.put("embedding", pooled ? each[0] : each);
                        data.add(entry);
                    } else {
                        Arrays.stream(each).forEach(vector -> main.shell().println(line(vector)));
                    }
                }
            }
            if (json && !main.interrupts().raised()) {
                var document = new LinkedHashMap<String, Object>();
                document.put("model", model.path().toString());
                document.put("pooling", embedder.pooling().toString().toLowerCase(Locale.ROOT));
                document.put("size", embedder.size());
                document.put("data", data);
                main.shell().println(Json.write(document));
            }
        }
    }

    /** Digits enough to tell floats of length 1 from each other; fewer where values are as large as integers. */
    private String line(float[] vector) {
        var line = new StringBuilder();
        for (float value : vector) {
            line.append(line.isEmpty() ? "" : " ").append(String.format(Locale.ROOT, normalization.p() == 0 ? "%.0f" : "%.7f", value));
        }
        return line.toString();
    }

    private void rank(Model loaded, EmbedderOptions options, List<Text> texts) {
        try (var reranker = Reranker.open(loaded, options)) {
            var ranked = evaluated(texts, documents -> reranker.rank(query, documents));
            if (!json) {
                ranked.forEach(each -> main.shell().println(
                        String.format(Locale.ROOT, "%.4f\t%s", each.score(), InspectCommand.escape(texts.get(each.index()).text()))));
                return;
            }
            var document = new LinkedHashMap<String, Object>();
            document.put("model", model.path().toString());
            document.put("query", query);
            document.put("ranked", ranked.stream().map(each -> {
                var entry = new LinkedHashMap<String, Object>();
                entry.put("index", each.index());
                entry.put("score", each.score());
                entry.put("text", texts.get(each.index()).text());
                return entry;
            }).toList());
            main.shell().println(Json.write(document));
        }
    }

    static final class Norm implements ITypeConverter<Normalization> {
        @Override
        public Normalization convert(String name) {
            return switch (name.toLowerCase(Locale.ROOT)) {
                case "none" -> Normalization.NONE;
                case "max" -> Normalization.MAX_ABSOLUTE;
                case "taxicab" -> Normalization.TAXICAB;
                case "euclidean" -> Normalization.EUCLIDEAN;
                default -> {
                    try {
                        yield new Normalization(Integer.parseInt(name));
                    } catch (IllegalArgumentException e) {
                        throw new TypeConversionException("'" + name
                                + "' is no normalization; try none, max, taxicab, euclidean or a number P");
                    }
                }
            };
        }
    }
}
