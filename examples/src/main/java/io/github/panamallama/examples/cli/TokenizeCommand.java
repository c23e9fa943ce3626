package io.github.panamallama.examples.cli;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;

/** Shows how a model cuts a text into tokens. Loads the vocabulary alone. */
@Command(name = "tokenize", description = "Show the tokens of a text, one per line: id, tab, piece.")
final class TokenizeCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Mixin
    private ModelMixin model;

    @Parameters(paramLabel = "FILE", arity = "0..1", description = "The text; standard input without it.")
    private Path file;

    @Option(names = "--special", description = "Read the names of special tokens in the text as those tokens.")
    private boolean special;

    @Option(names = "--no-bos", description = "Leave out the tokens that the model puts around every text.")
    private boolean bare;

    @Option(names = "--count", description = "Print the number of tokens alone.")
    private boolean count;

    @Option(names = "--json", description = "As JSON.")
    private boolean json;

    @Override
    public Integer call() throws Exception {
        var text = file == null ? main.shell().readAll() : Sources.read(file);
        try (var loaded = model.load(main, model.options(main).withVocabularyOnly(true))) {
            var vocabulary = loaded.vocabulary();
            var tokens = vocabulary.tokenize(text, !bare, special);
            if (json) {
                var list = new ArrayList<Map<String, Object>>();
                var decoder = vocabulary.decoder(true);
                for (int token : tokens) {
                    var entry = new LinkedHashMap<String, Object>();
                    entry.put("id", token);
                    entry.put("piece", vocabulary.text(token));
                    entry.put("text", decoder.push(token));
                    list.add(entry);
                }
                var document = new LinkedHashMap<String, Object>();
                document.put("n_tokens", tokens.length);
                document.put("tokens", list);
                main.shell().println(Json.write(document));
            } else if (count) {
                main.shell().println(Integer.toString(tokens.length));
            } else {
                var lines = new StringBuilder();
                for (int token : tokens) {
                    lines.append(token).append('\t').append(InspectCommand.escape(vocabulary.text(token))).append('\n');
                }
                main.shell().print(lines.toString());
            }
        }
        return Main.OK;
    }
}
